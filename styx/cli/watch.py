"""Lists that stay: on a terminal the screen is drawn anew, elsewhere a line for each row that changed."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import msgspec

from styx.cli import render
from styx.cli.render import Column

EVERY_S: Final = 1.0
_TABLES: Final = frozenset({"table", "wide"})
_CLEAR: Final = "\x1b[H\x1b[2J"


Look = Callable[[], Sequence[Any]]


class List(msgspec.Struct, frozen=True):
    """How a kind of row is printed. `head` words a line above a table."""

    columns: Sequence[Column]
    empty: str
    name: Callable[[Any], str] = lambda row: row.id
    head: Callable[[Sequence[Any]], str] | None = None


def show(look: Look, kind: List, output: str, *, watching: bool = False) -> None:
    """Print what `look` finds, once or for as long as somebody watches."""
    if not watching:
        _print(look(), kind, output)
    elif output in _TABLES and sys.stdout.isatty():
        for found in _looks(look):
            sys.stdout.write(_CLEAR)
            _print(found, kind, output)
    else:
        _print_changes(look, kind, output)


def _print(found: Sequence[Any], kind: List, output: str) -> None:
    if kind.head and output in _TABLES:
        render.line(kind.head(found) + "\n")
    render.rows(found, kind.columns, output, empty=kind.empty, name=kind.name)


def _print_changes(look: Look, kind: List, output: str) -> None:
    """A line for each row that is new or has another status."""
    known: dict[str, str] = {}
    header = True
    for found in _looks(look):
        fresh = [row for row in found if known.get(row.id) != row.status]
        known |= {row.id: row.status for row in fresh}
        if fresh and output in _TABLES:
            header_and_lines = list(render.table(fresh, kind.columns, wide=output == "wide"))
            for line in header_and_lines if header else header_and_lines[1:]:
                render.line(line)
            header = False
        elif fresh:
            render.rows(fresh, (), "name" if output == "name" else "jsonl", name=kind.name)


def _looks(look: Look) -> Iterator[Sequence[Any]]:
    while True:
        yield look()
        time.sleep(EVERY_S)
