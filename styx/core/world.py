"""Everything that is not over, with the indexes that make a decision cheap.

The world changes in one place, `apply`. Between two applies it is a value: a step reads it, a failed
commit leaves it as it was.
"""

import heapq
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Final, Self

from styx.core import match, policy, shelves
from styx.core.agent import Agent, AgentState, Kind
from styx.core.attempt import TERMINAL as ATTEMPT_TERMINAL
from styx.core.attempt import Attempt
from styx.core.block import Block, Tasks
from styx.core.census import Census
from styx.core.delta import Delta, Settlement
from styx.core.effect import backstop, deadlines
from styx.core.ids import AgentId, AttemptKey, JobId, TaskId
from styx.core.job import TERMINAL as JOB_TERMINAL
from styx.core.job import Job
from styx.core.queue import ClassKey, Limit, ReadyQueue
from styx.core.room import Room
from styx.core.spec import On, Requirements
from styx.core.task import TERMINAL as TASK_TERMINAL
from styx.core.task import Reason, Task, TaskState

PACES: Final = 1_000  # classes whose pace is remembered


class World:
    def __init__(self) -> None:
        self.jobs: dict[JobId, Job] = {}
        self.tasks = Tasks()
        self.attempts: dict[AttemptKey, Attempt] = {}
        self.agents: dict[AgentId, Agent] = {}
        self.rooms: dict[AgentId, Room] = {}
        self.shelves = shelves.Shelves()  # the rooms of those that take work
        self.kinds: dict[Kind, dict[AgentId, None]] = {}  # of agents that are not gone
        self.queues: dict[ClassKey, ReadyQueue] = {}
        self.reserved: dict[ClassKey, tuple[AgentId, ...]] = {}
        self.waits: dict[TaskId, int] = {}  # unmet needs of each blocked task
        self.dependants: dict[TaskId, list[tuple[TaskId, On]]] = {}
        self.settling: deque[Settlement] = deque()
        self.sweeps: dict[JobId, None] = {}  # jobs with a cancel that has not reached every task
        self.usage: dict[str, int] = {}  # by project, as `policy.weight`
        self.by_key: dict[tuple[str, str], JobId] = {}  # (project, idempotency key) of live jobs
        self.released: tuple[AgentId, ...] = ()  # no longer reserved since the last turn
        self.unfinished = False
        self.census = Census()
        self._timers: list[tuple[datetime, TaskId]] = []
        self.holdings: dict[AttemptKey, ClassKey] = {}  # what live attempts keep from others
        self.paces: dict[ClassKey, float] = {}  # see `policy.pace_ms`; longest unused first
        self._moved: dict[AgentId, None] = {}  # not yet on the shelf where they belong
        self._tallies: dict[JobId, dict[TaskState, int]] = {}
        self._attempts_of: dict[AgentId, dict[AttemptKey, None]] = {}

    @classmethod
    def load(
        cls,
        jobs: Iterable[Job],
        tasks: Iterable[Task],
        attempts: Iterable[Attempt],
        agents: Iterable[Agent],
        settled: Mapping[TaskId, TaskState],
        tallies: Mapping[JobId, Mapping[TaskState, int]],
        blocks: Iterable[Block] = (),
    ) -> Self:
        """Rebuild the world from stored rows. What needs told before a crash are simply told again."""
        world = cls()
        for job in jobs:
            world._tallies[job.id] = dict(tallies.get(job.id, {}))
            world._put_job(job)
        for agent in agents:
            world._put_agent(agent)
        for task in tasks:
            world._put_task(task)
        for block in blocks:
            world._add_block(block)
        for attempt in sorted(attempts, key=lambda a: a.key):
            world._put_attempt(attempt)
        world._shelve()
        world.settling.extend(
            Settlement(need, state, 0)
            for need, state in settled.items()
            if need in world.dependants
        )
        return world

    def room(self, agent_id: AgentId) -> Room:
        """What an agent that is not gone has left."""
        return self.rooms[agent_id]

    def active(self, limit: Limit) -> int:
        """How many of the tasks that share it are active."""
        return self.census.active[limit]

    def attempts_of(self, agent_id: AgentId) -> Collection[AttemptKey]:
        """Keys of the agent's attempts that live, or whose logs are incomplete."""
        return self._attempts_of.get(agent_id, {}).keys()

    def attempts_of_task(self, task_id: TaskId) -> list[Attempt]:
        """The members of the current try, by rank."""
        task = self.tasks.find(task_id)
        return members(self.attempts, task) if task else []

    def tasks_of(self, job_id: JobId) -> Iterator[TaskId]:
        """The job's tasks that are not over."""
        return self.tasks.of(job_id)

    def tally(self, job_id: JobId) -> Mapping[TaskState, int]:
        """How many of a running job's tasks are over, by state."""
        return self._tallies.get(job_id, {})

    def could_run(self, wanted: Requirements) -> bool:
        """Whether some agent could, were it idle. Ten thousand of them are a few kinds."""
        samples = (self.agents[next(iter(alike))] for alike in self.kinds.values())
        return any(match.why_never(wanted, sample) is None for sample in samples)

    def next_deadline(self) -> datetime | None:
        """The earliest moment at which time alone may change something."""
        return self._timers[0][0] if self._timers else None

    @property
    def timers(self) -> list[tuple[datetime, TaskId]]:
        """A heap of (moment, task to look at); entries may be stale."""
        return self._timers

    def apply(self, delta: Delta) -> None:
        """Take over a committed delta."""
        hints = delta.hints
        for task_id, waits in hints.waits.items():
            self.waits[task_id] = waits
        for job in delta.jobs.values():
            self._put_job(job)
        for agent in delta.agents.values():
            self._put_agent(agent)
        for task in delta.tasks.values():
            self._put_task(task)
        for attempt in delta.attempts.values():
            self._put_attempt(attempt)
        for task in delta.tasks.values():
            self._drop_spent(task)
        self._shelve()
        self._wake(delta.now)
        self._remember(delta)

    def join(self, other: Self) -> None:
        """Take over committed jobs and tasks that touch nothing here: a world of their own, to be used
        up. The next turn places them. Nothing is done task by task: it may hold a hundred thousand.
        """
        self.jobs.update(other.jobs)
        self.tasks.join(other.tasks)
        self.waits.update(other.waits)
        self.dependants.update(other.dependants)
        self.by_key.update(other.by_key)
        self._tallies.update(other._tallies)
        self.census.join(other.census.tasks)
        self.settling.extend(other.settling)
        self._timers += other._timers
        heapq.heapify(self._timers)
        for key, queue in other.queues.items():
            self.queues.setdefault(key, ReadyQueue()).join(queue)
        self.unfinished = True

    def _remember(self, delta: Delta) -> None:
        hints = delta.hints
        self.settling = hints.settling
        self.unfinished = hints.unfinished
        for task_id in hints.told:
            self.dependants.pop(task_id, None)
        for key, stuck in hints.stuck.items():
            queue = self.queues.get(key)
            if queue is None:
                continue
            queue.stuck = stuck
            queue.prune(self._is_ready)
            if not queue:
                del self.queues[key]
        self.reserved = hints.reserved
        self.released = hints.released

    def _is_ready(self, task_id: TaskId) -> bool:
        task = self.tasks.find(task_id)
        return task is not None and task.state is TaskState.READY

    def _put_job(self, job: Job) -> None:
        if job.state in JOB_TERMINAL:
            self.jobs.pop(job.id, None)
            self.sweeps.pop(job.id, None)
            self._tallies.pop(job.id, None)
            self.tasks.forget(job.id)
            self.by_key.pop((job.project, job.idem_key), None)
            return
        self.jobs[job.id] = job
        self._tallies.setdefault(job.id, {})
        if job.idem_key:
            self.by_key[job.project, job.idem_key] = job.id
        if job.cancel_reason is not Reason.NONE:
            self.sweeps[job.id] = None

    def _put_task(self, task: Task) -> None:
        before = self.tasks.find(task.id)
        self.census.task(before, task)
        if task.state in TASK_TERMINAL:
            self.tasks.drop(task)
            self.waits.pop(task.id, None)
            tally = self._tallies.get(task.job_id)
            if tally is not None:
                tally[task.state] = tally.get(task.state, 0) + 1
            return
        self.tasks.put(task)
        if before is None and task.state is TaskState.BLOCKED:
            self._link(task)
        if task.state is TaskState.READY and (before is None or before.state is not task.state):
            self.waits.pop(task.id, None)
            self._enqueue(task)

    def _add_block(self, block: Block) -> None:
        first = block.first
        self.tasks.add(block)
        self._queue(first).blocks.append(block)
        self.census.tasks[TaskState.READY] += block.left

    def _link(self, task: Task) -> None:
        self.waits.setdefault(task.id, len(task.needs))
        for edge in task.needs:
            self.dependants.setdefault(edge.task_id, []).append((task.id, edge.on))

    def _enqueue(self, task: Task) -> None:
        for moment in deadlines(task):
            heapq.heappush(self._timers, (moment, task.id))
        if task.not_before is None:
            self._queue(task).push(task)

    def _queue(self, task: Task) -> ReadyQueue:
        return self.queues.setdefault(self.class_of(task), ReadyQueue())

    def class_of(self, task: Task) -> ClassKey:
        return ClassKey.of(task, self.jobs[task.job_id].project)

    def _wake(self, now: datetime) -> None:
        """Queue the tasks whose backoff is over. Later deadlines keep entries of their own."""
        while self._timers and self._timers[0][0] <= now:
            _, task_id = heapq.heappop(self._timers)
            task = self.tasks.find(task_id)
            waited = task and task.state is TaskState.READY and task.not_before
            if task and waited and waited <= now:
                self._queue(task).push(task)

    def _put_attempt(self, attempt: Attempt) -> None:
        key = attempt.key
        task = self.tasks.find(attempt.task_id)
        live = attempt.state not in ATTEMPT_TERMINAL
        if live and key not in self.holdings:
            assert task is not None, f"{key}: a live attempt of a task that is over"
            self._take(attempt, ClassKey.held(task, attempt, self.jobs[task.job_id].project))
        elif not live and key in self.holdings:
            self._pace(self._give(attempt), attempt)
        if live or not attempt.logs_complete or (task is not None and task.attempt == attempt.n):
            self.attempts[key] = attempt
            self._attempts_of.setdefault(attempt.agent_id, {})[key] = None
        else:
            self._drop_attempt(attempt)
        due = backstop(attempt, task) if task else None
        if due:
            heapq.heappush(self._timers, (due, attempt.task_id))

    def _take(self, attempt: Attempt, holding: ClassKey) -> None:
        self.holdings[attempt.key] = holding
        self.census.hold(holding.requirements, 1)
        self._weigh(holding, 1)
        room = self.rooms.get(attempt.agent_id)
        if room:
            room.take(attempt.key, holding.requirements)
            self._moved[attempt.agent_id] = None

    def _give(self, attempt: Attempt) -> ClassKey:
        holding = self.holdings.pop(attempt.key)
        self.census.hold(holding.requirements, -1)
        self._weigh(holding, -1)
        room = self.rooms.get(attempt.agent_id)
        if room:
            room.give(attempt.key, holding.requirements)
            self._moved[attempt.agent_id] = None
        return holding

    def _pace(self, key: ClassKey, attempt: Attempt) -> None:
        pace_ms = policy.pace_ms(self.paces.pop(key, None), attempt)
        if pace_ms is not None:
            self.paces[key] = pace_ms
        if len(self.paces) > PACES:
            del self.paces[next(iter(self.paces))]

    def _shelve(self) -> None:
        """Put agents where they belong now: each once, however much of it changed."""
        for agent_id in self._moved:
            room = self.rooms.get(agent_id)
            if room is not None and match.takes_work(self.agents[agent_id]):
                self.shelves.put(agent_id, room)
            else:
                self.shelves.drop(agent_id)
        self._moved.clear()

    def _weigh(self, holding: ClassKey, sign: int) -> None:
        change = sign * policy.weight(holding.requirements)
        self.usage[holding.project] = self.usage.get(holding.project, 0) + change

    def _drop_attempt(self, attempt: Attempt) -> None:
        self.attempts.pop(attempt.key, None)
        self._attempts_of.get(attempt.agent_id, {}).pop(attempt.key, None)

    def _drop_spent(self, task: Task) -> None:
        """Drop the members of the task's earlier tries (of an ended task: of all) that are done with."""
        last = task.attempt if task.state in TASK_TERMINAL else task.attempt - 1
        for n in range(max(1, last - 1), last + 1):
            for rank in range(task.spec.num_nodes):
                attempt = self.attempts.get(AttemptKey(task.id, n, rank))
                if attempt and attempt.logs_complete and attempt.state in ATTEMPT_TERMINAL:
                    self._drop_attempt(attempt)

    def _put_agent(self, agent: Agent) -> None:
        before = self.agents.get(agent.id)
        self.census.agent(before, agent)
        self.agents[agent.id] = agent
        if before is not None:
            self._forget_kind(before)
        self._moved[agent.id] = None
        if agent.state is AgentState.GONE:
            self.rooms.pop(agent.id, None)
            return
        self.kinds.setdefault(agent.kind, {})[agent.id] = None
        if agent.id not in self.rooms or (before and before.capacity != agent.capacity):
            room = self.rooms[agent.id] = Room(agent.capacity)
            for key in self._attempts_of.get(agent.id, {}):
                holding = self.holdings.get(key)
                if holding:
                    room.take(key, holding.requirements)

    def _forget_kind(self, agent: Agent) -> None:
        alike = self.kinds.get(agent.kind, {})
        alike.pop(agent.id, None)
        if not alike:
            self.kinds.pop(agent.kind, None)

    def check(self) -> None:
        """Assert what must hold between two turns. For tests and the simulator: it looks at everything."""
        rebuilt = World.load(
            self.jobs.values(),
            self.tasks.values(),
            self.attempts.values(),
            self.agents.values(),
            {},
            self._tallies,
        )
        assert self.holdings == rebuilt.holdings, "holdings"
        # As counters: a state that all have left is 0 in one, and absent in the other.
        assert self.census == rebuilt.census, "census"
        assert {p: u for p, u in self.usage.items() if u} == rebuilt.usage, "usage"
        for agent_id, room in self.rooms.items():
            other = rebuilt.rooms[agent_id]
            assert (room.cpus_milli, room.memory_bytes, sum(room.gpus.values())) == (
                other.cpus_milli,
                other.memory_bytes,
                sum(other.gpus.values()),
            ), f"room of {agent_id}"
        assert self.kinds == rebuilt.kinds, "kinds"
        assert self.shelves.fits == {
            i: shelves.fit(i, r) for i, r in self.rooms.items() if match.takes_work(self.agents[i])
        }, "shelves"
        queued = {place.task_id for queue in self.queues.values() for place in queue.walk()}
        for task in self.tasks.values():
            assert task.job_id in self.jobs, f"{task.id}: its job is over"
            if task.state is TaskState.ACTIVE:
                assert self.attempts_of_task(task.id), f"{task.id}: active without an attempt"
            if task.state is TaskState.BLOCKED:
                assert self.waits[task.id] > 0, f"{task.id}: blocked by nothing"
            if task.state is TaskState.READY and task.not_before is None:
                assert task.id in queued, f"{task.id}: ready but not queued"
        for job in self.jobs.values():
            over = sum(self._tallies[job.id].values())
            live = sum(1 for _ in self.tasks_of(job.id))
            assert over + live == job.total, f"{job.id}: tasks do not add up"
            assert live, f"{job.id}: running with every task over"


def members(attempts: Mapping[AttemptKey, Attempt], task: Task) -> list[Attempt]:
    """The members of a task's current try that `attempts` holds, by rank."""
    keys = (AttemptKey(task.id, task.attempt, rank) for rank in range(task.spec.num_nodes))
    return [attempts[key] for key in keys if key in attempts]
