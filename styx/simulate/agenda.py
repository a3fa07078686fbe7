"""What will happen, in virtual time."""

import heapq

import msgspec

from styx.core.event import AttemptExited, AttemptStarted
from styx.core.ids import AgentId
from styx.simulate.load import Load


class Arrived(msgspec.Struct, frozen=True):
    """The next job of a workload is submitted."""

    load: Load


class Booted(msgspec.Struct, frozen=True):
    agent_id: AgentId


class Died(msgspec.Struct, frozen=True):
    """The machine, with all that ran on it. Nobody tells the server."""

    agent_id: AgentId


class Silence(msgspec.Struct, frozen=True):
    """Since that boot nothing was heard for a while, or, with `lost`, for so long that it is given up."""

    agent_id: AgentId
    boot: int
    lost: bool


class Left(msgspec.Struct, frozen=True):
    """It is to go: no new work for it."""

    agent_id: AgentId


class Idled(msgspec.Struct, frozen=True):
    """So many assignments after its coming, it has been idle for the time that its group allows."""

    agent_id: AgentId
    assignments: int


class Reported(msgspec.Struct, frozen=True):
    """What an agent says of an attempt, if it still runs since that boot."""

    boot: int
    fact: AttemptStarted | AttemptExited


Happening = Arrived | Booted | Died | Silence | Left | Idled | Reported


class Agenda:
    """Things of one moment come in the order in which they were put down."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Happening]] = []
        self._count = 0

    def put(self, at_s: float, happening: Happening) -> None:
        self._count += 1
        heapq.heappush(self._heap, (at_s, self._count, happening))

    def next_s(self) -> float | None:
        return self._heap[0][0] if self._heap else None

    def pop(self) -> tuple[float, Happening]:
        at_s, _, happening = heapq.heappop(self._heap)
        return at_s, happening
