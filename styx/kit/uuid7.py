"""UUIDv7 as text: 48 bits of milliseconds, then randomness that only grows within one millisecond.

Ids of one process are unique and in the order they were made, even in the same millisecond and when
the clock steps back; those of two processes share 74 random bits. The text sorts as the id does.

Source: RFC 9562, sections 5.7 and 6.2, method 2 (monotonic random).
"""

import secrets
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Final, overload

_HEAD_BITS: Final = 26  # rand_a and the top of rand_b: drawn anew each millisecond
_COUNTER_BITS: Final = 48  # the last text group; its start leaves the top bit free for counting


class _Source:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ms = 0
        self._head = ""
        self._counter = 0

    def take(self, n: int) -> tuple[str, int]:
        """The shared beginning and the first of `n` consecutive counters."""
        ms = time.time_ns() // 1_000_000
        with self._lock:
            if ms > self._ms:
                self._ms = ms
                self._head = _head(ms, secrets.randbits(_HEAD_BITS))
                self._counter = secrets.randbits(_COUNTER_BITS - 1)
            first = self._counter
            self._counter += n
            return self._head, first


def _head(ms: int, random: int) -> str:
    time_text = f"{ms:012x}"
    rand_a = 0x7000 | random >> 14
    rand_b = 0x8000 | random & 0x3FFF
    return f"{time_text[:8]}-{time_text[8:]}-{rand_a:04x}-{rand_b:04x}-"


_source: Final = _Source()


def new() -> str:
    head, counter = _source.take(1)
    return f"{head}{counter:012x}"


def many(n: int) -> list[str]:
    """`n` ids at once, growing: one lock and one clock reading for all of them."""
    return list(run(n))


def run(n: int) -> "Run":
    """As `many`, where a list of them would be too long."""
    head, first = _source.take(n)
    return Run(head, range(first, first + n))


class Run(Sequence[str]):
    """Ids that count up, each worded when it is asked for."""

    __slots__ = ("_counters", "_head")

    def __init__(self, head: str, counters: range) -> None:
        self._head = head
        self._counters = counters

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> "Run": ...
    def __getitem__(self, index: int | slice) -> "str | Run":
        if isinstance(index, slice):
            return Run(self._head, self._counters[index])
        return f"{self._head}{self._counters[index]:012x}"

    def __iter__(self) -> Iterator[str]:
        head = self._head
        return (f"{head}{counter:012x}" for counter in self._counters)

    def __len__(self) -> int:
        return len(self._counters)
