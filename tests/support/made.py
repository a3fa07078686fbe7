"""Rows for tests of the store: valid, and different in every column from what a default would be."""

import itertools
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from styx.core.agent import Agent, AgentState, Capacity, Gpu
from styx.core.attempt import Attempt, AttemptState
from styx.core.delta import Delta
from styx.core.ids import AgentId, AttemptKey, JobId, SpecId, TaskId
from styx.core.job import Job
from styx.core.spec import On, TaskSpec
from styx.core.task import Edge, Task, TaskState

NOW: Final = datetime(2026, 3, 4, 5, 6, 7, 89, tzinfo=UTC)
_count = itertools.count(1)


def new_id() -> str:
    """UUIDs that grow as UUIDv7 do."""
    head = f"{int(NOW.timestamp() * 1_000):012x}7000{0x8000000000000000 + next(_count):016x}"
    return str(uuid.UUID(head))


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def spec(name: str = "demo", **fields: Any) -> TaskSpec:
    return TaskSpec(**{"name": name, "argv": ("echo", "hi"), **fields})


def job(**fields: Any) -> Job:
    base = {"id": new_id(), "name": "demo", "project": "default", "created_at": NOW}
    return Job(**{**base, "total": 1, "version": 1, **fields})


def task(of: Job, its: TaskSpec | None = None, **fields: Any) -> Task:
    id_ = fields.pop("id", None) or new_id()
    base = {"id": id_, "job_id": of.id, "spec_id": id_, "spec": its or spec(), "created_at": NOW}
    return Task(**{**base, "state": TaskState.READY, "ready_at": NOW, "version": 1, **fields})


def array(of: Job, width: int, its: TaskSpec | None = None, **fields: Any) -> list[Task]:
    its = its or spec("sweep", array_count=width)
    first = new_id()
    return [
        task(of, its, id=first if i == 0 else None, spec_id=first, array_index=i, **fields)
        for i in range(width)
    ]


def attempt(of: Task, n: int = 1, **fields: Any) -> Attempt:
    key = AttemptKey(TaskId(of.id), n, fields.pop("rank", 0))
    base = {"key": key, "agent_id": new_id(), "assigned_at": NOW, "version": 1}
    return Attempt(**{**base, **fields})


def agent(**fields: Any) -> Agent:
    base = {
        "id": AgentId(new_id()),
        "name": "agent-001",
        "state": AgentState.READY,
        "session": 3,
        "store_id": "ab" * 16,
        "boot_id": "b",
        "version_text": "0.1.0",
        "address": "10.0.0.1",
        "capacity": Capacity(cpus_milli=4_000, memory_bytes=1 << 33, gpus=(Gpu("a100", 1 << 36),)),
        "labels": {"zone": "here"},
        "joined_at": NOW,
        "changed_at": NOW,
    }
    return Agent(**{**base, "version": 1, **fields})


def needs(*tasks: Task, on: On = On.SUCCESS) -> tuple[Edge, ...]:
    return tuple(Edge(task.id, on) for task in tasks)


def next_version(row: Any, **fields: Any) -> Any:
    return msgspec.structs.replace(row, version=row.version + 1, **fields)


def active(row: Task, **fields: Any) -> Task:
    return next_version(row, **{"state": TaskState.ACTIVE, "attempt": row.attempt + 1, **fields})


def ended(row: Attempt, state: AttemptState = AttemptState.SUCCEEDED, **fields: Any) -> Attempt:
    return next_version(row, **{"state": state, "ended_at": later(9), **fields})


def delta(*rows: Job | Task | Attempt | Agent | Sequence[Task]) -> Delta:
    """What the engine would commit of these rows; specs come with their first task."""
    made = Delta(NOW)
    for row in rows:
        match row:
            case Job():
                made.jobs[JobId(row.id)] = row
            case Task():
                made.tasks[TaskId(row.id)] = row
                if row.version == 1 and row.id == row.spec_id:
                    made.specs[SpecId(row.id)] = row.spec
            case Attempt():
                made.attempts[row.key] = row
            case Agent():
                made.agents[row.id] = row
            case _:
                for one in row:
                    made.tasks[one.id] = one
                    if one.version == 1 and one.id == one.spec_id:
                        made.specs[SpecId(one.id)] = one.spec
    return made
