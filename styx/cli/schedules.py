"""`styx schedules`."""

from collections.abc import Iterable
from datetime import datetime
from typing import Final

import click

from styx.cli import exits, options, render, session, talk, watch
from styx.cli.render import Column
from styx.wire import http as wire


def _moment(then: datetime | None) -> str:
    return "–" if then is None else f"{then:%Y-%m-%d %H:%M:%S}"


def _last(row: wire.ScheduleView) -> str:
    """`2026-12-01 02:00:00`, or why there was no job for a later time."""
    last, passed = row.last_due_at, row.passed_at
    if passed and (last is None or passed > last):
        return f"{_moment(passed)} ({row.passed_why.partition(':')[0]})"
    return _moment(last)


COLUMNS: Final = (
    Column("NAME", lambda row: row.name, elastic=True),
    Column("SCHEDULE", lambda row: row.cron),
    Column("ZONE", lambda row: row.timezone),
    Column("NEXT (UTC)", lambda row: _moment(row.due_at)),
    Column("LAST (UTC)", _last),
    Column("STATE", lambda row: render.state(row.status), status=lambda row: row.status),
    Column("MISSED", lambda row: row.missed, wide=True),
    Column("OVERLAP", lambda row: row.overlap, wide=True),
    Column("LAST JOB", lambda row: row.last_job_id or "–", wide=True),
    Column("ID", lambda row: row.id, wide=True),
)
_SCHEDULES: Final = watch.List(
    COLUMNS,
    "no schedules; `styx submit` a file with `schedule` to make one",
    name=lambda row: row.name,
)
_NAME: Final = click.argument("name")


@click.group(invoke_without_command=True, no_args_is_help=False)
@options.limit
@options.output
@click.pass_context
def schedules(context: click.Context, limit: int, output: str) -> None:
    """List the schedules, or do something with one.

    `styx submit` of a file with `schedule` creates or replaces the one of its name.
    """
    if context.invoked_subcommand is None:
        with session.connect() as styx:
            watch.show(lambda: list(styx.schedules(limit=limit)), _SCHEDULES, output)


@schedules.command()
@_NAME
@options.output
def show(name: str, output: str) -> None:
    """Show one: its next due times, its last jobs, and what it submits."""
    with session.connect() as styx:
        found = styx.schedule(name)
    if output in {"table", "wide"}:
        for line in _shown(found):
            render.line(line)
    elif output == "name":
        render.line(found.name)
    else:
        render.value(found, output)


@schedules.command()
@_NAME
def pause(name: str) -> int:
    """Make no jobs of it until it is resumed."""
    with session.connect() as styx:
        return _changed(styx.pause_schedule(name))


@schedules.command()
@_NAME
def resume(name: str) -> int:
    """Go on with its next due time."""
    with session.connect() as styx:
        return _changed(styx.resume_schedule(name))


@schedules.command()
@_NAME
def run(name: str) -> None:
    """Make a job of it now, beside its due times, and print the job's id."""
    with session.connect() as styx:
        render.line(styx.run_schedule(name).job_id)


@schedules.command()
@_NAME
def delete(name: str) -> int:
    """Forget it. The jobs that it made stay, and run on."""
    with session.connect() as styx:
        talk.say(f"{styx.delete_schedule(name).name}: deleted")
    return exits.FINE


def put_lines(found: wire.ScheduleDetail) -> Iterable[str]:
    """What `styx submit` says of a schedule: its name, and when it is due."""
    yield found.name
    yield from upcoming(found.upcoming)


def upcoming(moments: Iterable[datetime]) -> Iterable[str]:
    for nth, moment in enumerate(moments):
        yield f"{'  then' if nth else '  next'} {moment.isoformat(' ')}"


def _changed(row: wire.ScheduleView) -> int:
    following = f", next {_moment(row.due_at)} UTC" if row.due_at else ""
    talk.say(f"{row.name}: {row.status}{following}")
    return exits.FINE


def _shown(found: wire.ScheduleDetail) -> Iterable[str]:
    yield f"{found.name}: {found.cron} {found.timezone}, {found.status}"
    yield f"  missed: {found.missed}, overlap: {found.overlap}"
    yield from upcoming(found.upcoming)
    if found.passed_at:
        yield f"  no job for {_moment(found.passed_at)} UTC: {found.passed_why}"
    for job in found.jobs:
        due = f"{_moment(job.due_at)} UTC" if job.due_at else "asked for"
        yield f"  {job.id}  {render.state(job.status)}  {due}"
