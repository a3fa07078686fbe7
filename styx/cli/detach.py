"""Ctrl-C while following: the first leaves the work alone and says how to come back, a second soon after
cancels it.
"""

import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Final

from styx.cli import talk
from styx.errors import StyxError

CANCEL_WITHIN_S: Final = 2.0
left: Final = threading.Event()  # nothing more is copied to our output


class Detached(StyxError):
    """The user left; the work may go on."""


@contextmanager
def on_interrupt(reference: str, cancel: Callable[[], object]) -> Generator[None]:
    """`reference` names the task or job in what is said. Raises: Detached, after a Ctrl-C."""
    try:
        yield
    except KeyboardInterrupt:
        _leave(reference, cancel)
        raise Detached(f"detached from {reference}") from None


def _leave(reference: str, cancel: Callable[[], object]) -> None:
    try:
        left.set()
        talk.say(
            f"\ndetached; it goes on.  styx logs -f {reference} · styx cancel {reference}"
            f"  (Ctrl-C again within {CANCEL_WITHIN_S:.0f} s cancels it)"
        )
        time.sleep(CANCEL_WITHIN_S)
    except KeyboardInterrupt:
        cancel()
        talk.say(f"cancelling {reference}")
