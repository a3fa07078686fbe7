"""Time that only passes."""

import time
from datetime import UTC, datetime, timedelta

from styx.kit.clock import Steady, boot_s

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def test_it_goes_on_by_what_has_passed_whatever_the_wall_clock_does():
    wall, elapsed_s = NOON, 100.0
    clock = Steady(lambda: wall, lambda: elapsed_s)
    wall, elapsed_s = NOON - timedelta(hours=1), 107.5
    assert clock() == NOON + timedelta(seconds=7.5)


def test_it_begins_no_earlier_than_what_others_have_written():
    assert Steady(lambda: NOON, lambda: 0.0, NOON + timedelta(hours=1))() == NOON + timedelta(
        hours=1
    )
    assert Steady(lambda: NOON, lambda: 0.0, NOON - timedelta(hours=1))() == NOON


def test_the_boot_clock_passes():
    before = boot_s()
    time.sleep(0.01)
    assert 0.01 <= boot_s() - before < 60
