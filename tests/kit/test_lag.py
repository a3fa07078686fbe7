"""The lag of the event loop, on a clock of the test's own, and once for real."""

import asyncio
import time

from styx.kit.lag import PERIOD_S, RECOVERED_S, Lag


def after(*late_s: float) -> Lag:
    """A loop that looked at the clock so much too late, time after time."""
    lag, now_s = Lag(lambda: 0.0), 100.0
    for late in late_s:
        due_s = now_s + PERIOD_S
        now_s = due_s + late
        lag.note(due_s, now_s)
    return lag


def test_a_loop_on_time_is_not_late():
    assert after(0.0, 0.1, 0.2, 0.0).late_for_s == 0.0


def test_lateness_counts_from_its_beginning_for_as_long_as_it_goes_on():
    assert after(*[0.3] * 20).late_for_s > 5.0
    assert after(0.0, 6.0).late_for_s == 6.0


def test_one_good_moment_is_no_end_and_a_good_second_is():
    good = round(RECOVERED_S / PERIOD_S) + 2
    assert after(*[0.3] * 10, 0.0, *[0.3] * 10).late_for_s > 6.0
    assert after(*[0.3] * 20, *[0.0] * good).late_for_s == 0.0
    assert after(*[0.3] * 20, *[0.0] * good, 0.3).late_for_s < 0.5


async def test_a_loop_that_is_held_up_shows():
    lag = Lag(asyncio.get_running_loop().time)
    async with asyncio.TaskGroup() as group:
        measuring = group.create_task(lag.run())
        await asyncio.sleep(0)
        time.sleep(0.5)
        while not lag.late_for_s:
            await asyncio.sleep(0)
        measuring.cancel()
    assert lag.latest_s > 0.4
