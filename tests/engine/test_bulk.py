"""Jobs too big for a turn: committed beside the turns, in the world whole, and there once whatever breaks."""

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from styx.core import block
from styx.core import event as ev
from styx.core.delta import Delta
from styx.core.ids import TaskId
from styx.core.spec import Need, TaskSpec
from styx.engine import bulk
from styx.errors import StoreUnavailable, WriteRefused
from styx.kit import uuid7
from styx.store import commit
from styx.store.postgres import Database
from tests.support.engines import Gate, a_submit, log_files, running, until, within

BIG = 10


class Beside(Gate):
    """The gate holds back big jobs only."""

    async def commit(self, delta: Delta) -> None:
        if len(delta.tasks) > BIG:
            await super().commit(delta)
        else:
            await self._database.commit(delta)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "TASKS", BIG)


@pytest.fixture
def beside(database: Database) -> Beside:
    return Beside(database)


def a_chain(length: int = BIG + 1, **fields: Any) -> ev.JobSubmitted:
    first = TaskSpec("t0", argv=("true",))
    rest = (TaskSpec(f"t{n}", argv=("true",), needs=(Need(f"t{n - 1}"),)) for n in range(1, length))
    return a_submit(first, *rest, **fields)


async def test_turns_go_on_while_a_big_job_is_committed(beside: Beside, tmp_path: Path):
    async with running(beside, log_files(beside._database, tmp_path)) as engine:
        beside.open.clear()
        big = a_chain()
        waiter = engine.submit(big)
        await within(beside.waiting.wait())
        small = a_submit()
        await within(engine.post(small))
        assert small.job_id in engine.world.jobs
        assert not waiter.done()
        assert big.job_id not in engine.world.jobs
        beside.open.set()
        assert await within(waiter) == ev.Accepted(big.job_id)
        engine.world.check()
        assert set(big.task_ids) < set(engine.world.tasks)
        # The next turn has looked at what may run.
        await until(lambda: not engine.world.unfinished)
        (queue,) = engine.world.queues.values()
        assert queue.stuck
        restored = await beside.load()
        assert {task.id for task in restored.tasks} == set(engine.world.tasks)
        (link, other) = await beside._database.query.audit(after=0, limit=9)
        assert other.follows(link)


async def test_a_key_makes_one_big_job(beside: Beside, tmp_path: Path):
    async with running(beside, log_files(beside._database, tmp_path)) as engine:
        first = a_chain(key="once", sha="a")
        second = engine.submit(first), engine.submit(a_chain(key="once", sha="a"))
        assert await within(second[0]) == ev.Accepted(first.job_id)
        with pytest.raises(WriteRefused):  # the database knows: the caller asks it
            await within(second[1])
        again = await within(engine.post(a_chain(key="once", sha="b")))
        assert again == ev.AlreadySubmitted(first.job_id, "a")


async def test_a_big_job_of_unknown_outcome_is_there_once_after_the_next_look(
    beside: Beside, tmp_path: Path
):
    async with running(beside, log_files(beside._database, tmp_path)) as engine:
        beside.lose_outcome = True
        big = a_chain(key="k")
        with pytest.raises(StoreUnavailable):
            await within(engine.post(big))
        await until(lambda: engine.healthy and big.job_id in engine.world.jobs)
        engine.world.check()
        again = await within(engine.post(a_chain(key="k")))
        assert isinstance(again, ev.AlreadySubmitted)


async def test_a_big_job_that_lands_while_the_rows_are_read_again_is_not_lost(
    beside: Beside, tmp_path: Path
):
    async with running(beside, log_files(beside._database, tmp_path)) as engine:
        beside.open.clear()
        big = a_chain()
        waiter = engine.submit(big)
        await within(beside.waiting.wait())
        engine._bulk.reading()  # as `_recover` does, when another commit failed meanwhile
        beside.open.set()
        assert await within(waiter) == ev.Accepted(big.job_id)
        await until(lambda: engine.healthy and big.job_id in engine.world.jobs)
        engine.world.check()


async def test_one_under_way_is_finished_before_the_server_stops(beside: Beside, tmp_path: Path):
    async with running(beside, log_files(beside._database, tmp_path)) as engine:
        beside.open.clear()
        under_way, waiting = engine.submit(a_chain()), engine.submit(a_chain())
        await within(beside.waiting.wait())
        engine.stop()
        with pytest.raises(StoreUnavailable):
            await within(waiting)
        await asyncio.sleep(0)
        assert not under_way.done()
        beside.open.set()
        assert isinstance(await within(under_way), ev.Accepted)


async def test_no_more_wait_than_fit(beside: Beside, tmp_path: Path):
    async with running(beside, log_files(beside._database, tmp_path)) as engine:
        beside.open.clear()
        waiters = [engine.submit(a_chain()) for _ in range(bulk.LIMIT)]
        with pytest.raises(bulk.LimitReached):
            engine.submit(a_chain())
        beside.open.set()
        await within(asyncio.gather(*waiters))


async def test_an_array_is_one_block_and_its_rows_are_there(
    beside: Beside, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(block, "LEAST", 3)
    monkeypatch.setattr(commit, "BLOCK_SLICE", 8)
    database = beside._database
    async with running(beside, log_files(database, tmp_path)) as engine:
        array = a_submit(TaskSpec("a", argv=("true",), array_count=BIG + 9))
        ids = tuple(map(TaskId, uuid7.many(BIG + 9)))
        array = msgspec.structs.replace(array, task_ids=ids)
        await within(engine.post(array))
        engine.world.check()
        assert list(engine.world.tasks) == list(ids)
        restored = await beside.load()
        (of,) = restored.blocks
        assert not restored.tasks
        rows = list(of.rows())
        assert rows == list(engine.world.tasks.values())
        found = await database.query.tasks(job_id=array.job_id)
        assert [task for task, _ in reversed(found)] == rows
        # One that changes is a row of its own, here and after a restart.
        await within(engine.post(ev.CancelRequested(task_ids=(ids[3],))))
        await within(engine.post(ev.CancelRequested(task_ids=(ids[0],))))
        left = [i for i in ids if i not in {ids[0], ids[3]}]
        assert list(engine.world.tasks) == left
        (of,) = (await beside.load()).blocks
        assert list(of.ids()) == left
        await within(engine.post(ev.CancelRequested(job_id=array.job_id)))
        await until(lambda: array.job_id not in engine.world.jobs)
        assert not (await beside.load()).blocks


async def test_who_stops_while_an_outcome_is_unknown_comes_to_an_end(
    beside: Beside, tmp_path: Path
):
    async with running(beside, log_files(beside._database, tmp_path)) as engine:
        beside.lose_outcome = True
        waiter = engine.submit(a_chain())
        engine.stop()
        with pytest.raises(StoreUnavailable):
            await within(waiter)
        await until(lambda: not engine.healthy)
