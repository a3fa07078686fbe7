"""What the engine needs of the outside. `styx.store` implements it on Postgres and disk."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from styx.core.agent import Agent
from styx.core.attempt import Attempt
from styx.core.delta import Delta
from styx.core.ids import AttemptKey, JobId, TaskId
from styx.core.job import Job
from styx.core.task import Task, TaskState


@dataclass(frozen=True, slots=True)
class LiveRows:
    """Everything that is not over: what a server must know to go on where the last one fell.

    `jobs` are the running ones; `tasks` those not terminal; `attempts` the live ones and the ended
    ones whose logs are incomplete; `agents` all that are not forgotten. `settled` holds the final
    state of each terminal task that a blocked one needs; `tallies` the terminal tasks of each running
    job by state.
    """

    jobs: Sequence[Job]
    tasks: Sequence[Task]
    attempts: Sequence[Attempt]
    agents: Sequence[Agent]
    settled: dict[TaskId, TaskState]
    tallies: dict[JobId, dict[TaskState, int]]


class Store(Protocol):
    async def load(self) -> LiveRows: ...

    async def commit(self, delta: Delta) -> None:
        """Write the delta in one transaction, fenced by the term, each row guarded by its version.

        Raises: StoreUnavailable (outcome unknown), StaleWrite (a newer term or row version is there),
        WriteRefused (a constraint).
        """
        ...


@dataclass(frozen=True, slots=True)
class Chunk:
    """Bytes of one stream (1 stdout, 2 stderr) of one attempt, starting at `offset`."""

    key: AttemptKey
    stream: int
    offset: int
    data: bytes


class LogStore(Protocol):
    async def append(self, chunks: Sequence[Chunk]) -> list[int]:
        """Make the unseen suffix of each chunk durable; return each stream's next wanted offset.

        A chunk past the stream's end is refused whole (its answer says what is wanted), so nothing
        is ever stored twice or with a hole. Raises: StoreUnavailable.
        """
        ...

    async def gap(self, key: AttemptKey, stream: int, start: int, end: int, why: str) -> int:
        """Record that these bytes are gone for good; return the next wanted offset."""
        ...

    async def heads(self, keys: Sequence[AttemptKey]) -> dict[tuple[AttemptKey, int], int]:
        """The next wanted offset of each stream that has any bytes; absent is 0."""
        ...
