"""Work that an agent is given beyond its room, so that no room of it stands idle for a round trip.

The agent starts it in the order in which it came, as room comes free, and gives back what has waited for
too long there (`Reason.AGENT_BUSY`). Only tasks of a class whose tasks are over in a moment are given so,
and only to an agent where something has just ended: whoever comes after them waits for `AHEAD_MS` at most.
And while somebody waits for the agent whose class is not of that kind, nothing is: the room that comes
free is theirs.
"""

import heapq
from datetime import timedelta
from typing import Final, NamedTuple

from styx.core import match
from styx.core.agent import Agent
from styx.core.attempt import TERMINAL
from styx.core.draft import Draft
from styx.core.ids import AgentId
from styx.core.policy import BUSY_MS
from styx.core.queue import ClassKey
from styx.core.spec import Requirements
from styx.core.task import Task

AHEAD_MS: Final = 100.0  # of work that waits at an agent, as far as one can tell beforehand
LONG: Final = timedelta(seconds=1.0)  # had for so long, it keeps its room for longer yet
OTHERS: Final = 16  # classes that are asked whether they want an agent; with more, all is theirs


class _Taker(NamedTuple):
    agent_id: AgentId  # first: between two that are laden alike it decides
    agent: Agent
    share: float  # of its cpus, which is not kept for long


class Ahead:
    """Of one turn. `looked_at` are the classes that have their turn in it."""

    def __init__(self, draft: Draft, looked_at: set[ClassKey]) -> None:
        self._draft = draft
        self._looked_at = looked_at
        self._others: list[Requirements] | None = None  # of classes that wait, and may not go ahead
        # Heaps: the least laden first.
        self._pools: dict[ClassKey, list[tuple[float, _Taker]]] = {}

    def choose(self, key: ClassKey, task: Task) -> AgentId | None:
        """Whom to give a task for which nobody has room; None: it waits here."""
        others = self._waiting()
        pace_ms = self._draft.world.paces.get(key)
        if pace_ms is None or not _brief(key, pace_ms) or task.spec.exclusive:
            others.append(key.requirements)
            return None
        pool = self._pools.get(key)
        if pool is None:
            pool = self._pools[key] = self._pool(key.requirements)
        while pool:
            _, taker = heapq.heappop(pool)
            if not self._wanted(taker.agent) and self._takes(taker, key.requirements, pace_ms):
                heapq.heappush(pool, (self._rounds(taker, key.requirements, 1), taker))
                return taker.agent_id
        return None

    def _pool(self, wanted: Requirements) -> list[tuple[float, _Taker]]:
        pool: list[tuple[float, _Taker]] = []
        for agent_id in self._draft.freed:
            agent = self._draft.agent(agent_id)
            if agent is None or not agent.capacity.ahead or not match.takes_work(agent):
                continue
            cpus_milli = agent.capacity.cpus_milli - self._kept_for_long(agent)
            if cpus_milli > 0 and match.why_never(wanted, agent) is None:
                taker = _Taker(agent_id, agent, cpus_milli / agent.capacity.cpus_milli)
                pool.append((self._rounds(taker, wanted, 0), taker))
        heapq.heapify(pool)
        return pool

    def _kept_for_long(self, agent: Agent) -> int:
        """Thousandths of a core. Of what it has been given the oldest comes first, and ends the search."""
        draft, kept = self._draft, 0
        for key in draft.world.attempts_of(agent.id):
            attempt, holding = draft.attempt(key), draft.world.holdings.get(key)
            if attempt is None or holding is None or attempt.state in TERMINAL:
                continue
            if attempt.assigned_at > draft.now - LONG:
                break
            kept += holding.requirements.cpus_milli
        return kept

    def _takes(self, taker: _Taker, wanted: Requirements, pace_ms: float) -> bool:
        """Whether one more does not make too many of them, nor too long a wait."""
        cpus, memory = self._shortage(taker.agent_id, wanted)
        waiting = max(cpus / wanted.cpus_milli, memory / wanted.memory_bytes if memory else 0.0)
        if waiting > taker.agent.capacity.ahead:
            return False
        return self._rounds(taker, wanted, 0) * pace_ms <= AHEAD_MS

    def _rounds(self, taker: _Taker, wanted: Requirements, more: int) -> float:
        """How many times all that comes free there must do so, until one more has started, after `more`."""
        have = taker.agent.capacity
        cpus, memory = self._shortage(taker.agent_id, wanted)
        cpus += more * wanted.cpus_milli
        memory += more * wanted.memory_bytes if memory else 0
        rounds = max(cpus / have.cpus_milli, memory / have.memory_bytes if memory else 0.0)
        return rounds / taker.share

    def _shortage(self, agent_id: AgentId, wanted: Requirements) -> tuple[int, int]:
        """Thousandths of a core, and bytes. Who wants no memory waits for none, though others went ahead."""
        _, cpus, memory = self._draft.room(agent_id).shortage(wanted)
        return cpus, memory if wanted.memory_bytes else 0

    def _waiting(self) -> list[Requirements]:
        """Also those that were stuck before this turn, and that nothing in it gave a reason to look at."""
        if self._others is None:
            world = self._draft.world
            self._others = [
                key.requirements
                for key, queue in world.queues.items()
                if queue.stuck
                and key not in self._looked_at
                and not _brief(key, world.paces.get(key, BUSY_MS))
            ]
        return self._others

    def _wanted(self, agent: Agent) -> bool:
        others = self._waiting()
        return len(others) > OTHERS or any(match.why_never(o, agent) is None for o in others)


def _brief(key: ClassKey, pace_ms: float) -> bool:
    """Whether its tasks can wait at an agent at all: what is counted by device or kept on disk cannot."""
    wanted = key.requirements
    plain = key.num_nodes == 1 and wanted.cpus_milli and not wanted.gpus and not wanted.disk_bytes
    if wanted.any_of:  # which of them it will be is not known before there is room
        return False
    return bool(plain) and pace_ms <= AHEAD_MS
