"""`styx audit`."""

import itertools
from collections.abc import Iterator
from typing import Final

import click

from styx.cli import options, render, session, talk
from styx.cli.render import Column
from styx.core.audit import Link
from styx.errors import Conflict
from styx.wire import http as wire

COLUMNS: Final = (
    Column("SEQ", lambda row: str(row.seq), right=True),
    Column("AT", lambda row: f"{row.at.astimezone():%Y-%m-%d %H:%M:%S}"),
    Column("WHO", lambda row: row.actor or "–", elastic=True),
    Column("WHAT", lambda row: row.action),
    Column("OBJECT", lambda row: row.object_id or "–"),
    Column("DETAIL", lambda row: row.detail, elastic=True),
    Column("HASH", lambda row: row.hash, wide=True),
)


@click.command()
@click.option("--since", type=click.IntRange(0), default=0, help="Only after this number.")
@click.option("--limit", type=click.IntRange(1), help="At most so many.")
@click.option("--verify", is_flag=True, help="Check the chain instead; 1 if it is broken.")
@options.output
def audit(since: int, limit: int | None, verify: bool, output: str) -> None:
    """Who asked for what, the oldest first: submits, cancels, drains, agents that come and go.

    `-o jsonl` exports it. Each entry holds the hash of the one before, so nothing between two of them can
    be changed, dropped or added unseen.
    """
    with session.connect() as styx:
        found = itertools.islice(styx.audit(since=since), limit)
        if verify:
            _verify(found)
        else:
            render.rows(list(found), COLUMNS, output, name=lambda row: str(row.seq))


def _verify(found: Iterator[wire.AuditView]) -> None:
    """Raises: Conflict, for the first that is not as it was written."""
    before: Link | None = None
    for row in found:
        link = Link(row.seq, row.prev, row.text, row.hash)
        if not link.holds or (before and not link.follows(before)):
            raise Conflict(f"the audit trail is broken at {row.seq}")
        before = link
    if before is None:
        talk.say("the audit trail is empty")
    else:
        talk.say(f"the audit trail is whole up to {before.seq}, {before.hash}")
