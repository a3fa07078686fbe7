"""What crosses between the engine and the store beside the delta."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

import msgspec

from styx.core.agent import Agent
from styx.core.attempt import Attempt
from styx.core.block import Block
from styx.core.ids import AttemptKey, JobId, TaskId
from styx.core.job import Job
from styx.core.schedule import Schedule
from styx.core.task import Task, TaskState


@dataclass(frozen=True, slots=True)
class Leader:
    """Who leads: its epoch, and the URL at which replicas and agents reach it."""

    term: int
    address: str


@dataclass(frozen=True, slots=True)
class LiveRows:
    """Everything that is not over: what a server must know to go on where the last one fell.

    `jobs` are the running ones; `tasks` those not terminal; `attempts` the live ones, the ended
    ones whose logs are incomplete, and all members of an active task's current try; `agents` all that
    are not forgotten. `settled` holds the final state of each terminal task that a blocked one needs;
    `tallies` the terminal tasks of each running job by state. `blocks` are tasks that are not in `tasks`.
    """

    jobs: Sequence[Job]
    tasks: Sequence[Task]
    attempts: Sequence[Attempt]
    agents: Sequence[Agent]
    settled: dict[TaskId, TaskState]
    tallies: dict[JobId, dict[TaskState, int]]
    blocks: Sequence[Block] = field(default_factory=list[Block])


class ScheduleRow(msgspec.Struct, frozen=True, kw_only=True):
    """A schedule as it stands. `due_at` is the first due time that is not settled; None is never."""

    id: str  # UUIDv7
    name: str
    project: str
    document: str  # of a job, as JSON; "" in a list
    schedule: Schedule
    paused: bool = False
    due_at: datetime | None
    last_due_at: datetime | None = None  # for which a job was made, and which
    last_job_id: JobId | None = None
    passed_at: datetime | None = None  # the last due time for which none was made, and why
    passed_why: str = ""
    created_at: datetime
    version: int = 1


@dataclass(frozen=True, slots=True)
class Chunk:
    """Bytes of one stream (1 stdout, 2 stderr) of one attempt, starting at `offset`."""

    key: AttemptKey
    stream: int
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Gap:
    """Bytes `start` to `end` of a stream that cannot be had here, and why: gone for good (spool_cap,
    disk_full, limit), or on another server's disk.
    """

    stream: int
    start: int
    end: int
    why: str


class SecretRow(msgspec.Struct, frozen=True):
    """What is told of a secret: everything but its value."""

    id: str  # UUIDv7
    name: str
    key_id: str  # of the master key that it is sealed under
    created_at: datetime
    created_by: str
    updated_at: datetime
    updated_by: str


class Found(msgspec.Struct, frozen=True):
    """The value of a secret, or why there is none."""

    value: str
    wanting: str = ""

    def __repr__(self) -> str:
        return f"Found({self.wanting or '***'})"
