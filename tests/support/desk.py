"""A scheduler on a desk: a world, a clock that is moved by hand, and short words for events.

After every turn the world is checked, and the delta is replayed into a second world that was rebuilt
from rows, so each test also proves that memory and disk would agree.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import msgspec

from styx.core import event as ev
from styx.core import status
from styx.core.agent import Capacity, Gpu
from styx.core.attempt import TERMINAL as ENDED
from styx.core.attempt import Attempt, AttemptState, Exit
from styx.core.delta import Delta
from styx.core.ids import AgentId, AttemptKey, JobId, TaskId
from styx.core.job import Job
from styx.core.policy import Policy
from styx.core.spec import JobSpec, OnFailure, Requirements, TaskSpec
from styx.core.step import prepare, step
from styx.core.task import Task
from styx.core.world import World

START = datetime(2026, 1, 1, tzinfo=UTC)
GIB = 1 << 30


def a_task(name: str = "t", *, cpus: float = 1, gpus: int = 0, **fields: object) -> TaskSpec:
    wanted = fields.pop("requirements", None) or Requirements(
        cpus_milli=round(cpus * 1_000), gpus=gpus
    )
    return TaskSpec(name=name, argv=("true",), requirements=wanted, **fields)


def a_job(*specs: TaskSpec, name: str = "job", on_failure: OnFailure = OnFailure.SKIP_DESCENDANTS):
    return JobSpec(name=name, tasks=specs, on_failure=on_failure)


def a_capacity(cpus: float = 2, *, gpus: Iterable[str] = (), memory_gib: float = 8) -> Capacity:
    return Capacity(
        cpus_milli=round(cpus * 1_000),
        memory_bytes=round(memory_gib * GIB),
        disk_bytes=100 * GIB,
        gpus=tuple(Gpu(model) for model in gpus),
        arch="x86_64",
    )


@dataclass
class Desk:
    policy: Policy = field(default_factory=lambda: Policy(retry_base_s=10.0))
    now: datetime = START
    world: World = field(default_factory=World)
    check: bool = True
    jobs: dict[JobId, Job] = field(default_factory=dict)  # every job ever, its last row
    tasks: dict[TaskId, Task] = field(default_factory=dict)  # every task ever, its last row
    attempts: dict[AttemptKey, Attempt] = field(default_factory=dict)
    finished: list[str] = field(default_factory=list)  # names, in the order they ended
    started: list[str] = field(default_factory=list)  # names, in the order they were assigned
    _count: int = 0

    # --- turns ------------------------------------------------------------------------------------

    def turn(self, *events: ev.Event) -> Delta:
        """One step, and as many more as it says it left work for."""
        first = self._step(events)
        for _ in range(10_000):
            if not self.world.unfinished:
                return first
            self._step((ev.Ticked(),))
        raise AssertionError("the scheduler never comes to rest")

    def wait(self, seconds: float) -> None:
        """Let time pass, waking at every deadline on the way as the timer does."""
        end = self.now + timedelta(seconds=seconds)
        while True:
            due = self.world.next_deadline()
            if due is None or due > end:
                break
            self.now = max(self.now, due)
            self.turn(ev.Ticked())
        self.now = end
        self.turn(ev.Ticked())

    def _step(self, events: Iterable[ev.Event]) -> Delta:
        before = {i: t.state for i, t in self.tasks.items()}
        delta = step(self.world, tuple(events), self.now, self.policy)
        self.world.apply(delta)
        for task in delta.tasks.values():
            assert task.version == (self.tasks[task.id].version + 1 if task.id in self.tasks else 1)
            if task.finished_at and before.get(task.id) != task.state:
                self.finished.append(task.name)
        self.started += [delta_name(self, a) for a in delta.attempts.values() if a.version == 1]
        self.jobs |= delta.jobs
        self.tasks |= delta.tasks
        self.attempts |= delta.attempts
        if self.check:
            self.world.check()
        return delta

    # --- words ------------------------------------------------------------------------------------

    def submit(
        self,
        *specs: TaskSpec,
        on_failure=OnFailure.SKIP_DESCENDANTS,
        key: str = "",
        project="default",
    ):
        """Submit one job; return the ids of its tasks in order."""
        event = self.submission(a_job(*specs, on_failure=on_failure), key, project)
        self.turn(event)
        return event.task_ids

    def bring(self, *specs: TaskSpec):
        """As `submit`, for a job that was made beside the turns."""
        event = self.submission(a_job(*specs))
        delta, world = prepare(event, self.now, self.policy)
        self.tasks |= delta.tasks
        self.tasks |= {row.id: row for block in delta.blocks for row in block.rows()}
        self.world.join(world)
        self.turn()
        return event.task_ids

    def take(self, spec: JobSpec, taken: Mapping[int, TaskId], *, beside: bool):
        """Submit a job some of whose tasks need not run, in a turn or beside the turns."""
        event = msgspec.structs.replace(self.submission(spec), taken=taken)
        if beside:
            delta, world = prepare(event, self.now, self.policy)
            self.jobs |= delta.jobs
            self.tasks |= delta.tasks
            self.world.join(world)
            self.turn()
        else:
            self.turn(event)
        return event.task_ids

    def submission(self, spec, key: str = "", project: str = "default") -> ev.JobSubmitted:
        ids = tuple(TaskId(self._id()) for _ in range(spec.width))
        self.last_job = JobId(self._id())
        return ev.JobSubmitted(
            self.last_job, ids, spec, project=project, idem_key=key, body_sha256=key
        )

    def join(
        self,
        name: str = "a1",
        capacity: Capacity | None = None,
        *,
        labels=None,
        store="s1",
        boot="boot",
    ):
        """Connect an agent that holds nothing, and bring it in step."""
        agent_id = AgentId(name)
        session = self.connect(name, capacity, labels=labels, store=store, boot=boot)
        self.turn(ev.AgentSynced(agent_id, session, ()))
        return agent_id

    def connect(self, name, capacity=None, *, labels=None, store="s1", boot="boot") -> int:
        event = ev.AgentConnected(
            AgentId(name),
            name,
            store,
            boot,
            "0",
            "10.0.0.1",
            capacity or a_capacity(),
            labels or {},
        )
        welcomed = self.turn(event).answers[0]
        assert isinstance(welcomed, ev.Welcomed)
        return welcomed.session

    def exit(self, task_id: TaskId, code: int | None = 0, *, rank: int = 0, **fields) -> None:
        attempt = self.live(task_id, rank)
        exit_ = Exit(code=code, **fields)
        self.turn(ev.AttemptExited(attempt.key, attempt.agent_id, exit_))

    def start(self, task_id: TaskId, rank: int = 0) -> None:
        attempt = self.live(task_id, rank)
        self.turn(ev.AttemptStarted(attempt.key, attempt.agent_id))

    def run_all(self, limit: int = 100_000) -> None:
        """End every assigned attempt with success, oldest assignment first, until nothing runs."""
        for _ in range(limit):
            live = [a for a in self.world.attempts.values() if a.state not in ENDED]
            if not live:
                return
            self.now += timedelta(milliseconds=1)
            first = min(live, key=lambda a: (a.assigned_at, a.key))
            self.turn(ev.AttemptExited(first.key, first.agent_id, Exit(code=0)))
        raise AssertionError("still running")

    # --- looking ----------------------------------------------------------------------------------

    def live(self, task_id: TaskId, rank: int = 0) -> Attempt:
        found = [
            a
            for a in self.world.attempts.values()
            if a.task_id == task_id and a.rank == rank and a.state not in ENDED
        ]
        assert len(found) == 1, f"{self.status(task_id)}: {len(found)} live attempts"
        return found[0]

    def status(self, task_id: TaskId) -> str:
        task = self.tasks[task_id]
        keys = [AttemptKey(task_id, task.attempt, rank) for rank in range(task.spec.num_nodes)]
        return status.of(task, [self.attempts[k] for k in keys if k in self.attempts])

    def reason(self, task_id: TaskId) -> str:
        return str(self.tasks[task_id].reason)

    def state_of(self, key: AttemptKey) -> AttemptState:
        return self.attempts[key].state

    def _id(self) -> str:
        self._count += 1
        return f"00000000-0000-7000-8000-{self._count:012x}"


def delta_name(desk: Desk, attempt: Attempt) -> str:
    return desk.world.tasks[attempt.task_id].name
