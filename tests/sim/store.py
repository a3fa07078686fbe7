"""The database in memory: behaves as Postgres does behind `styx.store`, and is shared by all servers.

`Tables` is what is committed; its methods are transactions, each whole or not at all. `MemoryStore`
and `MemoryLogs` are one server's view of it, the twins of `styx.store.postgres.Database` and
`styx.store.logs.LogFiles`. What may go wrong on the way to the database is the `Line`'s affair.
"""

import asyncio
import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol, TypeVar

import msgspec

from styx.core import attempt as attempts
from styx.core import job as jobs
from styx.core import task as tasks
from styx.core.agent import Agent
from styx.core.attempt import Attempt
from styx.core.audit import Entry
from styx.core.block import Block, first_of, in_a_row, may_wait_as_one, untouched
from styx.core.delta import Delta
from styx.core.ids import AgentId, AttemptKey, JobId, SpecId, TaskId
from styx.core.job import Job, JobState
from styx.core.spec import TaskSpec
from styx.core.task import Task, TaskState
from styx.engine.ports import Leader, Store
from styx.errors import (
    StaleWrite,
    StoreError,
    StoreUnavailable,
    WireMismatch,
    WriteRefused,
)
from styx.store import rows
from styx.store.exchange import Chunk, Gap, LiveRows, ScheduleRow
from styx.store.leader import TTL_S
from styx.store.logplan import LIMIT, STREAMS
from styx.store.logs import MAX_ATTEMPT_BYTES, MAX_OFFSET
from styx.store.pool import CLOSE_S

T = TypeVar("T")
StreamKey = tuple[AttemptKey, int]
_NEXT: Final[Mapping[rows.Table, Mapping[Any, frozenset[Any]]]] = {
    rows.JOBS: jobs.NEXT,
    rows.TASKS: tasks.NEXT,
    rows.ATTEMPTS: attempts.NEXT,
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
        self.audit: list[Entry] = []
        self.schedules: dict[str, ScheduleRow] = {}
        self.commits = 0
        self.on_commit: Callable[[int, list[Write]], None] = _unheard
        self.on_guard: Callable[[str], None] = _unheard  # our own code asked for what must not be
        self.on_late: Callable[[], None] = (
            _unheard  # a write landed behind the read that is to know of it
        )
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
        writes: list[Write] = []
        for table, changed in _changed(delta):
            writes += self._updates(table, changed)
        for table, made in _made(delta):
            writes += [Write(table, None, new) for new in made]
        self._unique(writes, delta)
        self._current(writes, delta)
        for write in writes:
            self._put(write)
        for spec_id, spec in delta.specs.items():
            self.specs[spec_id] = spec
        self.audit += delta.audit
        self.commits += 1
        self.on_commit(term, writes)

    def _updates(self, table: rows.Table, changed: list[Any]) -> list[Write]:
        """One statement: the guards speak while it runs, the count of its rows after it."""
        found = [(self._of(table).get(_key(new)), new) for new in changed]
        current = [(old, new) for old, new in found if old and old.version == new.version - 1]
        for old, new in current:
            if table in _NEXT and not _reaches(_NEXT[table], old.state, new.state):
                raise self._guarded(f"{old.state} was to become {new.state} in {table.name}")
            if table is rows.TASKS and new.attempt not in {old.attempt, old.attempt + 1}:
                raise self._guarded(f"attempt {new.attempt} was to follow {old.attempt}")
        if len(current) < len(changed):
            raise StaleWrite(f"{table.name}: not all at the version before")
        return [Write(table, old, _fixed(table, old, new)) for old, new in current]

    def _current(self, writes: list[Write], delta: Delta) -> None:
        for table, old, new in writes:
            if table is rows.ATTEMPTS and old is None and new.n != 1:
                task = delta.tasks.get(new.task_id) or self.tasks.get(new.task_id)
                if task is None or task.attempt != new.n:
                    raise self._guarded(f"attempt {new.n} is not the current one of its task")

    def _guarded(self, what: str) -> WriteRefused:
        self.on_guard(what)
        return WriteRefused(what)

    def _unique(self, writes: list[Write], delta: Delta) -> None:
        submits: set[tuple[str, str]] = set()
        ended = {
            write.new.key
            for write in writes
            if write.table is rows.ATTEMPTS and write.new.state in attempts.TERMINAL
        }
        living: set[tuple[TaskId, int]] = set()
        for table, old, new in writes:
            if old is not None:
                continue
            if _key(new) in self._of(table):
                raise WriteRefused(f"{table.name}_pkey", sqlstate="23505")
            if table is rows.JOBS and new.idem_key:
                submit = (new.project, new.idem_key)
                if submit in self.submits or submit in submits:
                    raise WriteRefused("one_submit", sqlstate="23505")
                submits.add(submit)
            elif table is rows.ATTEMPTS and new.state not in attempts.TERMINAL:
                place = (new.task_id, new.rank)
                if place in living or (place in self.live and self.live[place] not in ended):
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
        blocks = self._blocks(running)
        as_one = {block.first.spec_id for block in blocks}
        return LiveRows(
            [self.jobs[job_id] for job_id in self.jobs if job_id in running],
            [task for task in live if not (task.spec_id in as_one and untouched(task))],
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
            [block for block in blocks if block.left],
        )

    def _blocks(self, running: Collection[JobId]) -> list[Block]:
        arrays: dict[SpecId, list[Task]] = {}
        for task in self.tasks.values():
            if task.job_id in running and may_wait_as_one(task.spec) and not task.needs:
                arrays.setdefault(task.spec_id, []).append(task)
        needed = {edge.task_id for task in self.tasks.values() for edge in task.needs}
        return [
            Block(
                first_of(
                    array[0].job_id, spec_id, array[0].spec, self.jobs[array[0].job_id].created_at
                ),
                [index for index, task in enumerate(array) if not untouched(task)],
            )
            for spec_id, array in arrays.items()
            if spec_id not in needed and in_a_row([task.id for task in array])
        ]

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


def _tables(delta: Delta) -> list[tuple[rows.Table, list[Any]]]:
    return [
        (rows.JOBS, list(delta.jobs.values())),
        (rows.TASKS, [*delta.tasks.values(), *(r for block in delta.blocks for r in block.rows())]),
        (rows.ATTEMPTS, list(delta.attempts.values())),
        (rows.AGENTS, list(delta.agents.values())),
    ]


def _changed(delta: Delta) -> Iterator[tuple[rows.Table, list[Any]]]:
    """All of these before all that are `_made`, as `styx.store.commit` has them."""
    for table, values in _tables(delta):
        yield table, [row for row in values if row.version != 1]


def _made(delta: Delta) -> Iterator[tuple[rows.Table, list[Any]]]:
    for table, values in _tables(delta):
        yield table, [row for row in values if row.version == 1]


def _key(row: Any) -> Any:
    return row.key if isinstance(row, Attempt) else row.id


def _fixed(table: rows.Table, old: Any, new: Any) -> Any:
    """What an update leaves as it was. A column that is no field (`untold`) follows from one."""
    fixed = set(table.fixed) & set(old.__struct_fields__)
    kept = {name: getattr(old, name) for name in fixed if getattr(old, name) != getattr(new, name)}
    return msgspec.structs.replace(new, **kept) if kept else new


def _reaches(ways: Mapping[Any, frozenset[Any]], before: Any, after: Any) -> bool:
    """By any number of moves: a turn may make several, and the database sees where they end."""
    seen, todo = {before}, [before]
    while todo:
        further = ways[todo.pop()] - seen
        seen |= further
        todo += further
    return after in seen


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
        self._reads = 0  # how often the rows have been read again

    async def commit(self, delta: Delta) -> None:
        if self._unsure:
            raise StoreUnavailable("the rows must be read again before the next commit")
        term, reads = self.term, self._reads
        try:
            await self.line.call(lambda: self._land(term, reads, delta))
        except StoreUnavailable:
            self._unsure = True
            raise

    @property
    def generation(self) -> int:
        return 1  # nothing is restored here

    async def surpass(self, seen: int) -> None:
        """Only one who is deposed meets an agent that has seen more."""
        await self.line.call(lambda: self.tables.fence(seen))

    async def load(self) -> LiveRows:
        if self._unsure:
            async with self._leading:
                term = self.term
                self.term = await self.line.call(lambda: self.tables.refence(term))
            self._unsure = False
        rows = await self.line.call(self.tables.load)
        self._reads += 1
        return rows

    def _land(self, term: int, reads: int, delta: Delta) -> None:
        self.tables.commit(term, delta)
        if reads != self._reads:
            self.tables.on_late()

    async def foreign(self, keys: Collection[AttemptKey]) -> list[AttemptKey]:
        known = self.tables.attempts
        return await self.line.call(lambda: [key for key in keys if key not in known])

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
        host, _, number = holder.partition(":")
        mine, _, later = self._holder.partition(":")
        return host == mine and int(number) < int(later)


def _check(stream: int, start: int, end: int) -> None:
    if stream not in STREAMS or not 0 <= start <= end < MAX_OFFSET:
        raise WireMismatch(f"no place in a log: stream {stream}, byte {end}")


def _unheard(*_: object) -> None:
    pass
