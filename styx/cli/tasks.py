"""`styx logs`, `styx wait`, `styx cancel`, `styx retry`."""

import time

import click

from styx.cli import exits, follow, names, options, render, session, talk
from styx.sdk.client import Styx
from styx.wire import http as wire


@click.command()
@options.reference
@click.option("-f", "--follow", "following", is_flag=True, help="Go on until it is over.")
@click.option("--tail", type=click.IntRange(1), help="Begin so many lines before the end.")
@click.option("--stream", type=click.Choice(follow.STREAMS), help="Only this one.")
@click.option("--attempt", type=click.IntRange(1), help="Of this try; the last unless given.")
def logs(
    reference: str, following: bool, tail: int | None, stream: str | None, attempt: int | None
) -> int:
    """Print what a task wrote: its standard output to ours, its standard error to ours.

    Of a job, every line behind its task's name. With -f the exit code is the task's.
    """
    streams = (stream,) if stream else follow.STREAMS
    with session.connect() as styx:
        found = names.find(styx, reference)
        if isinstance(found, wire.JobView):
            return (
                follow.job(styx, found.id) if following else _print_job(styx, found, streams, tail)
            )
        if not following:
            if found.attempt:
                follow.print_so_far(styx, found.id, follow.VERBATIM, streams, attempt, tail)
            return exits.FINE
        follow.copy(styx, found.id, follow.VERBATIM, streams=streams, attempt=attempt, tail=tail)
        ended = styx.wait(found.id)
        follow.tell_end(ended)
        return exits.of_task(ended)


@click.command()
@options.references
@click.option("--timeout", type=options.DURATION, help="Give up after so long, with exit code 124.")
def wait(references: tuple[str, ...], timeout: float | None) -> int:
    """Wait until tasks or jobs are over; exit with their code, of several the highest."""
    deadline = None if timeout is None else time.monotonic() + timeout
    codes = [exits.FINE]
    with session.connect() as styx:
        for reference in names.expand(styx, references):
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            try:
                codes.append(_wait(styx, reference, left))
            except TimeoutError:
                talk.error(f"{reference} is not over after {timeout:g} s")
                return exits.TIMEOUT
    return max(codes)


@click.command()
@options.references
@click.option("--force", is_flag=True, help="Kill at once, without asking first.")
def cancel(references: tuple[str, ...], force: bool) -> int:
    """Cancel tasks or jobs: what runs is asked to end, and killed if it does not."""
    with session.connect() as styx:
        for reference in names.expand(styx, references):
            found = names.find(styx, reference)
            cancel_it = styx.cancel_job if isinstance(found, wire.JobView) else styx.cancel
            talk.say(f"{reference}: {cancel_it(found.id, force=force).status}")
    return exits.FINE


@click.command()
@options.reference
@options.output
def retry(reference: str, output: str) -> int:
    """Run a finished task again, as a new task; of a job what did not succeed, as a new job.

    Print the new id.
    """
    with session.connect() as styx:
        found = names.find(styx, reference)
        if isinstance(found, wire.JobView):
            submitted = styx.retry_job(found.id)
            new_id = submitted.job_id
        else:
            submitted = styx.retry(found.id)
            new_id = submitted.task_id
    session.warn(submitted.warnings)
    if output in {"table", "wide", "name"}:
        render.line(new_id)
    else:
        render.value(submitted, output)
    return exits.FINE


def _wait(styx: Styx, reference: str, timeout_s: float | None) -> int:
    found = names.find(styx, reference)
    if isinstance(found, wire.JobView):
        styx.wait_job(found.id, timeout_s=timeout_s)
        return follow.exit_of_job(styx, found.id)
    over = styx.wait(found.id, timeout_s=timeout_s)
    follow.tell_end(over)
    return exits.of_task(over)


def _print_job(styx: Styx, job: wire.JobView, streams: tuple[str, ...], tail: int | None) -> int:
    rows = [row for row in styx.tasks(job=job.id) if row.attempt]
    width = max((len(row.name) for row in rows), default=0)
    for row in reversed(rows):  # the list has the newest first
        sink = follow.Prefixed(row.name, width)
        follow.print_so_far(styx, row.id, sink, streams, None, tail)
    return exits.FINE
