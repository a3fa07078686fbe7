"""A database that was restored from a backup knows less than its agents: it kills nothing that it forgot."""

from pathlib import Path

import msgspec
import pytest

from styx.core.ids import AttemptKey, TaskId
from styx.core.spec import TaskSpec
from styx.errors import StaleWrite
from styx.kit import uuid7
from styx.store import pool
from styx.store.postgres import Database
from styx.wire import agent as wire
from tests.support import peer as peers
from tests.support.engines import Gate, a_submit, log_files, running, until, within
from tests.support.peer import AGENT, Peer, a_log, an_end, connected


async def introduce(peer: Peer, *held: wire.Held, **fields: object) -> wire.SyncOk:
    peer.say(msgspec.structs.replace(peers.hello(), **fields))
    await peer.hear(wire.Welcome)
    peer.say(wire.Sync(0, last=True, attempts=held))
    return await peer.hear(wire.SyncOk)


async def elsewhere(database: Database) -> None:
    """As if these rows had been made in another place than where they lie now."""
    async with pool.using(database.writers) as connection:
        await connection.execute("UPDATE leader_fence SET origin = 'elsewhere'")


async def test_a_history_keeps_its_id_until_it_lies_in_another_place(
    database: Database, database_url: str
):
    first = database.generation
    assert first
    await database.close()
    again = await Database.open(database_url)
    assert again.generation == first
    await elsewhere(again)
    await again.close()
    restored = await Database.open(database_url)
    assert restored.generation not in {0, first}
    await restored.close()


async def test_what_only_the_agent_remembers_runs_on_after_a_restore(
    database: Database, tmp_path: Path
):
    unknown = AttemptKey(TaskId(uuid7.new()), 1, 0)
    logs = log_files(database, tmp_path)
    async with running(Gate(database), logs) as engine, connected(engine) as peer:
        held = peers.running(unknown)
        ok = await introduce(peer, held, db_generation=database.generation + 1)
        assert (ok.stop, ok.foreign) == ((), (unknown,))
        assert engine.links.foreign(AGENT) == [unknown]
        peer.say(a_log(unknown, b"on and on"), wire.EvStarted(unknown))
        await peer.hear(wire.LogOk)
        await peer.beat()
        assert peer.unheard(wire.Stop) == []
        await within(engine.post(a_submit(TaskSpec("new", argv=("true",)))))
        new = (await peer.hear(wire.Assign)).key
        peer.say(an_end(new), an_end(unknown))
        await peer.hear(wire.Forget, lambda forget: forget.key == unknown)
        assert engine.links.foreign(AGENT) == []
        await until(lambda: not engine.world.tasks)


@pytest.mark.parametrize("before", ["same", "never told"])
async def test_a_run_without_a_row_proves_a_restore_that_nobody_noticed(
    database: Database, tmp_path: Path, before: str
):
    """A copy of the files, say, put back in their place while no new term began."""
    unknown = AttemptKey(TaskId(uuid7.new()), 1, 0)
    async with (
        running(Gate(database), log_files(database, tmp_path)) as engine,
        connected(engine) as peer,
    ):
        told = database.generation if before == "same" else 0
        ok = await introduce(peer, peers.running(unknown), db_generation=told)
        assert (ok.stop, ok.foreign) == ((), (unknown,))


async def test_what_is_over_by_its_row_is_stopped_after_a_restore_too(
    database: Database, tmp_path: Path
):
    """To the database's place a move to another machine is a restore: nothing may run twice for it."""
    logs = log_files(database, tmp_path)
    async with running(Gate(database), logs) as engine:
        async with connected(engine) as peer:
            await introduce(peer)
            await within(engine.post(a_submit()))
            key = (await peer.hear(wire.Assign)).key
            peer.say(an_end(key))
            await peer.hear(wire.Forget)
            assert key not in engine.world.attempts
        async with connected(engine) as peer:
            told = database.generation + 1
            ok = await introduce(peer, peers.running(key), db_generation=told)
            assert (ok.stop, ok.foreign) == ((key,), ())


async def test_an_agent_that_has_seen_a_later_term_proves_that_the_database_is_older(
    database: Database, database_url: str, tmp_path: Path
):
    first, seen = database.generation, database.term + 40
    async with (
        running(Gate(database), log_files(database, tmp_path)) as engine,
        connected(engine) as peer,
    ):
        peer.say(msgspec.structs.replace(peers.hello(), last_term=seen))
        assert (await peer.hear(wire.Bye)).retry_after_s > 0
        assert AGENT not in engine.world.agents
    with pytest.raises(StaleWrite):
        await database.renew_lease()
    await database.close()
    after = await Database.open(database_url)
    assert after.term > seen, "or its agents would not hear it"
    assert after.generation != first
    await after.close()


async def test_a_term_that_no_server_can_have_had_is_a_fault(database: Database, tmp_path: Path):
    async with (
        running(Gate(database), log_files(database, tmp_path)) as engine,
        connected(engine) as peer,
    ):
        peer.say(msgspec.structs.replace(peers.hello(), last_term=1 << 60))
        assert (await peer.hear(wire.Bye)).code == wire.CLOSE_PROTOCOL
        assert engine.store.term < 1 << 60
