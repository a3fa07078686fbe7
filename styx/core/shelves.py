"""Agents by what they have left, so that the tightest fit is found without asking those that are full.

One shelf for each count of idle GPUs and free cpus that some agent has, on it the agents by free memory.
This is the order of `Room.leftover` for every task, as what a task wants is the same subtraction from each.
So a task begins at the shelf it just fits, skips those with too few cpus whole, and begins on each at the
memory that it wants: what it looks at has room, but for its disk and for what it asks of an agent's kind.

A put moves what is behind in one sorted list, at 8 bytes an agent: less than a tree's steps up to a
hundred thousand agents.
"""

from bisect import bisect_left, insort
from collections.abc import Iterator
from typing import Final, NamedTuple

from styx.core.ids import AgentId
from styx.core.room import Room
from styx.core.spec import Requirements


class Fit(NamedTuple):
    """What an agent has left; the smallest that suffices is the tightest fit."""

    gpus: int
    cpus_milli: int
    memory_bytes: int
    agent_id: AgentId


TIGHTEST: Final = Fit(0, 0, 0, AgentId(""))


def fit(agent_id: AgentId, room: Room) -> Fit:
    return Fit(room.idle_gpus(), room.cpus_milli, room.memory_bytes, agent_id)


class Shelves:
    """Mutable, and owned by one holder, as rooms are."""

    def __init__(self) -> None:
        self.fits: dict[AgentId, Fit] = {}
        self._shelves: dict[tuple[int, int], list[tuple[int, AgentId]]] = {}
        self._order: list[tuple[int, int]] = []  # of the shelves that are not empty

    def put(self, agent_id: AgentId, room: Room) -> None:
        """Where it belongs now, from wherever it was."""
        self.drop(agent_id)
        now = self.fits[agent_id] = fit(agent_id, room)
        shelf = self._shelves.get(now[:2])
        if shelf is None:
            shelf = self._shelves[now[:2]] = []
            insort(self._order, now[:2])
        insort(shelf, now[2:])

    def drop(self, agent_id: AgentId) -> None:
        before = self.fits.pop(agent_id, None)
        if before is None:
            return
        shelf = self._shelves[before[:2]]
        del shelf[bisect_left(shelf, before[2:])]
        if not shelf:
            del self._shelves[before[:2]]
            del self._order[bisect_left(self._order, before[:2])]

    def walk(self, wanted: Requirements, begin: Fit = TIGHTEST) -> Iterator[Fit]:
        """Who has the GPUs (of any model), cpus and memory, the tightest fit first, from `begin` on.

        Nothing may be put or dropped while somebody walks.
        """
        least = (wanted.cpus_milli, wanted.memory_bytes)
        number = bisect_left(self._order, max((wanted.gpus, least[0]), begin[:2]))
        while number < len(self._order):
            gpus, cpus_milli = level = self._order[number]
            if cpus_milli < least[0]:
                number = bisect_left(self._order, (gpus, least[0]), number)
                continue
            shelf = self._shelves[level]
            first = (least[1], AgentId(""))
            if level == begin[:2]:
                first = max(first, begin[2:])
            for at in range(bisect_left(shelf, first), len(shelf)):
                yield Fit(gpus, cpus_milli, *shelf[at])
            number += 1
