"""A time of day that only passes: no step of the machine's clock changes how long anything takes."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

BEGINNING: Final = datetime.min.replace(tzinfo=UTC)
_BOOT_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def boot_s() -> float:
    """Seconds since the machine booted: never jumps, and goes on while the machine is suspended."""
    return time.clock_gettime(_BOOT_CLOCK)


class Steady:
    """Begins at the machine's time of day and goes on by `elapsed` (seconds that never jump).

    It does not begin before `since`, the newest moment that others have written down: their clock may
    have been ahead, and a backoff of ten seconds is to take ten seconds all the same.
    """

    def __init__(
        self,
        wall: Callable[[], datetime],
        elapsed: Callable[[], float],
        since: datetime = BEGINNING,
    ) -> None:
        self._elapsed = elapsed
        self._began_s = elapsed()
        self._began = max(wall(), since)

    def __call__(self) -> datetime:
        return self._began + timedelta(seconds=self._elapsed() - self._began_s)
