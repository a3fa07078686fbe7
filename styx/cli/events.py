"""`styx events`, `styx explain`."""

import sys
from datetime import datetime
from typing import Final

import click

from styx.cli import names, options, render, session, talk
from styx.cli.render import Column
from styx.sdk.client import Styx
from styx.wire import http as wire


def _clock(at: datetime) -> str:
    return f"{at.astimezone():%Y-%m-%d %H:%M:%S}"


def _why(row: wire.HistoryView) -> str:
    return ": ".join(filter(None, (row.reason, row.detail)))


_HISTORY: Final = (
    Column("AT", lambda row: _clock(row.at)),
    Column("WHAT", lambda row: render.state(row.what), status=lambda row: row.what),
    Column("ATTEMPT", lambda row: str(row.attempt or "–"), right=True),
    Column("AGENT", lambda row: row.agent or "–"),
    Column("WHY", _why, elastic=True),
)
_HINDRANCES: Final = (
    Column("ABOUT", lambda row: row.subject or "–"),
    Column("WHY NOT", lambda row: row.message),
)


@click.command()
@click.argument("reference", metavar="[ID]", required=False, shell_complete=options.complete_tasks)
@click.option("-f", "--follow", "following", is_flag=True, help="Go on with what happens next.")
@options.output
def events(reference: str | None, following: bool, output: str) -> None:
    """What happened to a task; without ID every change of anything, as it happens."""
    with session.connect() as styx:
        if reference is None:
            _follow(styx, set(), output)
            return
        found = names.find(styx, reference)
        if isinstance(found, wire.TaskDetail):
            history = styx.history(found.id)
            render.rows(history, _HISTORY, output, name=lambda row: row.what)
        if following:
            _follow(styx, {found.id}, output)


@click.command()
@options.reference
@options.output
def explain(reference: str, output: str) -> None:
    """Why a task is not running yet: every agent with its reason. Or what happened to it."""
    with session.connect() as styx:
        found = styx.explain(reference)
    if output not in {"table", "wide"}:
        render.value(found, output)
        return
    render.line(f"{found.name}: {found.summary}")
    if found.hindrances:
        for line in render.table(found.hindrances, _HINDRANCES):
            render.line(f"  {line}")
    if found.history and not found.hindrances:
        for line in render.table(found.history, _HISTORY):
            render.line(f"  {line}")
    if found.hint:
        talk.hint(found.hint)


def _follow(styx: Styx, only: set[str], output: str) -> None:
    """Print each change; of a job also those of its tasks."""
    colours = talk.coloured(sys.stdout)
    for event in styx.events():
        if event.kind == "reset":
            talk.warn("some changes were missed")
        elif not only or only & {event.object_id, event.job_id}:
            _print(event, output, colours=colours)


def _print(event: wire.FeedEvent, output: str, *, colours: bool) -> None:
    if output == "name":
        render.line(event.object_id)
    elif output not in {"table", "wide"}:
        render.value(event, "jsonl" if output == "json" else output)
    else:
        state = render.state(event.status, event.reason)
        where = f" on {event.agent}" if event.agent else ""
        shown = render.paint(state, event.status) if colours else state
        render.line(f"{_clock(event.at)}  {event.kind:<5}  {event.name}  {shown}{where}")
