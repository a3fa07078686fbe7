"""Each due time of a schedule makes one job, whatever becomes of the servers (D-11)."""

from unittest import mock

import pytest

from styx.engine.schedules import Schedules
from tests.sim import schedules
from tests.sim.schedules import HOURS, KILLS, MINUTE

SEEDS = range(4)


@pytest.mark.parametrize("seed", SEEDS)
def test_each_minute_is_run_once(seed: int):
    found = schedules.play(seed)
    assert found.kills >= KILLS
    assert found.between >= 3
    assert found.leaders == 2
    assert found.settled >= schedules.EPOCH + HOURS * 60 * MINUTE
    assert found.made == found.expected


def test_without_its_key_a_due_time_is_run_twice():
    submit = Schedules._submit

    async def planted(self, *given):
        return await schedules.without_key(submit, self, *given)

    with mock.patch.object(Schedules, "_submit", planted):
        found = schedules.play(0)
    assert set(found.made) == set(found.expected)
    assert max(found.made.values()) > 1
