"""The simulator itself: it is deterministic, finds planted bugs, shrinks, and the product stands it."""

import os
import subprocess
import sys

import pytest

from tests.sim import bugs, trial
from tests.sim.plan import Plan, draw
from tests.sim.shrink import shrink

SHORT = range(1_000, 1_012)
FOUND = ("silence counts as stuck",)  # real bugs once
WITHIN = 60  # seeds: which of them shows it changes with every change of the product
SOON_CAUGHT = ("at most once retried", "idempotency key not unique", "skipped too early")


@pytest.fixture(autouse=True, scope="module")
def _quiet():
    trial.quiet()


def fails(plan: Plan) -> str | None:
    violation = trial.run(plan).violation
    return violation.rule if violation else None


def test_short_seeds_are_clean():
    broken = [(seed, fails(draw(seed, deep=False))) for seed in SHORT]
    assert [found for found in broken if found[1]] == []


@pytest.mark.parametrize("name", FOUND)
def test_what_was_found_once_is_found_again(name: str):
    wanted = bugs.BUGS[name].rules.split()
    with bugs.planted(name):
        shown = next((seed for seed in range(WITHIN) if fails(draw(seed)) in wanted), None)
    assert shown is not None
    assert fails(draw(shown)) is None


def test_a_seed_decides_everything():
    first, second = trial.run(draw(3)), trial.run(draw(3))
    assert first.digest == second.digest
    assert first.steps > 1_000


def test_the_order_of_hashing_decides_nothing():
    command = (sys.executable, "-m", "tests.sim", "replay", "7", "--short")
    said = {
        subprocess.run(
            command, env=os.environ | {"PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(said) == 1


@pytest.mark.parametrize("name", SOON_CAUGHT)
def test_a_planted_bug_is_caught(name: str):
    with bugs.planted(name):
        assert any(fails(draw(seed, deep=False)) for seed in range(30))


def test_a_failing_seed_shrinks():
    with bugs.planted("child unlocked by failed parent"):
        plan, rule = next(
            (plan, rule)
            for plan in (draw(seed, deep=False) for seed in range(60))
            if plan.faults and (rule := fails(plan))
        )
        small = shrink(plan, rule, fails, tries=25)
        assert fails(small) == rule
    assert len(small.faults) + len(small.works) < len(plan.faults) + len(plan.works)
