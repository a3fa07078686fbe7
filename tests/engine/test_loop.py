"""Turns on a real database: commit first, apply after; what arrives meanwhile is the next turn."""

import asyncio
from pathlib import Path

import pytest

from styx.config import Scheduler
from styx.core import event as ev
from styx.core.agent import AgentState, Capacity
from styx.core.ids import AgentId
from styx.core.spec import TaskSpec
from styx.core.task import Reason, TaskState
from styx.engine import loop
from styx.engine.links import Link
from styx.engine.loop import Engine
from styx.errors import LimitReached, StaleWrite, StoreUnavailable, WriteRefused
from styx.kit import uuid7
from styx.store.embedded import EmbeddedPostgres
from styx.store.postgres import Database
from tests.support.engines import Gate, a_submit, log_files, running, until, within


async def test_an_answer_means_that_it_is_durable(database: Database, tmp_path: Path):
    async with running(database, log_files(database, tmp_path)) as engine:
        submit = a_submit()
        assert await within(engine.post(submit)) == ev.Accepted(submit.job_id)
        rows = await database.load()
        assert [job.id for job in rows.jobs] == [submit.job_id]
        assert [task.id for task in rows.tasks] == list(submit.task_ids)
        assert set(engine.world.tasks) == set(submit.task_ids)


async def test_what_arrives_during_a_commit_is_one_turn(database: Database, tmp_path: Path):
    gate = Gate(database)
    async with running(gate, log_files(database, tmp_path)) as engine:
        gate.open.clear()
        first = engine.submit(a_submit())
        await within(gate.waiting.wait())
        others = [engine.submit(a_submit()) for _ in range(50)]
        await asyncio.sleep(0)
        assert engine.world.jobs == {}, "applied before its commit"
        gate.open.set()
        await within(asyncio.gather(first, *others))
        assert [len(delta.jobs) for delta in gate.commits] == [1, 50]


async def test_a_refused_event_is_refused_alone(database: Database, tmp_path: Path):
    gate = Gate(database)
    async with running(gate, log_files(database, tmp_path)) as engine:
        done = a_submit(key="k")
        await within(engine.post(done))
        await within(engine.post(ev.CancelRequested(job_id=done.job_id)))
        assert engine.world.jobs == {}, "only the database knows the key now"

        gate.open.clear()
        held = engine.submit(a_submit())
        batch = [engine.submit(a_submit(key=key)) for key in ("", "k", "other")]
        gate.open.set()
        await within(held)
        results = await within(asyncio.gather(*batch, return_exceptions=True))
        assert [type(result) for result in results] == [ev.Accepted, WriteRefused, ev.Accepted]


async def test_a_full_inbox_refuses_and_recovers(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(loop, "INBOX_LIMIT", 3)
    gate = Gate(database)
    async with running(gate, log_files(database, tmp_path)) as engine:
        gate.open.clear()
        engine.submit(a_submit())
        await within(gate.waiting.wait())
        queued = [engine.submit(a_submit()) for _ in range(3)]
        with pytest.raises(LimitReached):
            await engine.post(a_submit())
        gate.open.set()
        await within(asyncio.gather(*queued))
        await within(engine.post(a_submit()))


async def test_a_commit_of_unknown_outcome_is_read_again(database: Database, tmp_path: Path):
    gate = Gate(database)
    async with running(gate, log_files(database, tmp_path)) as engine:
        gate.lose_outcome = True
        lost = a_submit(key="k")
        with pytest.raises(StoreUnavailable):
            await within(engine.post(lost))
        await until(lambda: engine.healthy)
        assert set(engine.world.jobs) == {lost.job_id}, "it did land"
        answer = await within(engine.post(a_submit(key="k")))
        assert answer == ev.AlreadySubmitted(lost.job_id, "sha")


async def test_a_database_that_goes_away_and_comes_back(tmp_path: Path):
    postgres = EmbeddedPostgres(tmp_path)
    database = await Database.open(await postgres.start())
    try:
        async with running(database, log_files(database, tmp_path)) as engine:
            before = a_submit()
            await within(engine.post(before))
            events = engine.feed.since(None)
            news = asyncio.ensure_future(anext(events))
            await asyncio.sleep(0)

            await postgres.stop()
            with pytest.raises(StoreUnavailable):
                await within(engine.post(a_submit()))
            assert not engine.healthy
            with pytest.raises(StoreUnavailable):
                engine.submit(a_submit())

            await postgres.start()
            await until(lambda: engine.healthy)
            assert set(engine.world.jobs) == {before.job_id}
            assert (await within(news)).kind == "reset", "changes may have been missed"
            await within(engine.post(a_submit()))
    finally:
        await database.close()
        await postgres.stop()


async def test_a_deposed_server_ends_loudly(database: Database, database_url: str, tmp_path: Path):
    engine = await Engine.open(database, log_files(database, tmp_path), scheduler=Scheduler())
    other = await Database.open(database_url)
    waiting = engine.submit(a_submit())
    with pytest.raises(ExceptionGroup) as caught:
        await within(engine.run())
    await other.close()
    assert caught.group_contains(StaleWrite)
    with pytest.raises(StoreUnavailable):
        await waiting
    assert not engine.healthy


async def test_a_stop_finishes_what_is_queued(database: Database, tmp_path: Path):
    gate = Gate(database)
    async with running(gate, log_files(database, tmp_path)) as engine:
        gate.open.clear()
        posts = [engine.submit(a_submit()) for _ in range(3)]
        await within(gate.waiting.wait())
        posts += [engine.submit(a_submit()) for _ in range(3)]
        engine.stop()
        with pytest.raises(StoreUnavailable):
            engine.submit(a_submit())
        gate.open.set()
    assert len(await asyncio.gather(*posts)) == 6
    assert len((await database.load()).jobs) == 6


async def test_time_alone_moves_a_task(database: Database, tmp_path: Path):
    """The timer is armed for an hour, then woken for a deadline that is nearer."""
    gate = Gate(database)
    async with running(gate, log_files(database, tmp_path)) as engine:
        later = a_submit(TaskSpec("later", argv=("true",), queue_timeout_s=3_600))
        await within(engine.post(later))
        soon = a_submit(TaskSpec("soon", argv=("true",), queue_timeout_s=0.05))
        await within(engine.post(soon))
        await until(lambda: soon.job_id not in engine.world.jobs)
        assert later.job_id in engine.world.jobs
        (failed,) = gate.commits[-1].tasks.values()
        assert (failed.state, failed.reason) == (TaskState.FAILED, Reason.QUEUE_TIMEOUT)


async def test_work_larger_than_a_turn_goes_on_by_itself(database: Database, tmp_path: Path):
    gate = Gate(database)
    async with running(gate, log_files(database, tmp_path)) as engine:
        submit = a_submit(TaskSpec("t", argv=("true",), array_count=12_000))
        await within(engine.post(submit))
        await within(engine.post(ev.CancelRequested(job_id=submit.job_id)))
        await until(lambda: not engine.world.jobs)
        assert len(gate.commits) > 2
        assert max(len(delta.tasks) for delta in gate.commits[1:]) <= 5_000


async def test_a_new_server_goes_on_where_the_last_one_fell(database: Database, tmp_path: Path):
    logs = log_files(database, tmp_path)
    async with running(database, logs) as engine:
        submit = a_submit(TaskSpec("first", argv=("true",)), TaskSpec("second", argv=("true",)))
        await within(engine.post(submit))
        before = engine.world.tasks
    async with running(database, logs) as engine:
        assert engine.world.tasks == before


async def test_a_new_server_knows_who_is_away_before_it_places_anything(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    logs = log_files(database, tmp_path)
    async with running(database, logs) as engine:
        for _ in range(4):
            agent_id = await joined(engine)
            assert engine.world.agents[agent_id].state is AgentState.READY
    monkeypatch.setattr(loop, "TURN_EVENTS", 2)
    successor = await Engine.open(database, logs, scheduler=Scheduler())
    assert len(successor.world.agents) == 4
    asked = successor.submit(a_submit())
    async with asyncio.TaskGroup() as group:
        group.create_task(successor.run())
        await within(asked)
        states = {agent.state for agent in successor.world.agents.values()}
        assert (states, successor.world.attempts) == ({AgentState.DISCONNECTED}, {})
        successor.stop()


async def test_heartbeats_count_only_while_the_lease_surely_holds(
    database: Database, tmp_path: Path
):
    now_s = 100.0
    logs = log_files(database, tmp_path)
    engine = await Engine.open(database, logs, scheduler=Scheduler(), monotonic=lambda: now_s)
    assert engine.leading
    now_s += 8.0
    assert not engine.leading


async def joined(engine: Engine) -> AgentId:
    """An agent with a link to this server, in step with it and idle."""
    agent_id = AgentId(uuid7.new())
    room = Capacity(cpus_milli=4_000, memory_bytes=1 << 33, disk_bytes=1 << 33)
    link = Link(engine.monotonic())
    link.agent_id = agent_id
    engine.links.attach(link)
    hello = ev.AgentConnected(agent_id, agent_id, "store", "boot", "0", "10.0.0.1", room, {})
    link.session = (await within(engine.post(hello))).session
    await within(engine.post(ev.AgentSynced(agent_id, link.session, ())))
    link.synced = True
    return agent_id
