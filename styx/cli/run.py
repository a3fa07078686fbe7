"""`styx run`: submit one command, follow it, exit with its code."""

from pathlib import Path
from typing import Any

import click

from styx.cli import exits, follow, local, options, parcels, plan, render, session, values
from styx.core import fields, units
from styx.core.spec import Priority
from styx.file.document import ENDINGS
from styx.sdk.client import Styx


@click.command(context_settings={"allow_interspersed_args": False})
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option("--name", help="What to call it; from the command unless given.")
@click.option("-e", "--env", type=options.PAIR, multiple=True, help="An environment variable.")
@options.secret
@click.option(
    "--cpus", type=options.text("cores", units.cpus_milli), help="Cores, such as 4 or 0.5."
)
@click.option(
    "--memory", type=options.text("size", units.size_bytes), help="GiB, or a size such as 512MiB."
)
@click.option("--gpus", type=options.text("gpus", units.gpus), help="Such as 1, A100 or A100:8.")
@click.option(
    "--disk", type=options.text("size", units.size_bytes), help="GiB, or a size such as 100GB."
)
@click.option("--arch", type=options.text("arch", units.arch), help="x86_64 or arm64.")
@click.option(
    "--priority", type=click.Choice([str(level) for level in Priority]), help="Within the queue."
)
@click.option("--timeout", type=options.DURATION, help="Of one try, such as 90m.")
@click.option("--queue-timeout", type=options.DURATION, help="Of waiting for room.")
@click.option("--retries", type=click.IntRange(0), help="Further tries after its own failures.")
@click.option("--num-nodes", type=click.IntRange(1), help="A gang of so many agents.")
@click.option(
    "--array", type=click.IntRange(1), help="So many tasks, told apart by STYX_ARRAY_INDEX."
)
@click.option("--label", type=options.PAIR, multiple=True, help="For finding it again.")
@click.option(
    "--workdir",
    type=click.Path(),
    help="The directory to run in: sent along, unless it begins with / or ~ (the agent's), "
    "or the server is this machine's own.",
)
@click.option("--image", help="Of a container to run in, such as python:3.12.")
@click.option("--idempotency-key", help="Running the same key again gives the same task.")
@click.option(
    "-d", "--detach", "detached", is_flag=True, help="Print the task's id and do not follow."
)
@click.option("--cache", is_flag=True, help="Take the success of an earlier task like it.")
@click.option(
    "--no-cache", is_flag=True, help="Of a file: run all of it, whatever succeeded before."
)
@click.option("--plan", "planned", is_flag=True, help="Only say what would become of it.")
def run(
    command: tuple[str, ...],
    detached: bool,
    planned: bool,
    idempotency_key: str | None,
    **given: Any,
) -> int:
    """Run COMMAND [ARG…], print what it prints, exit with its code.

    Options come first: everything from the first word that is no option is the command, verbatim.
    One word that names a YAML, TOML or JSON file is a file of tasks; of the options, it takes --env and --secret.
    """
    if len(command) == 1 and command[0].endswith(ENDINGS) and Path(command[0]).is_file():
        how = {"follow_tasks": not detached, "planned": planned, "no_cache": given.pop("no_cache")}
        return _file(command[0], given, idempotency_key=idempotency_key, **how)
    if planned:
        with session.connect() as styx:
            document = _document(command, given) | _beside(styx, given, sent=False)
            return plan.show(styx, {"tasks": [document]}, "table")
    with local.connect_or_start() as styx:
        key = idempotency_key or ""
        document = _document(command, given) | _beside(styx, given, sent=True)
        if given["array"]:
            job = styx.submit_job({"tasks": [document]}, key=key)
            session.warn(job.warnings)
            return _print_id(job.job_id) if detached else follow.job(styx, job.job_id)
        task = styx.submit(document, key=key)
        session.warn(task.warnings)
        return _print_id(task.task_id) if detached else follow.run(styx, task.task_id)


def _file(path: str, given: dict[str, Any], **how: Any) -> int:
    """`styx submit` is the one that reads files."""
    env, secrets = given.pop("env"), given.pop("secrets")
    if extra := [f"--{name.replace('_', '-')}" for name, value in given.items() if value]:
        raise click.UsageError(f"{extra[0]} belongs into {path}: a file holds its own options")
    context = click.get_current_context()
    group = context.find_root().command
    assert isinstance(group, click.Group), "`run` is a sub-command"
    submit = group.get_command(context, "submit")
    assert submit is not None, "`submit` is one, too"
    # `run` is now: of a file with a schedule, one job.
    return context.invoke(submit, file=path, env=env, secrets=secrets, once=True, **how)


def _place(styx: Styx, workdir: str | None, *, sent: bool) -> dict[str, Any]:
    """Where it runs: on this machine's own server where the user stands, as a shell would."""
    if session.is_local(styx):
        return {"workdir": str(Path(workdir or ".").expanduser().absolute())}
    if workdir is None:
        return {}
    if fields.is_of_agent(workdir):
        return {"workdir": workdir}
    return {"bundle": parcels.of(styx, (Path(workdir).resolve(), "", False), sent=sent)}


def _beside(styx: Styx, given: dict[str, Any], *, sent: bool) -> dict[str, Any]:
    """What depends on the server, or is sent to it."""
    secrets = values.secrets(styx, given["secrets"], sent=sent)
    placed = _place(styx, given["workdir"], sent=sent)
    return placed | {"secrets": secrets} if secrets else placed


def _document(command: tuple[str, ...], given: dict[str, Any]) -> dict[str, Any]:
    resources = {name: given[name] for name in ("cpus", "memory", "gpus", "disk", "arch")}
    document = {
        "name": given["name"],
        "command": command[0],
        "args": list(command[1:]),
        "env": dict(given["env"]),
        "resources": {name: value for name, value in resources.items() if value is not None},
        "labels": dict(given["label"]),
        **{
            name: given[name]
            for name in (
                "priority",
                "timeout",
                "queue_timeout",
                "retries",
                "num_nodes",
                "array",
                "image",
                "cache",
            )
        },
    }
    return {name: value for name, value in document.items() if value not in (None, {}, [], False)}


def _print_id(id_: str) -> int:
    render.line(id_)
    return exits.FINE
