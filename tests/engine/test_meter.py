"""An engine counts what it has committed, once, on a real database."""

from datetime import timedelta

import pytest

from styx.core.task import Reason, TaskState
from styx.core.world import World
from styx.engine.meter import Meter
from styx.errors import StoreUnavailable
from tests.support import engines, made
from tests.support.engines import Gate, a_submit, log_files, until


async def test_what_is_committed_is_counted(database, tmp_path):
    async with engines.running(database, log_files(database, tmp_path)) as engine:
        await engine.post(a_submit())
        await engine.post(a_submit())
        meter = engine.meter
        assert meter.submitted == 2
        assert dict(meter.reached) == {(TaskState.READY, Reason.NONE): 2}
        turns = await until(lambda: sum(meter.turn_s.counts))  # counted after the answer
        assert turns == sum(meter.events.counts) == sum(meter.decision_s.counts)
        assert sum(meter.commit_s.counts) >= 2
        assert engine.world.census.tasks[TaskState.READY] == 2


async def test_what_may_have_been_committed_is_not(database, tmp_path):
    gate = Gate(database)
    async with engines.running(gate, log_files(database, tmp_path)) as engine:
        gate.lose_outcome = True
        with pytest.raises(StoreUnavailable):
            await engine.post(a_submit())
        await until(lambda: engine.healthy)
        assert engine.meter.submitted == 0
        assert engine.world.census.tasks[TaskState.READY] == 1, "read again from the rows"


def test_a_wait_begins_when_the_backoff_ends():
    job = made.job()
    task = made.task(job, state=TaskState.READY, ready_at=made.NOW)
    held = made.next_version(task, not_before=made.NOW + timedelta(seconds=8))
    for before, waited_s in ((task, 10.0), (held, 2.0)):
        meter = Meter()
        world = World.load([job], [before], (), (), {}, {})
        delta = made.delta(made.active(before, not_before=None))
        delta.now = made.NOW + timedelta(seconds=10)
        meter.see(delta, world)
        assert meter.wait_s.total == waited_s
        assert dict(meter.reached) == {(TaskState.ACTIVE, Reason.NONE): 1}
