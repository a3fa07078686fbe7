"""What Styx says beside the data: sentences on stderr, and whether a terminal listens."""

import os
import sys
import threading
import traceback
from collections.abc import Generator
from contextlib import contextmanager
from types import TracebackType
from typing import IO, Final

import click

from styx import config
from styx.cli import exits
from styx.errors import FieldError, StyxError

MAX_FIELDS: Final = 10  # wrong fields listed; more are counted


class PipeClosed(StyxError):
    """The reader of our output went away, as `head` does: nothing is left to say."""


def say(text: str) -> None:
    _put(text)


def hint(text: str) -> None:
    _put(f"{_styled('hint:', 'cyan')} {text}")


def warn(text: str) -> None:
    _put(f"{_styled('warning:', 'yellow')} {text}")


def error(text: str, *, hint: str = "") -> None:
    _put(f"{_styled('error:', 'red')} {text}")
    if hint:
        _put(f"{_styled('hint:', 'cyan')} {hint}")


def failure(failed: StyxError) -> None:
    """An error as people read it; of an invalid document every wrong field."""
    error(failed.message, hint=failed.hint)
    fields: tuple[FieldError, ...] = getattr(failed, "errors", ())
    if len(fields) > 1:
        for field in fields[:MAX_FIELDS]:
            say(f"  {field.path}: {field.message}")
        if len(fields) > MAX_FIELDS:
            say(f"  … and {len(fields) - MAX_FIELDS} more")


def coloured(stream: IO[str]) -> bool:
    wish = config.colour_wish()
    return stream.isatty() if wish is None else wish


def interactive() -> bool:
    """Somebody watches stderr, so a line may change in place."""
    return sys.stderr.isatty() and not config.terminal_is_dumb()


def status_line(text: str) -> None:
    """Replace the one line that changes in place; "" takes it away. Only for a terminal."""
    sys.stderr.write(f"\r\x1b[K{text}")
    sys.stderr.flush()


@contextmanager
def passing(text: str) -> Generator[None]:
    """A line for as long as something takes; only for a terminal."""
    if not interactive():
        yield
        return
    status_line(text)
    try:
        yield
    finally:
        status_line("")


def catch_bugs() -> None:
    """No traceback reaches a user: a bug is one line and exit 125, with $STYX_DEBUG its trace too."""
    sys.excepthook = _bug
    threading.excepthook = _bug_of_thread


def _bug(
    kind: type[BaseException], value: BaseException | None, trace: TracebackType | None
) -> None:
    if config.wants_traces():
        traceback.print_exception(kind, value, trace)
    error(
        f"a bug in styx: {kind.__name__}: {value}",
        hint="" if config.wants_traces() else "STYX_DEBUG=1 shows where; please report it",
    )
    sys.stderr.flush()
    os._exit(exits.STYX_FAILED)  # also from a thread, and past whatever is half done


def _bug_of_thread(arguments: threading.ExceptHookArgs) -> None:
    _bug(arguments.exc_type, arguments.exc_value, arguments.exc_traceback)


def _styled(text: str, colour: str) -> str:
    return click.style(text, fg=colour, bold=True) if coloured(sys.stderr) else text


def _put(text: str) -> None:
    try:
        sys.stderr.write(text + "\n")
        sys.stderr.flush()
    except OSError:  # nobody listens
        return
