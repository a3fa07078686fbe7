"""Work that an agent is given beyond its room, so that no room of it stands idle for a round trip.

The agent starts it in the order in which it came, as room comes free, and gives back what has waited for
too long there (`Reason.AGENT_BUSY`). Only tasks of a class whose tasks are over in a moment are given so:
whoever comes after them waits for `AHEAD_MS` at most. And while somebody waits for the agent whose class is
not of that kind, nothing is: the room that comes free is theirs.
"""

import heapq
from typing import Final

from styx.core import match
from styx.core.agent import Agent
from styx.core.draft import Draft
from styx.core.ids import AgentId
from styx.core.policy import BUSY_MS
from styx.core.queue import ClassKey
from styx.core.room import Room
from styx.core.spec import Requirements
from styx.core.task import Task

AHEAD_MS: Final = 100.0  # of work that waits at an agent, as far as one can tell beforehand
OTHERS: Final = 16  # classes that are asked whether they want an agent; with more, all is theirs


class Ahead:
    """Of one turn. `looked_at` are the classes that have their turn in it."""

    def __init__(self, draft: Draft, looked_at: set[ClassKey]) -> None:
        self._draft = draft
        self._looked_at = looked_at
        self._others: list[Requirements] | None = None  # of classes that wait, and may not go ahead
        self._pools: dict[
            ClassKey, list[tuple[float, AgentId]]
        ] = {}  # heaps: the least laden first

    def choose(self, key: ClassKey, task: Task, *, freed_only: bool) -> AgentId | None:
        """Whom to give a task for which nobody has room; None: it waits here."""
        others = self._waiting()
        pace_ms = self._draft.world.paces.get(key)
        if pace_ms is None or not _brief(key, pace_ms) or task.spec.exclusive:
            others.append(key.requirements)
            return None
        pool = self._pools.get(key)
        if pool is None:
            pool = self._pools[key] = self._pool(key.requirements, freed_only=freed_only)
        while pool:
            _, agent_id = heapq.heappop(pool)
            agent = self._draft.agent(agent_id)
            assert agent is not None
            room = self._draft.room(agent_id)
            if not self._wanted(agent) and _takes(agent, room, key.requirements, pace_ms):
                share = key.requirements.cpus_milli / agent.capacity.cpus_milli
                laden = _load(agent, room, key.requirements) + share
                heapq.heappush(pool, (laden, agent_id))
                return agent_id
        return None

    def _pool(self, wanted: Requirements, *, freed_only: bool) -> list[tuple[float, AgentId]]:
        draft = self._draft
        pool = [
            (_load(agent, draft.room(agent_id), wanted), agent_id)
            for agent_id in (draft.freed if freed_only else draft.world.rooms)
            if (agent := draft.agent(agent_id)) is not None
            and agent.capacity.ahead
            and match.takes_work(agent)
            and match.why_never(wanted, agent) is None
        ]
        heapq.heapify(pool)
        return pool

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
    return bool(plain) and pace_ms <= AHEAD_MS


def _takes(agent: Agent, room: Room, wanted: Requirements, pace_ms: float) -> bool:
    """Whether one more does not make too many of them, nor too long a wait."""
    _, cpus, memory = room.shortage(wanted)
    waiting = max(cpus / wanted.cpus_milli, memory / wanted.memory_bytes if memory else 0.0)
    return waiting <= agent.capacity.ahead and _load(agent, room, wanted) * pace_ms <= AHEAD_MS


def _load(agent: Agent, room: Room, wanted: Requirements) -> float:
    """How many times all that the agent has must come free until one more has started."""
    _, cpus, memory = room.shortage(wanted)
    have = agent.capacity
    return max(cpus / have.cpus_milli, memory / have.memory_bytes if memory else 0.0)
