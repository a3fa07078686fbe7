"""Waits double up to their cap, and chance spreads each from zero to there."""

from styx.kit.backoff import Backoff


def test_ceilings_double_up_to_the_cap():
    backoff = Backoff(base_s=1, cap_s=10, random=lambda: 1.0)
    assert [backoff.next_s() for _ in range(6)] == [1, 2, 4, 8, 10, 10]


def test_chance_spreads_the_whole_span():
    dice = iter((0.0, 0.5, 0.25))
    backoff = Backoff(base_s=4, cap_s=100, random=lambda: next(dice))
    assert [backoff.next_s() for _ in range(3)] == [0, 4, 4]


def test_a_success_starts_small_again():
    backoff = Backoff(base_s=1, cap_s=10, random=lambda: 1.0)
    for _ in range(3):
        backoff.next_s()
    backoff.reset()
    assert backoff.next_s() == 1


def test_a_thousand_failures_are_no_overflow():
    backoff = Backoff(base_s=1, cap_s=10, random=lambda: 1.0)
    assert [backoff.next_s() for _ in range(2_000)][-1] == 10
