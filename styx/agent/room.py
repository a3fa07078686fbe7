"""The room of the machine, and the starts that wait for a part of it.

A server may assign more than fits: then no room stands idle for a round trip to it, and one report and
one commit do for many short tasks. First come, first served; what runs uses room by the server's own
sums. Nothing that waits is on disk: it is not claimed.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from styx.agent.stop import Attempt

PATIENCE_S: Final = 2.0  # behind tasks that turn out to be long; another agent may be free by now
WAITING_MAX: Final = 1_024
NEVER: Final = float("inf")


class Room:
    """`waiting` are orders to start, by key, the oldest first."""

    def __init__(self) -> None:
        self.waiting: dict[str, dict[str, Any]] = {}
        self._whole: dict[str, int] | None = None
        self._users = 0
        self._cpus_milli = 0  # in use
        self._memory_bytes = 0

    def resize(self, whole: dict[str, int] | None) -> None:
        """A link says how much there is. None: it is one of before there was such a thing as waiting,
        and nothing ever waits.
        """
        self._whole = whole

    def take(self, attempt: Attempt) -> None:
        self._users += 1
        self._cpus_milli += attempt.cpus_milli
        self._memory_bytes += attempt.memory_bytes

    def give(self, attempt: Attempt) -> None:
        self._users -= 1
        self._cpus_milli -= attempt.cpus_milli
        self._memory_bytes -= attempt.memory_bytes

    def admits(self, order: dict[str, Any]) -> bool:
        """Whether it may start at once, without overtaking anybody."""
        return not self.waiting and self.fits(order)

    def fits(self, order: dict[str, Any]) -> bool:
        """Whether there is room. Where nothing runs there is, whatever the sums say."""
        if self._whole is None or not self._users:
            return True
        return (
            self._cpus_milli + order["cpus_milli"] <= self._whole["cpus_milli"]
            and self._memory_bytes + order["memory_bytes"] <= self._whole["memory_bytes"]
        )

    def wait(self, order: dict[str, Any], now: float) -> bool:
        """Put it last. False: there are too many."""
        if len(self.waiting) >= WAITING_MAX:
            return False
        self.waiting[order["k"]] = order | {"patient_until": now + PATIENCE_S}
        return True

    def next(self, now: float) -> dict[str, Any] | None:
        """Take out the first, if it has room by now or has lost its patience."""
        for key, order in self.waiting.items():
            if self.fits(order) or now >= order["patient_until"]:
                return self.waiting.pop(key)
            break
        return None

    def give_back(self) -> list[str]:
        """Let go of all that waits."""
        keys = list(self.waiting)
        self.waiting.clear()
        return keys

    def next_due(self) -> float:
        """When the first loses its patience."""
        for order in self.waiting.values():
            return order["patient_until"]
        return NEVER
