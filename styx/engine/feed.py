"""What changed, for those who watch: a bounded ring of changes with resumable ids, and wake-ups.

A reader holds a position, never a buffer: one that is too slow, or that names an id which the ring
no longer holds, is told `reset` and lists again.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable
from datetime import datetime
from typing import Final

import msgspec

from styx.core import status
from styx.core.agent import Agent
from styx.core.attempt import Attempt
from styx.core.delta import Delta
from styx.core.ids import AgentId, TaskId
from styx.core.job import Job
from styx.core.task import Task
from styx.core.world import World
from styx.wire import http

RING: Final = 10_000  # changes
NOTIFY: Final = "notify"  # what who tells ends waits for, beside the ids of objects


class _Change(msgspec.Struct, frozen=True):
    """Rows as they were; worded only when somebody reads them."""

    at: datetime
    row: Task | Job | Agent
    attempts: tuple[Attempt, ...] = ()


class Feed:
    def __init__(
        self, world: Callable[[], World], *, term: int, clock: Callable[[], datetime]
    ) -> None:
        self._world = world
        self._clock = clock
        self._epoch = term  # numbers of another term mean nothing here
        self._ring: list[_Change | None] = [None] * RING
        self._oldest = 0  # numbers in the ring: from `_oldest` up to, not including, `_next`
        self._next = 0
        self._news = asyncio.Event()
        self._waiters: defaultdict[str, list[asyncio.Event]] = defaultdict(list)
        self.closed = False

    def publish(self, delta: Delta) -> None:
        """Record the changes of a committed and applied delta, and wake who waits for one of them."""
        if delta.blocks or max(len(delta.tasks), len(delta.attempts)) >= RING:
            self.reset()  # a submit of a million must not be copied row by row into a small ring
            return
        at = delta.now
        for job in delta.jobs.values():
            if job.finished_at is None:
                self._put(_Change(at, job))
        for agent in delta.agents.values():
            self._put(_Change(at, agent))
        for task, attempts in self._changed(delta):
            self._put(_Change(at, task, attempts))
            self._wake(task.id)
        for job in delta.jobs.values():
            if job.finished_at is not None:
                self._put(_Change(at, job))
                if job.notify:
                    self._wake(NOTIFY)
            self._wake(job.id)
        self._wake_readers()

    def reset(self) -> None:
        """Changes may have been missed: every reader lists again, every waiter looks again."""
        self._next += 1
        self._oldest = self._next
        for object_id in list(self._waiters):
            self._wake(object_id)
        self._wake_readers()

    def close(self) -> None:
        """The server stops: every iterator ends."""
        self.closed = True
        self.reset()

    async def wait(self, object_id: str) -> None:
        """Return once a task or a job has changed (or may have). No await may lie between the look
        that found it unchanged and this call.
        """
        changed = asyncio.Event()
        self._waiters[object_id].append(changed)
        try:
            if not self.closed:
                await changed.wait()
        finally:
            waiting = self._waiters.get(object_id, [])
            if changed in waiting:
                waiting.remove(changed)
            if not waiting:
                self._waiters.pop(object_id, None)

    async def since(self, last_id: str | None) -> AsyncIterator[http.FeedEvent]:
        """Replay what came after `last_id` (None: nothing), then follow until the server stops."""
        position = self._next if last_id is None else self._position(last_id)
        while not self.closed:
            if position < self._oldest:
                position = self._next
                yield self._reset_event()
            while self._oldest <= position < self._next:
                change = self._ring[position % RING]
                assert change is not None, "every number of the ring has its change"
                position += 1
                yield self._worded(position, change)
            if position == self._next:
                await self._news.wait()

    def _position(self, last_id: str) -> int:
        """Where a reader of `last_id` goes on; before the ring if the id means nothing (any more)."""
        epoch, _, number = last_id.partition("-")
        if epoch != str(self._epoch) or not number.isdecimal() or int(number) > self._next:
            return -1
        return int(number)

    def _put(self, change: _Change) -> None:
        self._ring[self._next % RING] = change
        self._next += 1
        self._oldest = max(self._oldest, self._next - RING)

    def _wake(self, object_id: str) -> None:
        for changed in self._waiters.pop(object_id, ()):
            changed.set()

    def _wake_readers(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    def _changed(self, delta: Delta) -> list[tuple[Task, tuple[Attempt, ...]]]:
        """Each task that changed itself or through an attempt, with the members of its current try."""
        world = self._world()
        changed: defaultdict[TaskId, list[Attempt]] = defaultdict(list)
        for attempt in delta.attempts.values():
            changed[attempt.task_id].append(attempt)
        found: list[tuple[Task, tuple[Attempt, ...]]] = []
        for task_id in dict.fromkeys((*delta.tasks, *changed)):
            task = delta.tasks.get(task_id) or world.tasks.find(task_id)
            if task is not None:
                found.append((task, _members(world, task, changed.get(task_id, []))))
        return found

    def _id(self, number: int) -> str:
        return f"{self._epoch}-{number}"

    def _reset_event(self) -> http.FeedEvent:
        return http.FeedEvent(
            id=self._id(self._next),
            at=self._clock(),
            kind="reset",
            object_id="",
            name="",
            status="",
        )

    def _worded(self, number: int, change: _Change) -> http.FeedEvent:
        """`number` is the position after the change: an id names where its reader goes on."""
        match change.row:
            case Task() as task:
                return self._task_event(number, change, task)
            case Job() as job:
                kind, name = "job", job.name
            case Agent() as agent:
                kind, name = "agent", agent.name
        row = change.row
        return http.FeedEvent(
            id=self._id(number),
            at=change.at,
            kind=kind,
            object_id=row.id,
            name=name,
            status=str(row.state),
        )

    def _task_event(self, number: int, change: _Change, task: Task) -> http.FeedEvent:
        attempts = change.attempts
        exits = (attempt.exit for attempt in attempts if attempt.exit is not None)
        return http.FeedEvent(
            id=self._id(number),
            at=change.at,
            kind="task",
            object_id=task.id,
            name=task.name,
            status=status.of(task, attempts),
            reason=str(task.reason),
            job_id=task.job_id,
            attempt=task.attempt,
            agent=self._agent_name(attempt.agent_id for attempt in attempts),
            exit_code=next((exit_.code for exit_ in exits), None),
        )

    def _agent_name(self, agent_ids: Iterable[AgentId]) -> str:
        first = next(iter(agent_ids), None)
        agent = None if first is None else self._world().agents.get(first)
        return "" if agent is None else agent.name


def _members(world: World, task: Task, changed: list[Attempt]) -> tuple[Attempt, ...]:
    """The members of the task's current try, by rank, some of which have just changed."""
    current = tuple(attempt for attempt in changed if attempt.n == task.attempt)
    if len(current) == task.spec.num_nodes or task.attempt == 0:
        return current
    # One that has just ended may be out of the world already.
    ranked = {row.rank: row for row in (*world.attempts_of_task(task.id), *current)}
    return tuple(ranked[rank] for rank in sorted(ranked))
