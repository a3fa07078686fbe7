"""Ready tasks → agents with room: by priority, then fair share between projects, then age.

Tasks are looked at by class: equal requirements fit or do not fit together. A class whose first task
found no room is stuck, and is looked at again only on agents that gained room since. So a turn costs
what changed, not what waits.

A task that waited long while others may overtake it gets agents reserved: on them, only what leaves
room for it may start. A gang is placed whole or not at all; as reservations are given in the order of
the line, two gangs cannot hold half of each other's agents.
"""

import heapq
from collections.abc import Iterator
from datetime import timedelta
from typing import Final, NamedTuple

import msgspec

from styx.core import choice, match
from styx.core.ahead import Ahead
from styx.core.attempt import Attempt
from styx.core.draft import Draft
from styx.core.ids import AgentId, AttemptKey
from styx.core.queue import ClassKey, Place, place_of
from styx.core.shelves import TIGHTEST, Fit
from styx.core.spec import Requirements
from styx.core.task import Reason, Task, TaskState

MAX_RESERVATIONS: Final = 16  # classes kept room for; the next come up as these are placed


class Turn(NamedTuple):
    """Whose turn it is: the smallest first. The class decides nothing, it rides along."""

    minus_rank: int
    share: int
    task_id: str
    number: int


class Chosen(NamedTuple):
    """One agent a node, and which of its alternatives the task takes there."""

    agents: list[AgentId]
    choice: int = 0


class Line:
    """The ready tasks of one class, best first, as the draft sees them now."""

    def __init__(self, draft: Draft, key: ClassKey, fresh: list[Place]) -> None:
        self.key = key
        self._draft = draft
        queue = draft.world.queues.get(key)
        was_stuck = queue is not None and queue.stuck
        self.searches = [Search(draft, each, was_stuck) for each in choice.among(key.requirements)]
        self._places = heapq.merge(queue.walk() if queue else (), sorted(fresh))
        self.full = False  # nobody has room for it, nor will have in this turn

    def next(self) -> Task | None:
        """The first that may be placed; None, too, while as many of its spec are active as may be."""
        if self._draft.at_limit(self.key):
            return None
        for place in self._places:
            task = self._draft.task(place.task_id)
            if task is None or task.state is not TaskState.READY:
                continue
            job = self._draft.job(task.job_id)
            if job is not None and job.cancel_reason is not Reason.NONE:
                continue  # its cancel goes in slices, and this one is in a later slice
            if task.not_before is None or task.not_before <= self._draft.now:
                return task
        return None


class Search:
    """For agents with room for one alternative of a class: of most, for all that it wants."""

    def __init__(self, draft: Draft, wanted: Requirements, was_stuck: bool) -> None:
        self.wanted = wanted
        self.was_stuck = was_stuck
        self._draft = draft
        self._passed = TIGHTEST  # of the agents that nothing has touched in this turn
        self._refused: set[AgentId] = set()

    def fits(self) -> Iterator[AgentId]:
        """The agents that may have room, the tightest fit first: to be taken, or to be refused.

        Who has been looked at once and refused, full or kept for another, will be all turn long.
        """
        draft, wanted = self._draft, self.wanted
        for fit in heapq.merge(self._untouched(), draft.shelves().walk(wanted)):
            agent_id = fit.agent_id
            if agent_id in self._refused or (self.was_stuck and agent_id not in draft.freed):
                continue
            if draft.room(agent_id).fits(wanted) and eligible(draft, agent_id, wanted):
                yield agent_id
            else:
                self.refuse(agent_id)

    def refuse(self, agent_id: AgentId) -> None:
        self._refused.add(agent_id)

    def rewind(self) -> None:
        """What it found was not taken: it is there to be found again."""
        self._passed = TIGHTEST

    def leftover(self, agent_id: AgentId) -> tuple[int, int, int]:
        return self._draft.room(agent_id).leftover(self.wanted)

    def _untouched(self) -> Iterator[Fit]:
        """Agents as they were before this turn: where they stand among each other cannot change in it."""
        if self.was_stuck:
            return
        for fit in self._draft.world.shelves.walk(self.wanted, self._passed):
            if fit.agent_id not in self._draft.touched:
                self._passed = fit
                yield fit


def place(draft: Draft) -> None:
    """Assign what fits, up to the turn's bound."""
    lines = [Line(draft, key, fresh) for key, fresh in _classes(draft).items()]
    turns: list[Turn] = []
    tasks: list[Task | None] = [line.next() for line in lines]
    for number, task in enumerate(tasks):
        if task is None:
            draft.delta.hints.stuck[lines[number].key] = False
        else:
            turns.append(_turn(draft, lines[number], task, number))
    heapq.heapify(turns)
    looked_at = {line.key for line in lines}
    guard, ahead = Guard(draft, looked_at), Ahead(draft, looked_at)
    budget = draft.policy.placements_per_turn
    while turns:
        turn = heapq.heappop(turns)
        line, task = lines[turn.number], tasks[turn.number]
        assert task is not None
        now = _turn(draft, line, task, turn.number)
        if turns and now > turns[0]:
            heapq.heappush(turns, now)  # its project's share grew since it was put in line
            continue
        if budget <= 0:
            draft.delta.hints.unfinished = True
            break
        chosen = None if line.full else _choose(line, task, guard)
        if chosen is None:
            draft.delta.hints.stuck[line.key] = line.full = True
            beyond = ahead.choose(line.key, task)
            if beyond is None:
                guard.add(line.key, task)
                continue
            chosen = Chosen([beyond])
        else:
            draft.delta.hints.stuck[line.key] = False
        assign(draft, task, chosen)
        budget -= len(chosen.agents)
        tasks[turn.number] = task = line.next()
        if task is not None:
            heapq.heappush(turns, _turn(draft, line, task, turn.number))
        elif draft.at_limit(line.key):
            # Whoever gains room while its limit holds is not looked at for it: so then, look at all.
            draft.delta.hints.stuck[line.key] = False
    guard.remember()


def assign(draft: Draft, task: Task, chosen: Chosen) -> None:
    """Open the next try, one member an agent."""
    draft.put_task(
        msgspec.structs.replace(
            task,
            state=TaskState.ACTIVE,
            reason=Reason.NONE,
            attempt=task.attempt + 1,
            not_before=None,
        )
    )
    for rank, agent_id in enumerate(chosen.agents):
        draft.put_attempt(
            Attempt(
                key=AttemptKey(task.id, task.attempt + 1, rank),
                agent_id=agent_id,
                assigned_at=draft.now,
                choice=chosen.choice,
            )
        )


def eligible(draft: Draft, agent_id: AgentId, wanted: Requirements) -> bool:
    """Whether the agent takes work of this kind at all, now or when it has room."""
    agent = draft.agent(agent_id)
    return agent is not None and match.takes_work(agent) and match.why_never(wanted, agent) is None


class Guard:
    """Keeps room for those who waited long.

    Who is kept room for is decided only when somebody behind them would start: most turns never ask.
    """

    def __init__(self, draft: Draft, looked_at: set[ClassKey]) -> None:
        self.reserved: dict[ClassKey, tuple[AgentId, ...]] = {}
        self._draft = draft
        self._looked_at = looked_at
        self._kept_for: dict[
            ClassKey, Requirements
        ] = {}  # which alternative, of each in `reserved`
        self._waiting: dict[ClassKey, Place] = {}  # stuck for long, and where its first task stands
        self._complete = False

    def add(self, key: ClassKey, task: Task) -> None:
        patience = timedelta(seconds=self._draft.policy.reserve_after_s)
        waited_long = task.ready_at is not None and self._draft.now - task.ready_at >= patience
        if waited_long and len(self._waiting) < MAX_RESERVATIONS:
            self._waiting[key] = place_of(task)

    def allows(self, agent_id: AgentId, wanted: Requirements, task: Task) -> bool:
        """Whether starting `task` on the agent leaves those before it no worse off."""
        self._add_sleeping()
        mine = place_of(task)
        for key, place in self._waiting.items():
            if place > mine:
                continue
            if key not in self.reserved:
                self.reserved[key] = self._reserve(key)
            if agent_id in self.reserved[key] and not self._both_fit(
                agent_id, wanted, self._kept_for[key]
            ):
                return False
        return True

    def _add_sleeping(self) -> None:
        """Those that were stuck before this turn and that nothing in it gave a reason to look at."""
        if self._complete:
            return
        self._complete = True
        for key, queue in self._draft.world.queues.items():
            if queue.stuck and key not in self._looked_at:
                first = Line(self._draft, key, []).next()
                if first is not None:
                    self.add(key, first)

    def remember(self) -> None:
        """Keep what is reserved for classes that still wait, asked about in this turn or not.

        Those kept off an agent that is released now are stuck, and must look at it again.
        """
        hints = self._draft.delta.hints
        before = self._draft.world.reserved
        still = {k: a for k, a in before.items() if k in self._waiting or k not in hints.stuck}
        hints.reserved = still | self.reserved
        held = {agent_id for agents in hints.reserved.values() for agent_id in agents}
        hints.released = tuple(
            a
            for k, agents in before.items()
            if k not in hints.reserved
            for a in agents
            if a not in held
        )
        if hints.released:
            hints.unfinished = True

    def _reserve(self, key: ClassKey) -> tuple[AgentId, ...]:
        """Keep the last turn's choice while it is good: a choice that wanders keeps nothing free."""
        taken = {agent_id for agents in self.reserved.values() for agent_id in agents}
        before = self._draft.world.reserved.get(key, ())
        free = [a for a in before or _rooms(self._draft) if a not in taken]
        nearest = self._nearest(key, free)
        if before and not nearest:
            nearest = self._nearest(key, [a for a in _rooms(self._draft) if a not in taken])
        return nearest

    def _nearest(self, key: ClassKey, agents: list[AgentId]) -> tuple[AgentId, ...]:
        """So many as it has nodes, for the alternative that lacks least; none when there are too few."""
        best: list[tuple[tuple[int, int, int], AgentId]] = []
        for wanted in choice.among(key.requirements):
            fitting = (
                (self._draft.room(a).shortage(wanted), a)
                for a in agents
                if eligible(self._draft, a, wanted)
            )
            nearest = heapq.nsmallest(key.num_nodes, fitting)
            if len(nearest) == key.num_nodes and (not best or nearest[-1][0] < best[-1][0]):
                best = nearest
                self._kept_for[key] = wanted
        return tuple(agent_id for _, agent_id in best)

    def _both_fit(self, agent_id: AgentId, small: Requirements, big: Requirements) -> bool:
        """Beside the small one and all that runs now, the big one still fits once that has ended."""
        agent = self._draft.agent(agent_id)
        assert agent is not None
        room, whole = self._draft.room(agent_id), agent.capacity
        gpus_busy = len(whole.gpus) - sum(room.gpus.values())
        return (
            whole.cpus_milli - big.cpus_milli
            >= whole.cpus_milli - room.cpus_milli + small.cpus_milli
            and whole.memory_bytes - big.memory_bytes
            >= whole.memory_bytes - room.memory_bytes + small.memory_bytes
            and len(whole.gpus) - big.gpus >= gpus_busy + small.gpus
        )


def _choose(line: Line, task: Task, guard: Guard) -> Chosen | None:
    """The tightest fits of the first alternative that has them; of those that are not ordered, of the
    one that leaves least. All members of a gang take the same.
    """
    best: tuple[tuple[int, int, int], Chosen] | None = None
    for number, search in enumerate(line.searches):
        agents = _agents(search, line.key.num_nodes, task, guard)
        if agents is None:
            continue
        chosen = Chosen(agents, number)
        if len(line.searches) == 1 or line.key.requirements.ordered:
            return chosen
        if len(agents) > 1:  # of one alone it still stands where that is
            search.rewind()
        left = max(search.leftover(agent_id) for agent_id in agents)
        if best is None or left < best[0]:
            best = left, chosen
    return best[1] if best else None


def _agents(search: Search, count: int, task: Task, guard: Guard) -> list[AgentId] | None:
    """The tightest fits, one a node, or None."""
    if count > 1 and search.was_stuck:
        # A gang may need agents that gained no room beside one that did: look at all of them.
        search.was_stuck = False
    chosen: list[AgentId] = []
    for agent_id in search.fits():
        if not guard.allows(agent_id, search.wanted, task):
            search.refuse(agent_id)
            continue
        chosen.append(agent_id)
        if len(chosen) == count:
            return chosen
    return None


def _classes(draft: Draft) -> dict[ClassKey, list[Place]]:
    """The classes worth a look in this turn, each with the tasks that became ready in it."""
    classes: dict[ClassKey, list[Place]] = {
        key: []
        for key, queue in draft.world.queues.items()
        if (draft.freed or not queue.stuck or key in draft.thinned) and not draft.at_limit(key)
    }
    for task_id in draft.ready:
        task = draft.task(task_id)
        if task is not None:
            classes.setdefault(draft.class_of(task), []).append(place_of(task))
    return classes


def _rooms(draft: Draft) -> Iterator[AgentId]:
    yield from dict.fromkeys((*draft.world.rooms, *draft.delta.agents))


def _turn(draft: Draft, line: Line, task: Task, number: int) -> Turn:
    first = place_of(task)
    return Turn(first.minus_rank, draft.usage(line.key.project), first.task_id, number)
