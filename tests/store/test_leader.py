"""One leader: the lease keeps the second away, the fence keeps the first from writing on."""

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import asyncpg
import msgspec
import pytest

from styx.config import Logs
from styx.core.ids import AttemptKey, TaskId
from styx.errors import SetupError, StaleWrite, StoreUnavailable
from styx.kit import uuid7
from styx.store import leader
from styx.store.election import Election
from styx.store.exchange import Chunk, Leader
from styx.store.logs import LogFiles
from styx.store.pool import Connection
from styx.store.postgres import Database, Pools
from tests.support import made

ROOT: Final = Path(__file__).parent.parent.parent
SERVER: Final = """
import asyncio, sys
from styx.store.postgres import Database

async def main():
    database = await Database.open(sys.argv[1])
    print(database.term, flush=True)
    await asyncio.sleep(3600)

asyncio.run(main())
"""


def server(url: str) -> tuple[subprocess.Popen[bytes], int]:
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER, url],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
    )
    assert process.stdout is not None
    return process, int(process.stdout.readline())


def kill(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


@pytest.fixture
async def patient(database_url: str) -> AsyncIterator[Database]:
    """Nobody who waits for a lock here is given up, however slow the machine."""
    database = await Database.open(database_url, statement_timeout_s=600)
    yield database
    await database.close()


async def execute(database: Database, statement: str, *values: object) -> None:
    async with database.writers.acquire() as connection:
        await connection.execute(statement, *values)


async def test_a_second_server_is_refused_while_the_first_lives(database_url: str):
    process, term = server(database_url)
    with pytest.raises(SetupError, match=f"process {process.pid} on "):
        await Database.open(database_url)
    kill(process)
    # The same machine knows that it is dead, and does not wait for its lease to end.
    database = await Database.open(database_url)
    assert database.term == term + 1
    await database.close()


async def test_a_lease_of_another_machine_is_waited_for(database: Database, database_url: str):
    holder = leader.Holder("elsewhere", "another boot", 1, 0.0)
    await execute(
        database, "UPDATE leader_lease SET holder = $1", msgspec.json.encode(holder).decode()
    )
    with pytest.raises(SetupError, match="process 1 on elsewhere"):
        await Database.open(database_url)
    await execute(database, "UPDATE leader_lease SET expires_at = now()")
    other = await Database.open(database_url)
    await other.close()


async def test_a_process_number_used_again_is_not_the_same_server():
    now = leader.Holder.current()
    assert not now.dead
    assert msgspec.structs.replace(now, started=now.started - 60).dead
    assert not msgspec.structs.replace(now, machine="another", started=0.0).dead


async def test_a_closed_server_leaves_the_lead_free(database_url: str):
    terms: list[int] = []
    for _ in range(2):
        database = await Database.open(database_url)
        terms.append(database.term)
        await database.close()
    assert terms[1] == terms[0] + 1


async def test_renewal_keeps_the_lease_alive(database: Database):
    await execute(database, "UPDATE leader_lease SET expires_at = now()")
    await database.renew_lease()
    async with database.writers.acquire() as connection:
        assert await connection.fetchval("SELECT expires_at > now() + '9 s' FROM leader_lease")


def an_election(pools: Pools, tmp_path: Path, name: str, token: str = "t") -> Election:
    return Election(pools, Logs(), tmp_path / name, address=f"http://{name}", token=token)


async def test_two_replicas_take_turns(database_url: str, tmp_path: Path):
    pools = await Pools.open(database_url)
    first, second = (an_election(pools, tmp_path, name) for name in ("first", "second"))
    assert await first.leader() is None
    assert await second.leader() is None
    taken = await first.take()
    assert taken is not None
    assert await first.leader() is None, "it leads itself"
    assert await second.leader() == Leader(taken[0].term, "http://first")
    assert await second.take() is None
    again = await first.take()
    assert again is not None, "whose outcome may have been unknown"
    await first.release(again[0])
    assert await second.leader() is None
    successor = await second.take()
    assert successor is not None
    assert successor[0].term == again[0].term + 1
    assert await first.take() is None
    for deposed, logs in (taken, again):
        with pytest.raises(StaleWrite):
            await deposed.commit(made.delta(made.agent()))
        with pytest.raises(StaleWrite):
            await deposed.renew_lease()
        with pytest.raises(StoreUnavailable):
            await logs.append([Chunk(AttemptKey(TaskId(uuid7.new()), 1, 0), 1, 0, b"late")])
        await deposed.release()
    assert await first.leader() == Leader(successor[0].term, "http://second")
    await second.release(successor[0])
    await pools.close()


async def test_replicas_share_one_token(database_url: str, tmp_path: Path):
    pools = await Pools.open(database_url)
    first = an_election(pools, tmp_path, "first")
    taken = await first.take()
    assert taken is not None
    stranger = an_election(pools, tmp_path, "stranger", token="another")
    with pytest.raises(SetupError, match="another administrator's token") as refused:
        await stranger.leader()
    assert "STYX_TOKEN" in refused.value.hint
    async with pools.readers.acquire() as connection:
        assert '"another"' not in await connection.fetchval("SELECT holder FROM leader_lease")
    await first.release(taken[0])
    await pools.close()


async def lock_waiters(connection: Connection) -> int:
    return await connection.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        " AND wait_event_type = 'Lock'"
    )


@pytest.mark.parametrize("write", ["commit", "logs", "renew", "release"])
async def test_a_new_term_waits_for_each_write_of_the_old_and_lets_none_follow(
    database: Database, database_url: str, tmp_path: Path, write: str
):
    """E8: each write holds the fence in share mode until it ends."""
    agent, at = made.agent(), AttemptKey(TaskId(uuid7.new()), 1, 0)
    logs = LogFiles(database, tmp_path)
    writes = {
        "commit": lambda: database.commit(made.delta(agent)),
        "logs": lambda: logs.append([Chunk(at, 1, 0, b"data")]),
        "renew": database.renew_lease,
        "release": database.release,
    }
    held = {  # a row that the write wants after the fence
        "commit": "SELECT 1 FROM agents FOR UPDATE",
        "logs": "SELECT 1 FROM log_heads FOR UPDATE",
        "renew": "SELECT 1 FROM leader_lease FOR UPDATE",
        "release": "SELECT 1 FROM leader_lease FOR UPDATE",
    }
    if write == "commit":
        await database.commit(made.delta(agent))
        agent = made.next_version(agent, name="changed")
    if write == "logs":
        await logs.append([Chunk(at, 1, 0, b"da")])
    async with database.readers.acquire() as blocker, database.readers.acquire() as watcher:
        async with blocker.transaction():
            await blocker.execute(held[write])
            old = asyncio.create_task(writes[write]())
            while await lock_waiters(watcher) < 1:
                await asyncio.sleep(0.005)
            new = asyncio.create_task(
                watcher.fetchval("UPDATE leader_fence SET term = term + 1 RETURNING term")
            )
            while await lock_waiters(blocker) < 2:
                assert not new.done(), "it did not wait for the write"
                await asyncio.sleep(0.005)
        await old
        assert await new == database.term + 1
    late = {
        "commit": writes["commit"],
        "logs": lambda: logs.append([Chunk(at, 1, 4, b"late")]),
    }.get(write, database.renew_lease)
    with pytest.raises((StaleWrite, StoreUnavailable)):
        await late()
    logs.close()


async def test_a_leader_frozen_in_a_transaction_does_not_keep_the_lead(
    database_url: str, tmp_path: Path
):
    """E9: its session is ended by the database, well before a lease is over."""
    pools = await Pools.open(database_url, statement_timeout_s=1.0)
    first, second = (an_election(pools, tmp_path, name) for name in ("first", "second"))
    taken = await first.take()
    assert taken is not None
    async with pools.writers.acquire() as frozen:
        await frozen.execute("BEGIN")
        assert await frozen.fetchval(leader.FENCE, taken[0].term)
        await execute(taken[0], "UPDATE leader_lease SET expires_at = now()")
        successor = None
        async with asyncio.timeout(30):
            while successor is None:
                with contextlib.suppress(StoreUnavailable):  # its own patience with locks
                    successor = await second.take()
        with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError)):
            await frozen.execute("COMMIT")
    assert successor[0].term == taken[0].term + 1
    await second.release(successor[0])
    await pools.close()


async def test_after_an_unknown_outcome_nothing_is_committed_before_a_load(patient: Database):
    async with patient.readers.acquire() as blocker, blocker.transaction():
        await blocker.execute("SELECT 1 FROM leader_fence FOR UPDATE")
        commit = asyncio.create_task(patient.commit(made.delta(made.agent())))
        waiting = None
        while waiting is None:
            waiting = await blocker.fetchval(
                "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
                " AND wait_event_type = 'Lock'"
            )
        await blocker.execute("SELECT pg_terminate_backend($1, 10000)", waiting)
        with pytest.raises(StoreUnavailable):
            await commit
    with pytest.raises(StoreUnavailable, match="read again"):
        await patient.commit(made.delta(made.agent()))
    term = patient.term
    assert not (await patient.load()).agents
    assert patient.term == term + 1
    await patient.commit(made.delta(made.agent()))


async def test_a_load_waits_for_a_write_that_may_still_land(patient: Database):
    """Its session outlived its client: the commit's outcome is unknown here, and decided there."""
    patient._unsure = True
    agent = made.agent()
    async with patient.readers.acquire() as zombie:
        async with zombie.transaction():
            await zombie.execute(
                "SELECT 1 FROM leader_fence WHERE term = $1 FOR SHARE", patient.term
            )
            load = asyncio.create_task(patient.load())
            async with patient.readers.acquire() as watcher:
                while not await watcher.fetchval(
                    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                    " AND wait_event_type = 'Lock'"
                ):
                    assert not load.done()
            await zombie.execute(
                "INSERT INTO agents VALUES ($1, 'z', 'ready', 1, '', '', '', '', '{}', '{}', false,"
                " now(), now(), 1)",
                agent.id,
            )
        assert [row.id for row in (await load).agents] == [agent.id]


async def test_a_renewal_does_not_meet_a_change_of_the_term(database: Database):
    for _ in range(20):
        database._unsure = True
        await asyncio.gather(*(database.renew_lease() for _ in range(3)), database.load())


async def test_a_write_of_the_term_before_finds_no_fence(database: Database):
    database._unsure = True
    before = database.term
    await database.load()
    async with database.readers.acquire() as zombie:
        fence = await zombie.fetchval(
            "SELECT 1 FROM leader_fence WHERE term = $1 FOR SHARE", before
        )
    assert fence is None


async def test_a_deposed_server_cannot_move_on_to_a_new_term(database: Database):
    await execute(database, "UPDATE leader_fence SET term = term + 1")
    database._unsure = True
    with pytest.raises(StaleWrite):
        await database.load()
