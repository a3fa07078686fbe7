"""The database stops, stalls, throws us out, turns read-only or is full: told at once, hung on never."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import psutil
import pytest

from styx.errors import SetupError, StoreUnavailable
from styx.store import breaker, pool
from styx.store.embedded import EmbeddedPostgres
from styx.store.postgres import Database
from tests.support import made

TOLD_WITHIN_S = 2.0
SLACK_S = 1.5  # of a machine that has other things to do


class Own:
    """A Postgres of the test's own, whose processes it may stop."""

    def __init__(self, home: Path) -> None:
        self._embedded = EmbeddedPostgres(home)
        self._pid = home / "postgres" / "data" / "postmaster.pid"

    async def start(self) -> str:
        return await self._embedded.start()

    async def stop(self) -> None:
        await self._embedded.stop()

    @contextmanager
    def stalled(self) -> Iterator[None]:
        """As a machine whose disk or hypervisor hangs: connections stay, and nothing answers."""
        postmaster = psutil.Process(int(self._pid.read_text().split()[0]))
        processes = [postmaster, *postmaster.children(recursive=True)]
        for process in processes:
            process.suspend()
        try:
            yield
        finally:
            for process in processes:
                process.resume()


@pytest.fixture
async def own(tmp_path: Path) -> AsyncIterator[Own]:
    postgres = Own(tmp_path)
    yield postgres
    await postgres.stop()


def refusal(state: str, words: str) -> bytes:
    """An ErrorResponse of Postgres's protocol, 3.0."""
    fields = b"".join(
        f"{kind}{text}\0".encode()
        for kind, text in zip("SCM", ("FATAL", state, words), strict=True)
    )
    return b"E" + (len(fields) + 5).to_bytes(4, "big") + fields + b"\0"


async def test_a_database_that_is_starting_up_is_waited_for():
    answers = [refusal("57P03", "the database system is starting up")] * 2
    answers.append(refusal("3D000", "so it has started, and lacks this database"))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if int.from_bytes(await reader.readexactly(4), "big") == 8:  # whether it speaks TLS
            await reader.readexactly(4)
            writer.write(b"N")
            await reader.readexactly(4)
        writer.write(answers.pop(0))
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(SetupError, match="so it has started"):
            await pool.connect(f"postgresql://styx@127.0.0.1:{port}/styx")
    assert not answers


async def unavailable(action: Awaitable[Any]) -> StoreUnavailable:
    """Told in time, and without a word of the database's own."""
    started = time.monotonic()
    with pytest.raises(StoreUnavailable) as told:
        await action
    assert time.monotonic() - started < TOLD_WITHIN_S + SLACK_S
    for word in ("SELECT", "socket", "127.0.0.1", "backend", "relation", "transaction", "/"):
        assert word not in told.value.message
    return told.value


async def works(database: Database) -> None:
    async with asyncio.timeout(30):
        while True:
            try:
                await database.load()
                await database.commit(made.delta(made.agent()))
            except StoreUnavailable:
                await asyncio.sleep(0.05)
            else:
                return


async def test_a_stalled_database_is_told_at_once_and_noticed_when_it_is_back(own: Own):
    database = await Database.open(await own.start())
    await database.commit(made.delta(made.job()))
    assert await database.query.jobs()
    with own.stalled():
        await asyncio.gather(
            unavailable(database.commit(made.delta(made.job()))),
            *(unavailable(database.query.jobs()) for _ in range(20)),
            unavailable(database.renew_lease()),
        )
        started = time.monotonic()
        await unavailable(database.query.jobs())
        assert time.monotonic() - started < 1.5  # nobody waits for what is known
    started = time.monotonic()
    await works(database)
    assert time.monotonic() - started < 5 + SLACK_S
    assert await database.query.jobs()
    await database.close()


async def test_a_stopped_database_refuses_and_a_started_one_serves(own: Own):
    database = await Database.open(await own.start())
    await database.commit(made.delta(made.job()))
    await own.stop()
    await unavailable(database.commit(made.delta(made.job())))
    await unavailable(database.query.jobs())
    await own.start()
    await works(database)
    assert len(await database.query.jobs()) == 1
    await database.close()


async def test_a_slow_statement_is_no_outage(database: Database):
    async def slow(connections: pool.Pool) -> None:
        async with pool.using(connections) as connection:
            await connection.execute("SELECT pg_sleep($1)", 3 * breaker.QUIET_S)
        await connections.breaker.enter()

    await asyncio.gather(slow(database.readers), slow(database.writers))


async def test_an_exhausted_pool_is_told_in_time(database: Database):
    async with asyncio.TaskGroup() as group:
        begun: list[asyncio.Event] = []

        async def hold(ready: asyncio.Event, let_go: asyncio.Event) -> None:
            async with pool.using(database.readers):
                ready.set()
                await let_go.wait()

        let_go = asyncio.Event()
        for _ in range(8):
            begun.append(asyncio.Event())
            group.create_task(hold(begun[-1], let_go))
        for ready in begun:
            await ready.wait()
        await unavailable(database.query.jobs())
        let_go.set()
    assert await database.query.jobs() == []


async def test_whoever_is_thrown_out_at_any_statement_is_told_and_let_in_again(
    database: Database, database_url: str
):
    """Every backend is ended again and again while commits and reads go on: none is lost, none hangs."""
    kept: list[str] = []
    over = asyncio.Event()

    async def throw_out() -> None:
        connection = await asyncpg.connect(database_url)
        for times in range(200):
            if times >= 15 and kept:
                break
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            # A busy machine may commit nothing between two of them, until they are further apart.
            await asyncio.sleep(0.03 * max(1.0, times / 15))
        await connection.close()
        over.set()

    async def write() -> None:
        while not over.is_set():
            job = made.job()
            try:
                await database.commit(made.delta(job, made.task(job)))
                kept.append(job.id)
            except StoreUnavailable:
                await works(database)

    async def read() -> None:
        while not over.is_set():
            try:
                await database.query.jobs()
            except StoreUnavailable:
                await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        for action in (throw_out, write, read, read):
            group.create_task(action())
    await works(database)
    assert kept
    assert set(kept) <= {job.id for job in (await database.load()).jobs}


async def test_a_read_only_database_serves_readers(own: Own):
    database = await Database.open(url := await own.start())
    job = made.job()
    await database.commit(made.delta(job))
    operator = await asyncpg.connect(url)
    await operator.execute("ALTER SYSTEM SET default_transaction_read_only = on")
    await operator.execute("SELECT pg_reload_conf()")
    while await database.query._fetch("SHOW default_transaction_read_only") != [("on",)]:
        await asyncio.sleep(0.02)
    await unavailable(database.commit(made.delta(made.job())))
    await unavailable(database.renew_lease())
    await unavailable(database.load())
    assert await database.query.jobs() == [job]
    await operator.execute("SET default_transaction_read_only = off")
    await operator.execute("ALTER SYSTEM RESET default_transaction_read_only")
    await operator.execute("SELECT pg_reload_conf()")
    await operator.close()
    await works(database)
    await database.close()


async def test_a_lane_keeps_one_connection_and_lends_another_beside_it(database: Database):
    lane = database.log_writer
    async with lane.using() as first, lane.using() as second:
        assert first is not second
    async with lane.using() as kept:
        assert kept is second
    kept.terminate()
    async with lane.using() as fresh:  # at once: nobody is told that the old one is gone
        assert fresh is not kept
        assert await fresh.fetchval("SELECT 1") == 1
