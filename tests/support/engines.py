"""A running engine on a real database, and a store whose commits a test may hold back."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from styx.config import Scheduler
from styx.core import event as ev
from styx.core.delta import Delta
from styx.core.ids import AttemptKey, JobId, TaskId
from styx.core.spec import JobSpec, TaskSpec
from styx.engine.loop import Engine
from styx.engine.ports import LiveRows
from styx.errors import StoreUnavailable
from styx.kit import uuid7
from styx.store.logs import LogFiles
from styx.store.postgres import Database

DEADLINE_S = 30.0


@asynccontextmanager
async def running(
    store: Any, logs: Any, *, monotonic: Callable[[], float] | None = None, **settings: Any
) -> AsyncIterator[Engine]:
    """Stopped in order at the end, unless it has ended by itself."""
    engine = await Engine.open(store, logs, scheduler=Scheduler(**settings), monotonic=monotonic)
    async with asyncio.TaskGroup() as group:
        group.create_task(engine.run())
        yield engine
        engine.stop()


class Gate:
    """The real database, with commits that wait at a gate, and a word about each that passed."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.open = asyncio.Event()
        self.open.set()
        self.waiting = asyncio.Event()
        self.commits: list[Delta] = []
        self.lose_outcome = False  # the next commit lands, and nobody is told

    @property
    def term(self) -> int:
        return self._database.term

    @property
    def generation(self) -> int:
        return self._database.generation

    async def surpass(self, seen: int) -> None:
        await self._database.surpass(seen)

    async def load(self) -> LiveRows:
        return await self._database.load()

    async def foreign(self, keys: Collection[AttemptKey]) -> list[AttemptKey]:
        return await self._database.foreign(keys)

    async def renew_lease(self) -> None:
        await self._database.renew_lease()

    async def commit(self, delta: Delta) -> None:
        self.waiting.set()
        await self.open.wait()
        await self._database.commit(delta)
        self.commits.append(delta)
        if self.lose_outcome:
            self.lose_outcome = False
            raise StoreUnavailable("connection reset while waiting for the answer")


def log_files(database: Database, directory: Path) -> LogFiles:
    return LogFiles(database, directory / "logs")


def a_submit(*specs: TaskSpec, key: str = "", sha: str = "sha") -> ev.JobSubmitted:
    spec = JobSpec("job", specs or (TaskSpec("t", argv=("true",)),))
    ids = tuple(TaskId(uuid7.new()) for _ in range(spec.width))
    return ev.JobSubmitted(JobId(uuid7.new()), ids, spec, idem_key=key, body_sha256=sha)


async def until(condition: Callable[[], Any]) -> Any:
    """The first true value, looked for again whenever the loop has nothing better to do."""
    async with asyncio.timeout(DEADLINE_S):
        while not (value := condition()):
            await asyncio.sleep(0.002)
    return value


async def within(awaitable: Awaitable[Any]) -> Any:
    async with asyncio.timeout(DEADLINE_S):
        return await awaitable
