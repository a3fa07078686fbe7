"""`styx submit`: a file of tasks."""

import contextlib
from collections.abc import Generator, Sequence
from datetime import UTC, datetime

import click

from styx.cli import (
    exits,
    files,
    follow,
    local,
    options,
    parcels,
    plan,
    render,
    schedules,
    session,
    talk,
    values,
)
from styx.cli.files import Loaded
from styx.core.schedule import stamp
from styx.errors import InvalidSpec
from styx.file.job import Job
from styx.sdk.client import Styx
from styx.wire import http as wire


@click.command()
@click.argument("file", type=click.Path(allow_dash=True))
@click.option("--wait", is_flag=True, help="Wait for the job, exit with its code.")
@click.option("--follow", "follow_tasks", is_flag=True, help="Also print what its tasks print.")
@click.option("--plan", "planned", is_flag=True, help="Only say what would become of it.")
@click.option("--no-cache", is_flag=True, help="Run all of it, whatever succeeded before.")
@click.option("--idempotency-key", help="Submitting the same key again gives the same job.")
@click.option("-e", "--env", type=options.PAIR, multiple=True, help="A variable of every task.")
@options.secret
@click.option("--once", is_flag=True, help="Submit it now, and leave its schedule out.")
@options.sky
@options.output
def submit(
    file: str,
    wait: bool,
    follow_tasks: bool,
    planned: bool,
    no_cache: bool,
    idempotency_key: str | None,
    env: tuple[tuple[str, str], ...],
    secrets: tuple[str, ...],
    once: bool,
    sky: bool,
    output: str,
) -> int:
    """Submit FILE (YAML, TOML or JSON; - is standard input) and print the job's id.

    A file holds one task, or a job with `tasks`; docs/task-files.md has every field. One with `schedule`
    creates or replaces the schedule of its name, which is printed with its next due times.
    """
    loaded = files.load(file, env=dict(env), sky=sky, to_run=not planned)
    if loaded.sky:  # its scripts run otherwise than ours
        talk.say(f"{file} is read as a file of SkyPilot's")
    session.warn(loaded.warnings)
    if loaded.job.is_scheduled and not once and not planned:
        if wait or follow_tasks or idempotency_key:
            raise click.UsageError("a schedule makes its jobs later: give --once for one now")
        return _schedule(loaded, secrets, output)
    loaded = loaded._replace(job=loaded.job.at_once(stamp(datetime.now(UTC))))
    if planned:
        with session.connect() as styx:
            _settle(styx, loaded, secrets, sent=False)
            with _located(loaded.job):
                return plan.show(styx, loaded.job.body, output, no_cache=no_cache)
    with local.connect_or_start() as styx:
        _settle(styx, loaded, secrets, sent=True)
        job = _submit(styx, loaded.job, idempotency_key or "", no_cache=no_cache)
        session.warn(job.warnings)
        if follow_tasks:
            return follow.job(styx, job.job_id)
        if output in {"table", "wide", "name"}:
            render.line(job.job_id)
        else:
            render.value(job, output)
        if not wait:
            return exits.FINE
        styx.wait_job(job.job_id)
        return follow.exit_of_job(styx, job.job_id)


def _schedule(loaded: Loaded, secrets: Sequence[str], output: str) -> int:
    name = loaded.job.check().name
    with local.connect_or_start() as styx:
        _settle(styx, loaded, secrets, sent=True)
        with _located(loaded.job):
            found = styx.put_schedule(name, loaded.job.body)
    if output in {"table", "wide"}:
        for line in schedules.put_lines(found):
            render.line(line)
    elif output == "name":
        render.line(found.name)
    else:
        render.value(found, output)
    return exits.FINE


def _submit(styx: Styx, given: Job, key: str, *, no_cache: bool) -> wire.JobSubmitted:
    with _located(given):
        return styx.submit_job(given.body, key=key, no_cache=no_cache)


def _settle(styx: Styx, loaded: Loaded, secrets: Sequence[str], *, sent: bool) -> None:
    """Where its tasks run, with which files of this machine, and with which secrets."""
    if secrets:
        loaded.job.with_secrets(values.secrets(styx, secrets, sent=sent))
    parcels.fill(styx, loaded, sent=sent)
    if session.is_local(styx):
        parcels.stand_here(loaded)


@contextlib.contextmanager
def _located(given: Job) -> Generator[None]:
    """What the server refuses is told with its place in the file."""
    try:
        yield
    except InvalidSpec as error:
        raise given.refused(error) from error
