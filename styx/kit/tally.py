"""Counts of how values spread, cheap enough for the hot path: no lock, one writer, one loop."""

from bisect import bisect_left
from collections.abc import Sequence


class Spread:
    """How many values fell up to each bound (the last bucket is for what is above all), and their sum."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value
