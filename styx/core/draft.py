"""A read-your-writes overlay on the world; it ends as `draft.delta`.

Every row goes in through a `put_…`, which checks the state table, counts the version, and keeps the
consequences (room freed, needs settled, job over) in step within the turn.
"""

from collections import deque
from collections.abc import Iterator
from datetime import datetime
from typing import TypeVar

import msgspec

from styx.core import agent as agents
from styx.core import attempt as attempts
from styx.core import census, choice, machine, match
from styx.core import job as jobs
from styx.core import task as tasks
from styx.core.agent import Agent
from styx.core.attempt import Attempt
from styx.core.delta import Delta, Settlement
from styx.core.ids import AgentId, AttemptKey, JobId, SpecId, TaskId
from styx.core.job import Job
from styx.core.policy import Policy, weight
from styx.core.queue import ClassKey, Limit, limit_of
from styx.core.room import Room
from styx.core.shelves import Shelves
from styx.core.spec import On, TaskSpec
from styx.core.task import Task, TaskState
from styx.core.world import World


class Draft:
    """`beside` the turns nothing is placed, so what is alike may be made as one."""

    def __init__(
        self, world: World, now: datetime, policy: Policy, *, beside: bool = False
    ) -> None:
        self.world = world
        self.now = now
        self.policy = policy
        self.beside = beside
        self.delta = Delta(now)
        self.delta.hints.settling = deque(world.settling)
        self.ready: dict[TaskId, None] = {}  # became placeable in this turn
        self.freed: dict[AgentId, None] = dict.fromkeys(
            world.released
        )  # has room it had not before
        self.thinned: set[ClassKey] = set()  # lost a waiting task other than to an agent
        self.dependants: dict[TaskId, list[tuple[TaskId, On]]] = {}  # of tasks made in this turn
        # Agents whose row or room changed in this turn; of the others the world's shelves are right.
        self.touched: dict[AgentId, None] = dict.fromkeys(world.released)
        self._shelves = Shelves()
        self._moved: dict[AgentId, None] = self.touched.copy()  # since they were last put there
        self._rooms: dict[AgentId, Room] = {}
        self._usage: dict[str, int] = {}
        self._active: dict[Limit, int] = {}
        self._ended: dict[JobId, dict[TaskState, int]] = {}

    # --- reading ----------------------------------------------------------------------------------

    def job(self, job_id: JobId) -> Job | None:
        return self.delta.jobs.get(job_id) or self.world.jobs.get(job_id)

    def task(self, task_id: TaskId) -> Task | None:
        """The task, unless it is over."""
        task = self.delta.tasks.get(task_id) or self.world.tasks.find(task_id)
        return None if task is None or task.state in tasks.TERMINAL else task

    def attempt(self, key: AttemptKey) -> Attempt | None:
        return self.delta.attempts.get(key) or self.world.attempts.get(key)

    def agent(self, agent_id: AgentId) -> Agent | None:
        return self.delta.agents.get(agent_id) or self.world.agents.get(agent_id)

    def members(self, task: Task) -> list[Attempt]:
        """The members of the task's current try, by rank."""
        keys = (AttemptKey(task.id, task.attempt, rank) for rank in range(task.spec.num_nodes))
        return [a for key in keys if (a := self.attempt(key)) is not None]

    def attempts_of(self, agent_id: AgentId) -> list[Attempt]:
        """The agent's attempts that live, or whose logs are incomplete."""
        keys = dict.fromkeys(self.world.attempts_of(agent_id))
        keys |= {k: None for k, a in self.delta.attempts.items() if a.agent_id == agent_id}
        return [a for key in keys if (a := self.attempt(key)) is not None]

    def tasks_of(self, job_id: JobId) -> Iterator[Task]:
        """The job's tasks that are not over."""
        yield from (t for i in self.world.tasks_of(job_id) if (t := self.task(i)) is not None)
        for task_id, made in list(self.delta.tasks.items()):
            if made.job_id == job_id and task_id not in self.world.tasks:
                task = self.task(task_id)
                if task is not None:
                    yield task

    def room(self, agent_id: AgentId) -> Room:
        """What the agent has left, for reading."""
        room = self._rooms.get(agent_id) or self.world.rooms.get(agent_id)
        return room or self._room(agent_id)

    def shelves(self) -> Shelves:
        """Where the touched agents stand now."""
        for agent_id in self._moved:
            agent = self.agent(agent_id)
            if agent is not None and match.takes_work(agent):
                self._shelves.put(agent_id, self._room(agent_id))
            else:
                self._shelves.drop(agent_id)
        self._moved.clear()
        return self._shelves

    def usage(self, project: str) -> int:
        return self._usage.get(project, self.world.usage.get(project, 0))

    def class_of(self, task: Task) -> ClassKey:
        return ClassKey.of(task, self._project(task))

    def active(self, limit: Limit) -> int:
        """How many of the tasks that share it are active."""
        return self._active.get(limit, self.world.active(limit))

    def at_limit(self, key: ClassKey) -> bool:
        return key.limit is not None and self.active(key.limit) >= key.limit.parallel

    def waits(self, task_id: TaskId) -> int:
        return self.delta.hints.waits.get(task_id, self.world.waits.get(task_id, 0))

    # --- writing ----------------------------------------------------------------------------------

    def put_spec(self, spec_id: SpecId, spec: TaskSpec) -> None:
        self.delta.specs[spec_id] = spec

    def put_job(self, job: Job) -> None:
        before = self.job(job.id)
        if before:
            machine.check(jobs.NEXT, before.state, job.state)
        self.delta.jobs[job.id] = _versioned(job, self.world.jobs.get(job.id))

    def put_task(self, task: Task) -> None:
        before = self.task(task.id)
        if before:
            machine.check(tasks.NEXT, before.state, task.state)
        self.delta.tasks[task.id] = _versioned(task, self.world.tasks.find(task.id))
        if limit := limit_of(task):
            self._active[limit] = self.active(limit) + census.activity(before, task)
        if task.state is TaskState.READY:
            if task.not_before is None or task.not_before <= self.now:
                self.ready[task.id] = None
        elif before and before.state is TaskState.READY:
            self.ready.pop(task.id, None)
            if task.state is not TaskState.ACTIVE:
                self.thinned.add(self.class_of(task))
        if task.state in tasks.TERMINAL:
            self._settle(task)

    def put_attempt(self, attempt: Attempt) -> None:
        before = self.attempt(attempt.key)
        if before:
            machine.check(attempts.NEXT, before.state, attempt.state)
        live = attempt.state not in attempts.TERMINAL
        if not before:
            assert live, f"{attempt.key}: born dead"
            self._hold(attempt, 1)
        elif before.state not in attempts.TERMINAL and not live:
            self._hold(attempt, -1)
            self.freed[attempt.agent_id] = None
        self.delta.attempts[attempt.key] = _versioned(attempt, self.world.attempts.get(attempt.key))

    def put_agent(self, agent: Agent) -> None:
        before = self.agent(agent.id)
        if before:
            machine.check(agents.NEXT, before.state, agent.state)
            if before.capacity != agent.capacity:
                self._rooms.pop(agent.id, None)
        self.delta.agents[agent.id] = _versioned(agent, self.world.agents.get(agent.id))
        self.freed[agent.id] = None
        self._touch(agent.id)

    # --- consequences -----------------------------------------------------------------------------

    def _settle(self, task: Task) -> None:
        """Queue the news for its dependants, and end the job with its last task."""
        if task.id in self.world.dependants or task.id in self.dependants:
            self.delta.hints.settling.append(Settlement(task.id, task.state, 0))
        job = self.job(task.job_id)
        assert job is not None, f"{task.id}: its job is over"
        ended = self._ended.setdefault(job.id, dict(self.world.tally(job.id)))
        ended[task.state] = ended.get(task.state, 0) + 1
        if sum(ended.values()) == job.total:
            over = msgspec.structs.replace(job, state=jobs.outcome(ended), finished_at=self.now)
            self.put_job(over)

    def _hold(self, attempt: Attempt, sign: int) -> None:
        task = self.delta.tasks.get(attempt.task_id) or self.world.tasks[attempt.task_id]
        wanted = choice.held(task, attempt)
        project = self._project(task)
        self._usage[project] = self.usage(project) + sign * weight(wanted)
        room = self._room(attempt.agent_id)
        (room.take if sign > 0 else room.give)(attempt.key, wanted)
        self._touch(attempt.agent_id)

    def _touch(self, agent_id: AgentId) -> None:
        self.touched[agent_id] = None
        self._moved[agent_id] = None

    def _room(self, agent_id: AgentId) -> Room:
        """The draft's own copy of the agent's room."""
        room = self._rooms.get(agent_id)
        if room is None:
            agent = self.agent(agent_id)
            assert agent is not None, f"{agent_id}: no such agent"
            known = self.world.rooms.get(agent_id)
            if known and agent.capacity == self.world.agents[agent_id].capacity:
                room = known.clone()
            else:
                room = self._fresh_room(agent)
            self._rooms[agent_id] = room
        return room

    def _fresh_room(self, agent: Agent) -> Room:
        room = Room(agent.capacity)
        for attempt in self.attempts_of(agent.id):
            task = self.task(attempt.task_id)
            if task and attempt.state not in attempts.TERMINAL:
                room.take(attempt.key, choice.held(task, attempt))
        return room

    def _project(self, task: Task) -> str:
        job = self.job(task.job_id)
        assert job is not None, f"{task.id}: its job is over"
        return job.project


R = TypeVar("R", Job, Task, Attempt, Agent)


def _versioned(row: R, stored: R | None) -> R:
    """Numbered after the stored row, however often the turn changes it."""
    return msgspec.structs.replace(row, version=stored.version + 1 if stored else 1)
