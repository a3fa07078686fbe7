"""How many agents may come in at once, and how many log bytes each may have under way.

All of it is counted, so that a thousand agents which come back together find a server that answers.
"""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Final

from styx.wire import agent as wire

HANDSHAKES_PER_S: Final = 200  # each is a commit, and a sync behind it (P-5)
UNREADY_MAX: Final = 256  # connections that have not said who they are (S-24)
CREDIT_SHARED_BYTES: Final = 128 << 20  # what agents may have under way beyond their least (P-4)
CREDIT_LEAST_BYTES: Final = 2 * wire.MAX_LOG_BYTES  # moves on: with 1,024 agents 128 MiB more


class Doorstep:
    """Connections whose agent has yet to introduce itself: bounded, and who finds no room is sent away."""

    def __init__(self) -> None:
        self._waiting = 0

    @property
    def room(self) -> bool:
        return self._waiting < UNREADY_MAX

    @contextmanager
    def stand(self) -> Generator[bool]:
        """Yields whether there is room to wait on it."""
        room = self.room
        self._waiting += room
        try:
            yield room
        finally:
            self._waiting -= room


class Handshakes:
    """So many in each second; the others are told when to come again, so many in each second too."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._second = 0
        self._come = 0

    def wait_s(self) -> float:
        """How long one more has to wait; 0 is not at all."""
        second = int(self._monotonic())
        if second != self._second:
            self._second, self._come = second, 0
        self._come += 1
        return 0.0 if self._come <= HANDSHAKES_PER_S else self._come / HANDSHAKES_PER_S


class Credit:
    """Log bytes that sessions may send before they are stored: what lies in memory is bounded by their sum."""

    def __init__(self) -> None:
        self._shared = CREDIT_SHARED_BYTES

    def lend(self) -> int:
        """A session's share, to be taken back with it: large while few are connected, never too small to move."""
        extra = min(wire.LOG_CREDIT_BYTES - CREDIT_LEAST_BYTES, self._shared // 8)
        self._shared -= extra
        return CREDIT_LEAST_BYTES + extra

    def take_back(self, lent: int) -> None:
        self._shared += lent - CREDIT_LEAST_BYTES
