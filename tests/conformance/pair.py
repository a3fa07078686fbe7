"""Postgres and the simulator's memory side by side: each command goes to both, and both must say the same.

Two servers share one database on either side. On the way to the real one stands `cut.Line`, on the way to
the other one `MemoryLine`: what is cut here is cut there.
"""

import contextlib
import itertools
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar
from urllib.parse import parse_qs, quote, urlsplit

import asyncpg
import msgspec
import pytest

from styx.config import Logs
from styx.core.audit import Entry, Link
from styx.core.delta import Delta
from styx.core.ids import AttemptKey
from styx.errors import StoreError, StoreUnavailable, StyxError
from styx.store import breaker, leader, pool, rows
from styx.store.election import Election
from styx.store.exchange import Chunk, Leader, LiveRows
from styx.store.logs import LogFiles
from styx.store.postgres import Database, Pools
from tests.conformance import cut
from tests.conformance.cut import Fate
from tests.sim.store import Lease, MemoryElection, MemoryLogs, MemoryStore, Tables
from tests.support.postgres import ROWS

T = TypeVar("T")
NAMES: Final = ("a", "b")
PATIENCE_S: Final = 60.0  # of everything that a clock would end
GUARDED: Final = ("jobs", "specs", "tasks", "attempts", "agents")
# What Postgres may say instead of doing it, each at the commit: serialization failure, deadlock, no lock,
# cancelled, disk full, read-only.
REFUSALS: Final = ("40001", "40P01", "55P03", "57014", "53100", "25006")
Fault = Fate | str  # a word of `REFUSALS`
Outcome = tuple[str, Any]  # "ok" and the answer, or the error's class

FAULTS: Final = """
CREATE TABLE the_fault (state text NOT NULL);
INSERT INTO the_fault VALUES ('');
CREATE FUNCTION fail_as_told() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE told text;
BEGIN
    SELECT state INTO told FROM the_fault;
    IF told <> '' THEN RAISE EXCEPTION 'as told' USING ERRCODE = told; END IF;
    RETURN NULL;
END $$;
""" + "".join(
    f"CREATE CONSTRAINT TRIGGER fault AFTER INSERT OR UPDATE ON {table}"
    " DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION fail_as_told();\n"
    for table in GUARDED
)
CLEAR: Final = f"""
{"".join(f"DELETE FROM {table};" for table in ROWS)}
UPDATE leader_lease SET term = 0, holder = '', expires_at = '-infinity';
"""
_driver: Any = asyncpg  # it ships no types


class MemoryLine:
    """`tests.sim.store.Line`, with a fate for its next call."""

    def __init__(self, tables: Tables) -> None:
        self.fault: Fault = Fate.LANDS
        self._tables = tables
        self._late: list[Callable[[], object]] = []

    async def call(self, transaction: Callable[[], T]) -> T:
        fault, self.fault = self.fault, Fate.LANDS
        match fault:
            case Fate.LANDS:
                return transaction()
            case Fate.UNHEARD:
                with contextlib.suppress(StoreError):
                    transaction()
            case Fate.LATE:
                self._late.append(transaction)
            case Fate.VANISHES:
                pass
            case _:
                self._roll_back(transaction)
        raise StoreUnavailable("as told")

    def settle(self) -> None:
        late, self._late = self._late, []
        for transaction in late:
            with contextlib.suppress(StoreError):
                transaction()

    def _roll_back(self, transaction: Callable[[], object]) -> None:
        """Run it for its errors only."""
        kept = {
            name: value.copy() if isinstance(value, dict | list) else value
            for name, value in vars(self._tables).items()
        }
        try:
            transaction()
        finally:
            vars(self._tables).update(kept)


class Opened(NamedTuple):
    """One server's term, on both sides."""

    real: Database
    real_logs: LogFiles
    model: MemoryStore
    model_logs: MemoryLogs


class Server:
    def __init__(self, name: str, site: "Site", tables: Tables) -> None:
        address = f"http://{name}"
        self.line, self.pools = site.lines[name], site.pools[name]
        self.memory_line = MemoryLine(tables)
        # Of both, as replicas may share one.
        self.real = Election(self.pools, Logs(), site.directory, address=address, token="shared")
        self.model = MemoryElection(tables, self.memory_line, f"{name}:1", address)
        self.opened: Opened | None = None


class Site(NamedTuple):
    """What many sequences share: one real database, and each server's line to it."""

    admin: Any
    lines: dict[str, cut.Line]
    pools: dict[str, Pools]
    directory: Path


@contextlib.contextmanager
def _patience() -> Generator[None]:
    """A machine that is busy with other things breaks no line: only a fate does."""
    names = ((pool, "ACQUIRE_S"), (pool, "CONNECT_S"), (breaker, "QUIET_S"), (leader, "TTL_S"))
    with pytest.MonkeyPatch.context() as patch:
        for module, name in names:
            patch.setattr(module, name, PATIENCE_S)
        yield


@asynccontextmanager
async def opened(url: str, directory: Path) -> AsyncGenerator[Site]:
    """On a database of this version's schema, which is not used for anything else after."""
    parts = urlsplit(url)
    socket = Path(parse_qs(parts.query)["host"][0]) / ".s.PGSQL.5432"
    async with AsyncExitStack() as stack:
        stack.enter_context(_patience())
        admin = await _driver.connect(url)
        stack.push_async_callback(admin.close)
        await admin.execute(FAULTS)
        lines: dict[str, cut.Line] = {}
        pools: dict[str, Pools] = {}
        for name in NAMES:
            line = lines[name] = await stack.enter_async_context(cut.listening(socket))
            pools[name] = await Pools.open(
                f"postgresql://{quote(parts.username or '')}@127.0.0.1:{line.port}{parts.path}"
                "?sslmode=disable",
                statement_timeout_s=PATIENCE_S,
            )
            stack.push_async_callback(pools[name].close)
        yield Site(admin, lines, pools, directory)


class Pair:
    """One sequence of commands, from an empty database on. `said` counts what both sides said to what."""

    def __init__(self, site: Site, tables: Tables, said: Counter[str]) -> None:
        self._site = site
        self.tables = tables
        self.said = said
        self.servers = {name: Server(name, site, tables) for name in NAMES}

    @classmethod
    async def begin(cls, site: Site, said: Counter[str]) -> "Pair":
        await site.admin.execute(CLEAR)
        tables = Tables(lambda: 0.0)
        tables.term = await site.admin.fetchval("SELECT term FROM leader_fence")
        return cls(site, tables, said)

    def leads(self, name: str) -> bool:
        opened = self.servers[name].opened
        return opened is not None and opened.model.term == self.tables.term

    def unsure(self, name: str) -> bool:
        """Whether the next commit would be refused until it has loaded."""
        opened = self.servers[name].opened
        return opened is not None and opened.model._unsure

    async def take(self, name: str, fault: Fault) -> None:
        server = self.servers[name]
        if server.opened:
            await self.release(name)
        async with self._fault(server, fault, at_commit=True):
            real, model = await self._both("take", server.real.take(), server.model.take(), _taken)
        if real and model:
            server.opened = Opened(*real, *model)

    async def release(self, name: str) -> None:
        server = self.servers[name]
        if server.opened:
            was, server.opened = server.opened, None
            await server.real.release(was.real)
            await server.model.release(was.model)

    async def expire(self) -> None:
        """As if the leader had been silent for longer than its lease."""
        await self._site.admin.execute("UPDATE leader_lease SET expires_at = '-infinity'")
        self.tables.lease = self.tables.lease._replace(expires_at=float("-inf"))

    async def leader(self, name: str) -> None:
        server = self.servers[name]
        await self._both("leader", server.real.leader(), server.model.leader(), _leader)

    async def renew(self, name: str, fault: Fault) -> None:
        if opened := self.servers[name].opened:
            async with self._fault(self.servers[name], fault):
                await self._both("renew", opened.real.renew_lease(), opened.model.renew_lease())

    async def load(self, name: str, fault: Fault) -> LiveRows | None:
        opened = self.servers[name].opened
        if opened is None:
            return None
        async with self._fault(self.servers[name], fault, at_commit=True):
            _, rows_ = await self._both("load", opened.real.load(), opened.model.load(), _by_id)
        assert opened.real.term == opened.model.term
        return rows_

    async def commit(self, name: str, delta: Delta, fault: Fault) -> None:
        if opened := self.servers[name].opened:
            async with self._fault(self.servers[name], fault):
                await self._both("commit", opened.real.commit(delta), opened.model.commit(delta))

    async def append(self, name: str, chunks: Sequence[Chunk], fault: Fault) -> None:
        opened = self.servers[name].opened
        if opened is None:
            return
        leads = self.leads(name)
        keys = [chunk.key for chunk in chunks]
        with contextlib.suppress(StoreUnavailable):
            await opened.real_logs.heads(keys)  # the fate is not to meet their reading
        # What brings nothing new is answered without a statement: no line can break under it.
        async with self._fault(self.servers[name], fault if self._new(chunks) else Fate.LANDS):
            if leads:
                real, model = opened.real_logs.append(chunks), opened.model_logs.append(chunks)
                await self._both("append", real, model)
                return
            # Deposed: it writes nothing, and may still say of what it knows that it is there.
            said, answer = await _outcome(opened.real_logs.append(chunks))
            if said == "ok":
                for chunk, wanted in zip(chunks, answer, strict=True):
                    assert wanted <= self.tables.next((chunk.key, chunk.stream))
            else:
                assert said == StoreUnavailable.__name__, said

    def _new(self, chunks: Sequence[Chunk]) -> bool:
        return any(
            chunk.offset
            <= self.tables.next((chunk.key, chunk.stream))
            < chunk.offset + len(chunk.data)
            for chunk in chunks
        )

    async def gap(self, name: str, key: AttemptKey, start: int, end: int) -> None:
        opened = self.servers[name].opened
        if opened and self.leads(name):
            await self._both(
                "gap",
                opened.real_logs.gap(key, 1, start, end, "spool_cap"),
                opened.model_logs.gap(key, 1, start, end, "spool_cap"),
            )

    async def settle(self, name: str) -> None:
        """What was late at this server lands, or is refused."""
        server = self.servers[name]
        await server.line.settle()
        server.memory_line.settle()

    async def end(self, *, compare: bool) -> None:
        for name in NAMES:
            if compare:
                await self.settle(name)
        if compare:
            await self._compare_rows()
            await self._compare_logs()
        for name in NAMES:
            await self.release(name)

    @asynccontextmanager
    async def _fault(
        self, server: Server, fault: Fault, *, at_commit: bool = False
    ) -> AsyncGenerator[None]:
        if fault is Fate.LANDS:
            yield
            return
        if isinstance(fault, Fate):
            for connections in (server.pools.writers, server.pools.readers):
                async with pool.using(connections) as connection:  # one that is not just being made
                    await connection.execute("SELECT 1")
            server.line.fate, server.line.at_commit = fault, at_commit
        else:
            await self._site.admin.execute(f"UPDATE the_fault SET state = '{fault}'")
        server.memory_line.fault = fault
        try:
            yield
        finally:
            server.line.fate = server.memory_line.fault = Fate.LANDS
            if not isinstance(fault, Fate):
                await self._site.admin.execute("UPDATE the_fault SET state = ''")

    async def _both(
        self,
        what: str,
        real: Awaitable[Any],
        model: Awaitable[Any],
        compared: Callable[[Any], Any] = lambda value: value,
    ) -> tuple[Any, Any]:
        """What each said, if it is the same; of an error, nothing."""
        (word, real_said), (model_word, model_said) = await _outcome(real), await _outcome(model)
        assert word == model_word, (
            f"Postgres: {word} {real_said!r} {getattr(real_said, 'context', '')};"
            f" memory: {model_word} {model_said!r}"
        )
        self.said[f"{what}: {word}"] += 1
        if word != "ok":
            return None, None
        assert compared(real_said) == compared(model_said)
        return real_said, model_said

    async def _compare_rows(self) -> None:
        tables = self.tables
        async with pool.using(self.servers["a"].pools.readers) as connection:
            shared = {row["id"]: rows.shared(row) for row in await _all(connection, "specs")}
            real = {
                "jobs": {row["id"]: rows.job(row) for row in await _all(connection, "jobs")},
                "specs": {id_: of.spec for id_, of in shared.items()},
                "tasks": {
                    row["id"]: rows.task(row, shared[row["spec_id"]])
                    for row in await _all(connection, "tasks")
                },
                "attempts": {
                    (made := rows.attempt(row)).key: made
                    for row in await _all(connection, "attempts")
                },
                "agents": {row["id"]: rows.agent(row) for row in await _all(connection, "agents")},
            }
            trail = [Link(*row.values()) for row in await _all(connection, "audit ORDER BY seq")]
            lease = await connection.fetchrow(
                "SELECT f.term, l.term AS held, l.expires_at > now() AS alive"
                " FROM leader_fence f, leader_lease l"
            )
        for name, found in real.items():
            assert found == getattr(tables, name), name
        assert [msgspec.json.decode(link.text, type=Entry) for link in trail] == tables.audit
        assert all(link.holds for link in trail)
        assert all(link.follows(before) for before, link in itertools.pairwise(trail))
        assert lease["term"] == tables.term
        if tables.lease != Lease(0, "", float("-inf")):
            assert lease["held"] == tables.lease.term
            assert lease["alive"] == (tables.leader() is not None)

    async def _compare_logs(self) -> None:
        opened = next((s.opened for s in self.servers.values() if s.opened), None)
        if opened is None:
            return
        for (key, stream), written in self.tables.logs.items():
            gaps = self.tables.gaps.get((key, stream), [])
            whole = bytes(written[: min((gap.start for gap in gaps), default=len(written))])
            read = await opened.real_logs.read(key, stream, 0, len(written) + 1)
            assert read == whole, (key, stream)


async def _all(connection: pool.Connection, table: str) -> list[Any]:
    return await connection.fetch(f"SELECT * FROM {table}")


async def _outcome(command: Awaitable[Any]) -> Outcome:
    try:
        return "ok", await command
    except StyxError as error:
        return type(error).__name__, error


def _taken(opened: Any) -> object:
    return opened and opened[0].term


def _leader(found: Leader | None) -> object:
    return found and (found.term, found.address)


def _by_id(loaded: LiveRows) -> object:
    return (
        {row.id: row for row in (*loaded.jobs, *loaded.tasks, *loaded.agents)},
        {attempt.key: attempt for attempt in loaded.attempts},
        loaded.settled,
        loaded.tallies,
    )
