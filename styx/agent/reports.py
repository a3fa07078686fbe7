"""What the link has not been told yet. To wake it costs more than what it is told."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

STARTED_S: Final = 0.01  # a task that is over by then is never said to run
QUEUED_S: Final = 0.05  # how long ends wait for company while other tasks wait for room …
QUEUED_SHARE: Final = 2  # … unless so great a part of those is used up: the server has to send more
NEVER: Final = float("inf")


class Reports:
    """Lines of the journal, due at `due` on the caller's clock."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._due = NEVER
        self._ends = 0  # among the lines
        self._started: dict[str, tuple[float, str]] = {}  # by key, the first due first

    @property
    def due(self) -> float:
        for due, _ in self._started.values():
            return min(self._due, due)
        return self._due

    def add(self, line: str) -> None:
        """At once."""
        self._lines.append(line)
        self._due = 0.0

    def started(self, key: str, line: str, now: float) -> None:
        """In a while, if it has not ended by then: nobody need know any more."""
        self._started[key] = (now + STARTED_S, line)

    def ended(self, key: str, line: str, now: float, waiting: int) -> None:
        """In company, while `waiting` others are there to take the room that it leaves."""
        self._started.pop(key, None)
        self._lines.append(line)
        self._ends += 1
        linger = 0.0 if QUEUED_SHARE * self._ends >= waiting else QUEUED_S
        self._due = min(self._due, now + linger)

    def hold(self, until: float) -> None:
        """Nothing can be told before."""
        self._due = until
        self._started = {key: (until, line) for key, (_, line) in self._started.items()}

    def take(self, now: float) -> list[str]:
        """All, once any is due; but of what has only just started, nothing yet."""
        if now < self.due:
            return []
        for key, (due, line) in list(self._started.items()):
            if due > now:
                break
            del self._started[key]
            self._lines.append(line)
        lines, self._lines = self._lines, []
        self._due, self._ends = NEVER, 0
        return lines
