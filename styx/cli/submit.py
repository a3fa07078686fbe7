"""`styx submit`: a file of tasks."""

import click

from styx.cli import exits, files, follow, local, options, parcels, render, session, talk
from styx.errors import InvalidSpec
from styx.file.job import Job
from styx.sdk.client import Styx
from styx.wire import http as wire


@click.command()
@click.argument("file", type=click.Path(allow_dash=True))
@click.option("--wait", is_flag=True, help="Wait for the job, exit with its code.")
@click.option("--follow", "follow_tasks", is_flag=True, help="Also print what its tasks print.")
@click.option("--idempotency-key", help="Submitting the same key again gives the same job.")
@click.option("-e", "--env", type=options.PAIR, multiple=True, help="A variable of every task.")
@options.sky
@options.output
def submit(
    file: str,
    wait: bool,
    follow_tasks: bool,
    idempotency_key: str | None,
    env: tuple[tuple[str, str], ...],
    sky: bool,
    output: str,
) -> int:
    """Submit FILE (YAML, TOML or JSON; - is standard input) and print the job's id.

    A file holds one task, or a job with `tasks`; docs/task-files.md has every field.
    """
    loaded = files.load(file, env=dict(env), sky=sky)
    if loaded.sky:  # its scripts run otherwise than ours
        talk.say(f"{file} is read as a file of SkyPilot's")
    session.warn(loaded.warnings)
    with local.connect_or_start() as styx:
        parcels.send(styx, loaded)
        if session.is_local(styx):
            parcels.stand_here(loaded)
        job = _submit(styx, loaded.job, idempotency_key or "")
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


def _submit(styx: Styx, given: Job, key: str) -> wire.JobSubmitted:
    try:
        return styx.submit_job(given.body, key=key)
    except InvalidSpec as error:
        raise given.refused(error) from error
