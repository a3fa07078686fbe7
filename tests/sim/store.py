"""The database in memory: behaves as Postgres does behind `styx.store`, and is shared by all servers.

`Tables` is what is committed; its methods are transactions, each whole or not at all. `MemoryStore`
and `MemoryLogs` are one server's view of it, the twins of `styx.store.postgres.Database` and
`styx.store.logs.LogFiles`. What may go wrong on the way to the database is the `Line`'s affair.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple, Protocol, TypeVar

import msgspec

from styx.core import attempt as attempts
from styx.core import job as jobs
from styx.core import task as tasks
from styx.core.agent import Agent
from styx.core.attempt import Attempt
from styx.core.delta import Delta
from styx.core.ids import AgentId, AttemptKey, JobId, SpecId, TaskId
from styx.core.job import Job, JobState
from styx.core.spec import TaskSpec
from styx.core.task import Task, TaskState
from styx.engine.ports import Leader, Store
from styx.errors import (
    IllegalTransition,
    StaleWrite,
    StoreError,
    StoreUnavailable,
    WireMismatch,
    WriteRefused,
)
from styx.store import rows
from styx.store.exchange import Chunk, Gap, LiveRows
from styx.store.leader import TTL_S
from styx.store.logplan import LIMIT, STREAMS
from styx.store.logs import MAX_ATTEMPT_BYTES, MAX_OFFSET
from styx.store.pool import CLOSE_S

T = TypeVar("T")
StreamKey = tuple[AttemptKey, int]
_FINAL: Final = {
    rows.JOBS: jobs.TERMINAL,
    rows.TASKS: tasks.TERMINAL,
    rows.ATTEMPTS: attempts.TERMINAL,
}


def _never(_: str) -> bool:
    return False


class Lease(NamedTuple):
    term: int
    holder: str
    expires_at: float  # on the database's clock
    address: str = ""


class Write(NamedTuple):
    """One row that a transaction has replaced."""

    table: rows.Table
    old: Any  # None: it is new
    new: Any


class Tables:
    """Everything committed. Raises as a statement would, with nothing changed."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.term = 0
        self.lease = Lease(0, "", float("-inf"))
        self.jobs: dict[JobId, Job] = {}
        self.specs: dict[SpecId, TaskSpec] = {}
        self.tasks: dict[TaskId, Task] = {}
        self.attempts: dict[AttemptKey, Attempt] = {}
        self.agents: dict[AgentId, Agent] = {}
        self.submits: dict[tuple[str, str], JobId] = {}  # one_submit
        self.live: dict[tuple[TaskId, int], AttemptKey] = {}  # one_live
        self.logs: dict[StreamKey, bytearray] = {}  # gaps as zeros
        self.gaps: dict[StreamKey, list[Gap]] = {}
        self.commits = 0
        self.on_commit: Callable[[int, list[Write]], None] = _unheard
        self.on_log: Callable[[int, StreamKey, int, bytes | Gap], None] = _unheard

    # --- leadership ---------------------------------------------------------------------------

    def take(
        self, holder: str, address: str = "", dead: Callable[[str], bool] = _never
    ) -> int | None:
        """Begin a new term; None while the lease of another, who is not known to be `dead`, lives."""
        lease = self.lease
        if lease.expires_at > self.clock() and lease.holder != holder and not dead(lease.holder):
            return None
        self.term += 1
        self.lease = Lease(self.term, holder, self.clock() + TTL_S, address)
        return self.term

    def renew(self, term: int) -> None:
        if self.lease.term != term:
            raise StaleWrite(f"another server has taken the lead from term {term}")
        self.lease = self.lease._replace(expires_at=self.clock() + TTL_S)

    def release(self, term: int) -> None:
        if self.lease.term == term:
            self.lease = self.lease._replace(expires_at=self.clock())

    def refence(self, term: int) -> int:
        self.fence(term)
        self.term += 1
        self.lease = self.lease._replace(term=self.term)
        return self.term

    def leader(self) -> Lease | None:
        return self.lease if self.lease.expires_at > self.clock() else None

    def fence(self, term: int) -> None:
        if self.term != term:
            raise StaleWrite(f"term {term} is over, this is {self.term}")

    # --- rows ---------------------------------------------------------------------------------

    def commit(self, term: int, delta: Delta) -> None:
        self.fence(term)
        writes = [self._checked(*row) for row in _in_order(delta)]
        self._unique(writes, delta)
        for write in writes:
            self._put(write)
        for spec_id, spec in delta.specs.items():
            self.specs[spec_id] = spec
        self.commits += 1
        self.on_commit(term, writes)

    def _checked(self, table: rows.Table, key: Any, new: Any) -> Write:
        old = self._of(table).get(key)
        if new.version == 1:
            if old is not None:
                raise WriteRefused(f"{table.name}: {key} is there already", sqlstate="23505")
            return Write(table, None, new)
        if old is None or old.version != new.version - 1:
            raise StaleWrite(f"{table.name}: {key} is not at version {new.version - 1}")
        if table in _FINAL and old.state in _FINAL[table] and new.state is not old.state:
            raise IllegalTransition(f"{old.state} is final in {table.name}")
        fixed = {
            name: getattr(old, name)
            for name in table.fixed
            if getattr(old, name) != getattr(new, name)
        }
        return Write(table, old, msgspec.structs.replace(new, **fixed) if fixed else new)

    def _unique(self, writes: list[Write], delta: Delta) -> None:
        submits: set[tuple[str, str]] = set()
        ended = {
            (write.new.task_id, write.new.rank)
            for write in writes
            if write.table is rows.ATTEMPTS and write.new.state in attempts.TERMINAL
        }
        living: set[tuple[TaskId, int]] = set()
        for table, old, new in writes:
            if old is not None:
                continue
            if table is rows.JOBS and new.idem_key:
                submit = (new.project, new.idem_key)
                if submit in self.submits or submit in submits:
                    raise WriteRefused("one_submit", sqlstate="23505")
                submits.add(submit)
            elif table is rows.ATTEMPTS and new.state not in attempts.TERMINAL:
                place = (new.task_id, new.rank)
                if place in living or (place in self.live and place not in ended):
                    raise WriteRefused("one_live", sqlstate="23505")
                living.add(place)
        if not self.specs.keys().isdisjoint(delta.specs):
            raise WriteRefused("specs_pkey", sqlstate="23505")

    def _put(self, write: Write) -> None:
        table, _, new = write
        if table is rows.ATTEMPTS:
            place = (new.task_id, new.rank)
            self.attempts[new.key] = new
            if new.state not in attempts.TERMINAL:
                self.live[place] = new.key
            elif self.live.get(place) == new.key:
                del self.live[place]
            return
        if table is rows.JOBS and new.idem_key:
            self.submits[new.project, new.idem_key] = new.id
        self._of(table)[new.id] = new

    def _of(self, table: rows.Table) -> dict[Any, Any]:
        return getattr(self, table.name)

    def load(self) -> LiveRows:
        running = {job.id for job in self.jobs.values() if job.state is JobState.RUNNING}
        live = [
            task
            for _, task in sorted(self.tasks.items())
            if task.job_id in running and task.state not in tasks.TERMINAL
        ]
        current = {(t.id, t.attempt) for t in live if t.state is TaskState.ACTIVE}
        needed = {e.task_id for t in live if t.state is TaskState.BLOCKED for e in t.needs}
        settled: dict[TaskId, TaskState] = {}
        tallies: dict[JobId, dict[TaskState, int]] = {}
        for task in self.tasks.values():
            if task.state in tasks.TERMINAL:
                if task.id in needed:
                    settled[task.id] = task.state
                if task.job_id in running:
                    tally = tallies.setdefault(task.job_id, {})
                    tally[task.state] = tally.get(task.state, 0) + 1
        return LiveRows(
            [self.jobs[job_id] for job_id in self.jobs if job_id in running],
            live,
            [
                attempt
                for attempt in self.attempts.values()
                if attempt.state not in attempts.TERMINAL
                or not attempt.logs_complete
                or (attempt.task_id, attempt.n) in current
            ],
            list(self.agents.values()),
            settled,
            tallies,
        )

    # --- logs ---------------------------------------------------------------------------------

    def append(self, term: int, items: Sequence[Chunk | tuple[StreamKey, Gap]]) -> list[int]:
        """Each item's stream's next wanted offset."""
        self.fence(term)
        return [
            self._append(term, item) if isinstance(item, Chunk) else self._lose(term, *item)
            for item in items
        ]

    def next(self, stream: StreamKey) -> int:
        return len(self.logs.get(stream, b""))

    def heads(self, keys: Sequence[AttemptKey]) -> dict[StreamKey, int]:
        wanted = {(key, stream): self.next((key, stream)) for key in keys for stream in STREAMS}
        return {stream: offset for stream, offset in wanted.items() if offset}

    def _append(self, term: int, chunk: Chunk) -> int:
        stream = (chunk.key, chunk.stream)
        start, end = self.next(stream), chunk.offset + len(chunk.data)
        if chunk.offset <= start < end:
            taken = sum(self.next((chunk.key, number)) for number in STREAMS)
            unseen = chunk.data[start - chunk.offset :]
            kept = unseen[: max(0, MAX_ATTEMPT_BYTES - taken)]
            self.logs.setdefault(stream, bytearray()).extend(kept)
            self.on_log(term, stream, start, kept)
            if len(kept) < len(unseen):
                self._lose(term, stream, Gap(chunk.stream, start + len(kept), end, LIMIT))
        return self.next(stream)

    def _lose(self, term: int, stream: StreamKey, gap: Gap) -> int:
        start = self.next(stream)
        if gap.start <= start < gap.end:
            lost = Gap(stream[1], start, gap.end, gap.why)
            self.logs.setdefault(stream, bytearray()).extend(bytes(gap.end - start))
            self.gaps.setdefault(stream, []).append(lost)
            self.on_log(term, stream, start, lost)
        return self.next(stream)


def _in_order(delta: Delta) -> Iterator[tuple[rows.Table, Any, Any]]:
    """Changed rows before new ones, as `styx.store.commit` has them."""
    for new in (False, True):
        for table, changed in (
            (rows.JOBS, delta.jobs),
            (rows.TASKS, delta.tasks),
            (rows.ATTEMPTS, delta.attempts),
            (rows.AGENTS, delta.agents),
        ):
            for key, row in changed.items():
                if (row.version == 1) is new:
                    yield table, key, row


class Line(Protocol):
    """The way to the database and back."""

    async def call(self, transaction: Callable[[], T]) -> T:
        """Raises: StoreUnavailable (it may have happened, or may happen yet); what it raises."""
        ...


class Direct:
    """Nothing goes wrong."""

    async def call(self, transaction: Callable[[], T]) -> T:
        return transaction()


class MemoryStore:
    """`engine.ports.Store`, as `Database` is. `term` is what fences its writes."""

    def __init__(self, tables: Tables, line: Line, term: int) -> None:
        self.tables = tables
        self.line = line
        self.term = term
        self._leading = asyncio.Lock()
        self._unsure = False

    async def commit(self, delta: Delta) -> None:
        if self._unsure:
            raise StoreUnavailable("the rows must be read again before the next commit")
        term = self.term
        try:
            await self.line.call(lambda: self.tables.commit(term, delta))
        except StoreUnavailable:
            self._unsure = True
            raise

    async def load(self) -> LiveRows:
        if self._unsure:
            async with self._leading:
                term = self.term
                self.term = await self.line.call(lambda: self.tables.refence(term))
            self._unsure = False
        return await self.line.call(self.tables.load)

    async def renew_lease(self) -> None:
        async with self._leading:
            term = self.term
            await self.line.call(lambda: self.tables.renew(term))


class MemoryLogs:
    """`engine.ports.LogStore`, as `LogFiles` is: what another server writes is refused as unavailable."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    async def append(self, chunks: Sequence[Chunk]) -> list[int]:
        for chunk in chunks:
            _check(chunk.stream, chunk.offset, chunk.offset + len(chunk.data))
        return await self._put(chunks)

    async def gap(self, key: AttemptKey, stream: int, start: int, end: int, why: str) -> int:
        _check(stream, start, end)
        gap = Gap(stream, start, end, why.replace("\0", ""))
        return (await self._put([((key, stream), gap)]))[0]

    async def heads(self, keys: Sequence[AttemptKey]) -> dict[StreamKey, int]:
        return await self._store.line.call(lambda: self._store.tables.heads(keys))

    async def _put(self, items: Sequence[Chunk | tuple[StreamKey, Gap]]) -> list[int]:
        term, tables = self._store.term, self._store.tables
        try:
            return await self._store.line.call(lambda: tables.append(term, items))
        except StaleWrite as error:
            raise StoreUnavailable(f"another server writes these logs: {error}") from error


class MemoryElection:
    """`engine.ports.Election` of one replica: `holder` names its process, `HOST:NUMBER`."""

    def __init__(self, tables: Tables, line: Line, holder: str, address: str) -> None:
        self._tables = tables
        self._line = line
        self._holder = holder
        self._address = address

    async def take(self) -> tuple[MemoryStore, MemoryLogs] | None:
        term = await self._line.call(
            lambda: self._tables.take(self._holder, self._address, self._dead)
        )
        if term is None:
            return None
        store = MemoryStore(self._tables, self._line, term)
        return store, MemoryLogs(store)

    async def leader(self) -> Leader | None:
        lease = await self._line.call(self._tables.leader)
        if lease is None or lease.holder == self._holder or self._dead(lease.holder):
            return None
        return Leader(lease.term, lease.address)

    async def release(self, store: Store) -> None:
        with contextlib.suppress(StoreError, TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await self._line.call(lambda: self._tables.release(store.term))

    def _dead(self, holder: str) -> bool:
        """An earlier process of this very machine."""
        host = self._holder.partition(":")[0]
        return holder.partition(":")[0] == host and holder != self._holder


def _check(stream: int, start: int, end: int) -> None:
    if stream not in STREAMS or not 0 <= start <= end < MAX_OFFSET:
        raise WireMismatch(f"no place in a log: stream {stream}, byte {end}")


def _unheard(*_: object) -> None:
    pass
