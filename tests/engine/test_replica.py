"""A replica follows, leads, pauses, is deposed and leads again; two of them on a real database."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from styx.config import Logs, Scheduler
from styx.engine.loop import Engine, utc_now
from styx.engine.replica import Replica
from styx.errors import StoreUnavailable
from styx.store.election import Election
from styx.store.exchange import Leader
from styx.store.postgres import Database, Pools
from styx.wire import agent as wire
from tests.support import peer
from tests.support.engines import Gate, a_submit, log_files, running, until, within


@asynccontextmanager
async def two(database_url: str, tmp_path: Path) -> AsyncIterator[tuple[Replica, Replica, Pools]]:
    """The first leads, the second follows."""
    pools = await Pools.open(database_url)

    def replica(name: str) -> Replica:
        return Replica(
            Election(pools, Logs(), tmp_path, address=f"http://{name}", token="t"),
            scheduler=Scheduler(),
            clock=utc_now,
            monotonic=asyncio.get_running_loop().time,
            jitter=random.random,
        )

    try:
        first, second = replica("first"), replica("second")
        async with asyncio.TaskGroup() as group:
            group.create_task(first.run())
            await until(lambda: first.engine)
            group.create_task(second.run())
            await until(lambda: second.leader)
            yield first, second, pools
            first.stop()
            second.stop()
        assert first.engine is None
        assert second.engine is None
    finally:  # a loop cannot be closed while a connection is open
        await pools.close()


async def depose(pools: Pools, by: Replica) -> Engine:
    """The leader's lease runs out, as if its renewals did not arrive."""
    async with pools.readers.acquire() as connection:
        term = await connection.fetchval("SELECT term FROM leader_fence")
        while by.engine is None:  # it may have been renewed just then
            await connection.execute(
                "UPDATE leader_lease SET expires_at = '-infinity' WHERE term = $1", term
            )
            await asyncio.sleep(0.3)
    return by.engine


async def test_a_stopped_leader_hands_over(database_url: str, tmp_path: Path):
    async with two(database_url, tmp_path) as (first, second, _):
        assert first.engine is not None
        term = first.engine.store.term
        assert second.leader == Leader(term, "http://first")
        submitted = a_submit()
        await within(first.engine.post(submitted))
        async with peer.connected(first.engine) as agent:
            await agent.introduce()
            first.stop()
            assert (await agent.hear(wire.Bye)).code == wire.CLOSE_RESTART
        successor = await until(lambda: second.engine)
        assert successor.store.term == term + 1
        assert set(successor.world.jobs) == {submitted.job_id}
        assert second.leader is None


async def test_a_deposed_leader_says_where_to_go_and_leads_again(database_url: str, tmp_path: Path):
    async with two(database_url, tmp_path) as (first, second, pools):
        old = first.engine
        assert old is not None
        async with peer.connected(old) as agent:
            await agent.introduce()
            successor = await depose(pools, by=second)
            with pytest.raises(StoreUnavailable):  # whoever still asks it learns nothing
                await within(old.post(a_submit()))
            bye = await agent.hear(wire.Bye)
        assert (bye.code, bye.reason) == (wire.CLOSE_NOT_LEADER, "http://second")
        assert first.engine is None
        assert first.leader == Leader(successor.store.term, "http://second")
        assert not old.healthy
        await within(successor.post(a_submit()))

        again = await depose(pools, by=first)
        assert again is not old
        assert len(again.world.jobs) == 1
        await until(lambda: second.leader == Leader(again.store.term, "http://first"))


async def test_a_leader_without_a_lease_acknowledges_nothing(database: Database, tmp_path: Path):
    """It is cut off from its database, and not from its agents (R-12)."""
    now_s = 100.0
    away = False

    class Cut(Gate):
        async def renew_lease(self) -> None:
            if away:
                raise StoreUnavailable("no route to host")
            await super().renew_lease()

    store = Cut(database)
    async with (
        running(store, log_files(database, tmp_path), monotonic=lambda: now_s) as engine,
        peer.connected(engine) as agent,
    ):
        await agent.introduce()
        await within(engine.post(a_submit()))
        await agent.hear(wire.Assign)
        away = True
        now_s += 8.0
        commits = len(store.commits)
        agent.say(wire.Heartbeat(1))
        with pytest.raises(StoreUnavailable):
            await within(engine.post(a_submit()))
        await agent.hear(wire.Pause)
        assert not engine.leading
        assert len(store.commits) == commits, "it may not decide"
        assert agent.unheard(wire.HeartbeatOk) == []

        away = False
        await agent.hear(wire.Resume)
        await agent.hear(wire.Assign)  # still owed
        await agent.beat(2)
        await within(engine.post(a_submit()))
