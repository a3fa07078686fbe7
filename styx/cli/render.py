"""Data on stdout: tables for people, JSON, JSON lines, YAML and names for scripts.

State is told by shape as well as by colour. Not a terminal: no colour, no shortening.
"""

import itertools
import os
import select
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import click
import msgspec

from styx.cli import talk
from styx.errors import StyxError
from styx.wire import http as wire

FORMATS: Final = ("table", "wide", "json", "jsonl", "yaml", "name")
GAP: Final = "   "
ID_CHARACTERS: Final = 13  # the millisecond of a UUIDv7: shorter prefixes name many tasks

_SHAPES: Final = {
    "blocked": ("○", "bright_black"),
    "queued": ("○", "yellow"),
    "provisioning": ("○", "yellow"),
    "assigned": ("●", "cyan"),
    "running": ("●", "blue"),
    "cancelling": ("●", "yellow"),
    "succeeded": ("✓", "green"),
    "failed": ("■", "red"),
    "lost": ("■", "magenta"),
    "cancelled": ("✗", "bright_black"),
    "skipped": ("✗", "bright_black"),
    "joining": ("○", "yellow"),
    "ready": ("●", "green"),
    "suspect": ("○", "yellow"),
    "draining": ("○", "cyan"),
    "disconnected": ("■", "red"),
    "gone": ("✗", "bright_black"),
    "active": ("●", "green"),
    "paused": ("○", "yellow"),
    "over": ("✗", "bright_black"),
}
_PLAIN: Final = str.maketrans("○●✓■✗–·…×", "o*+#x--.x")  # for a terminal that is not UTF-8


class Column(msgspec.Struct, frozen=True):
    """`text` of a row; `status` names the row's state, which colours the cell."""

    title: str
    text: Callable[[Any], str]
    status: Callable[[Any], str] | None = None
    wide: bool = False  # only with -o wide
    right: bool = False
    elastic: bool = False  # shortened when the terminal is too narrow
    is_id: bool = False  # shortened to the prefix that tells it from the others


def rows(
    items: Iterable[msgspec.Struct],
    columns: Sequence[Column],
    output: str,
    *,
    empty: str = "",
    name: Callable[[Any], str] = lambda row: row.id,
) -> None:
    """Print a list. `empty` is said on stderr when a table has no rows."""
    match output:
        case "jsonl":
            for item in items:
                _write(_json(item))
        case "name":
            for item in items:
                _write(name(item))
        case "json" | "yaml":
            value(list(items), output)
        case _:
            found = list(items)
            if found:
                for line in table(found, columns, wide=output == "wide"):
                    _write(line)
            elif empty:
                talk.say(empty)
    flush()


def value(item: object, output: str) -> None:
    """Print one document, as JSON unless `output` says otherwise."""
    match output:
        case "yaml":
            _write(msgspec.yaml.encode(item).decode().rstrip("\n"))
        case "jsonl":
            _write(_json(item))
        case _:
            _write(msgspec.json.format(msgspec.json.encode(item), indent=2).decode())
    flush()


def line(text: str) -> None:
    _write(text)
    flush()


def table(items: Sequence[Any], columns: Sequence[Column], *, wide: bool = False) -> Iterable[str]:
    """The header and a line for each item."""
    shown = [column for column in columns if wide or not column.wide]
    cells = [[_printable(column.text(item)) for column in shown] for item in items]
    for n, column in enumerate(shown):
        if column.is_id and not wide:
            short = short_ids([row[n] for row in cells])
            for row in cells:
                row[n] = short[row[n]]
    widths = [
        max(len(column.title), *(len(row[n]) for row in cells)) for n, column in enumerate(shown)
    ]
    if not wide and sys.stdout.isatty():
        # A pseudo-terminal may say 0.
        fit(shown, widths, room=os.get_terminal_size(1).columns or 80)
    yield joined([column.title for column in shown], widths, shown).rstrip()
    colours = talk.coloured(sys.stdout)
    for item, texts in zip(items, cells, strict=True):
        states = [column.status(item) if column.status else "" for column in shown]
        yield joined(texts, widths, shown, states if colours else ()).rstrip()


def state(word: str, more: str = "") -> str:
    """`● running`, `■ failed (exit 1)`."""
    shape = _SHAPES.get(word, ("·", ""))[0]
    return f"{shape} {word} ({more})" if more else f"{shape} {word}"


def ending(task: wire.TaskView) -> str:
    """`exit 1`, `signal 9, oom`, `need_unmet`, or nothing."""
    words = [f"exit {task.exit_code}"] if task.exit_code else []
    words += [f"signal {task.signal}"] if task.signal else []
    plain = {"", "exit_code", "signal", "cancelled"}
    return ", ".join([*words, *({task.reason} - plain)])


def paint(text: str, word: str) -> str:
    """The text in the colour of a state."""
    colour = _SHAPES.get(word, ("", ""))[1]
    return click.style(text, fg=colour) if colour else text


def duration(seconds: float) -> str:
    """`14ms`, `1.4s`, `12s`, `31m`, `2h 14m`, `3d 4h`."""
    if seconds < 0.9995:
        return f"{max(0.0, seconds) * 1_000:.0f}ms"
    if seconds < 9.95:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    minutes, hours, days = whole // 60, whole // 3_600, whole // 86_400
    if minutes < 60:
        return f"{minutes}m"
    if hours < 24:
        return f"{hours}h {minutes % 60}m"
    return f"{days}d {hours % 24}h"


def age(then: datetime | None, now: datetime | None = None) -> str:
    return "–" if then is None else duration(((now or datetime.now(UTC)) - then).total_seconds())


def number(amount: float) -> str:
    """`4`, `0.5`: without a needless point."""
    return f"{amount:,.3f}".rstrip("0").rstrip(".")


def labels(pairs: Mapping[str, str]) -> str:
    return ",".join(f"{key}={value}" for key, value in pairs.items()) or "–"


def short_ids(ids: Sequence[str]) -> dict[str, str]:
    """Each id's shortest prefix that no other id in the list shares, of at least the millisecond."""
    ordered = sorted(set(ids))
    shared = [_shared(a, b) for a, b in itertools.pairwise(ordered)]
    return {
        id_: id_[: max(ID_CHARACTERS, before + 1, after + 1)]
        for id_, before, after in zip(ordered, [-1, *shared], [*shared, -1], strict=True)
    }


def flush() -> None:
    """Raises: PipeClosed; StyxError, when the output cannot be written."""
    try:
        sys.stdout.flush()
    except OSError as error:
        raise _unwritable(error) from error


def raw(data: bytes, file_descriptor: int = 1) -> None:
    """Bytes as they are. Raises: as `flush`."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(file_descriptor, view) :]
        except BlockingIOError:  # whoever shares the descriptor made it so
            select.select([], [file_descriptor], [])
        except OSError as error:
            raise _unwritable(error) from error


def _write(text: str) -> None:
    if not (sys.stdout.encoding or "").lower().startswith("utf"):
        text = text.translate(_PLAIN).encode("ascii", "replace").decode()
    try:
        sys.stdout.write(text + "\n")
    except OSError as error:
        raise _unwritable(error) from error


def _unwritable(error: OSError) -> StyxError:
    # What is left in the buffer must not fail again when the interpreter ends.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    if isinstance(error, BrokenPipeError):
        return talk.PipeClosed("the reader of the output went away")
    return StyxError(f"cannot write the output: {error.strerror}")


def _printable(text: str) -> str:
    """Somebody's command must not move the cursor of whoever lists it."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


def _json(item: object) -> str:
    return msgspec.json.encode(item).decode()


def _shared(a: str, b: str) -> int:
    return next((n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), len(a))


def fit(columns: Sequence[Column], widths: list[int], *, room: int) -> None:
    """Shrink the elastic columns until a row has room."""
    over = sum(widths) + len(GAP) * (len(widths) - 1) - room
    for n, column in enumerate(columns):
        if column.elastic and over > 0:
            cut = min(over, widths[n] - max(8, len(column.title)))
            if cut > 0:
                widths[n] -= cut
                over -= cut


def joined(
    cells: Sequence[str],
    widths: Sequence[int],
    columns: Sequence[Column],
    states: Sequence[str] = (),
) -> str:
    padded: list[str] = []
    for n, (cell, width, column) in enumerate(zip(cells, widths, columns, strict=True)):
        text = cell if len(cell) <= width else cell[: width - 1] + "…"
        text = text.rjust(width) if column.right else text.ljust(width)
        padded.append(paint(text, states[n]) if states and states[n] else text)
    return GAP.join(padded)
