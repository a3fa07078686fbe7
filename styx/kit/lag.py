"""How late the event loop runs: what everybody in the process waits beside their own work."""

import asyncio
from collections.abc import Callable
from typing import Final

from styx.kit.tally import Spread

PERIOD_S: Final = 0.05
LATE_S: Final = 0.25  # felt by whoever waits for an answer
BOUNDS_S: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, LATE_S, 0.5, 1.0, 5.0)
RECOVERED_S: Final = 1.0  # on time for so long: one good moment within a flood is no end of it


class Lag:
    """`run` it in the loop that it measures.

    `late_for_s` is how long the loop has been late without a pause, 0.0 while it is on time: who sheds
    load asks it (`if lag.late_for_s > SHED_AFTER_S`). `latest_s` is how late it was just now, and
    `spread` how late it has been so far.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self.latest_s = 0.0
        self.spread = Spread(BOUNDS_S)
        self._monotonic = monotonic
        self._late_since_s: float | None = None
        self._late_until_s = 0.0

    @property
    def late_for_s(self) -> float:
        return 0.0 if self._late_since_s is None else self._late_until_s - self._late_since_s

    async def run(self) -> None:
        while True:
            started_s = self._monotonic()
            await asyncio.sleep(PERIOD_S)
            self.note(started_s + PERIOD_S, self._monotonic())

    def note(self, due_s: float, now_s: float) -> None:
        """What was due then happens now."""
        self.latest_s = max(0.0, now_s - due_s)
        self.spread.add(self.latest_s)
        if self.latest_s > LATE_S:
            if self._late_since_s is None:
                self._late_since_s = due_s
            self._late_until_s = now_s
        elif now_s - self._late_until_s > RECOVERED_S:
            self._late_since_s = None
