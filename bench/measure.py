"""Readings of the kernel's counters, and what is made of them."""

import os
import resource
import statistics
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

import psutil

SPINS: Final = 500_000  # some 30 ms
SPIN_READINGS: Final = 7
TICK_S: Final = 1 / os.sysconf("SC_CLK_TCK")
T = TypeVar("T")


class Figure(NamedTuple):
    """Readings of one thing, in the order in which they were taken and in the unit of its row."""

    readings: tuple[float, ...]

    @property
    def value(self) -> float:
        """Their median."""
        return statistics.median(self.readings)

    def over(self, other: "Figure") -> float | None:
        """How many times the other it is; None, if that is nothing.

        As many readings of both were taken in turn: each is held against the one beside it, so that a machine
        that is slow for a while is slow for both.
        """
        if 0.0 in other.readings:
            return None
        if len(self.readings) != len(other.readings):
            return self.value / other.value
        return statistics.median(
            mine / its for mine, its in zip(self.readings, other.readings, strict=True)
        )

    def __str__(self) -> str:
        if len(self.readings) < 2:
            return short(self.value)
        low, high = min(self.readings), max(self.readings)
        return f"{short(self.value)} ({short(low)}–{short(high)}, n {len(self.readings)})"


class Cost(NamedTuple):
    wall_s: float
    cpu_s: float


def figure(readings: Iterable[float], scale: float = 1.0) -> Figure:
    return Figure(tuple(scale * reading for reading in readings))


def in_turn(times: int, *acts: Callable[[], T]) -> list[list[T]]:
    """The readings of each, taken one after the other in each round."""
    rounds = [[act() for act in acts] for _ in range(times)]
    return [list(readings) for readings in zip(*rounds, strict=True)]


def percentile(readings: Iterable[float], part: float) -> float:
    ordered = sorted(readings)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


def readings_s(times: int, act: Callable[[], object]) -> list[float]:
    """Wall seconds of each call."""
    taken: list[float] = []
    for _ in range(times):
        started = time.perf_counter()
        act()
        taken.append(time.perf_counter() - started)
    return taken


def spin_s() -> float:
    """Wall seconds of a fixed piece of work: slower while neighbours want the cores, too."""

    def spin() -> None:
        total = 0
        for number in range(SPINS):
            total += number * number

    return statistics.median(readings_s(SPIN_READINGS, spin))


def wall_s(act: Callable[[], object]) -> float:
    """Wall seconds of one call."""
    (taken_s,) = readings_s(1, act)
    return taken_s


def cost(act: Callable[[], object]) -> Cost:
    """Of a call in this process, its ended children included."""
    before, started = _rusage_s(), time.perf_counter()
    act()
    return Cost(time.perf_counter() - started, _rusage_s() - before)


def family(roots: Iterable[int]) -> set[int]:
    """The processes and all that descend from them."""
    members: set[int] = set()
    for pid in roots:
        try:
            process = psutil.Process(pid)
            members |= {pid, *(child.pid for child in process.children(recursive=True))}
        except psutil.NoSuchProcess:
            continue
    return members


def cpu_s(pids: Iterable[int]) -> float:
    """User and system time used so far, with that of children that ended and were waited for."""
    total_s = 0.0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            # To the nanosecond, where the fields count ticks. Source: clock_getcpuclockid(3), and the
            # kernel's include/linux/posix-timers.h for how a clock's id is made of a pid.
            own_s = time.clock_gettime(~pid << 3 | 2)
        except OSError:
            continue
        total_s += own_s + sum(int(field) for field in fields[13:15]) * TICK_S
    return total_s


def pss_mib(pids: Iterable[int]) -> float:
    """Resident memory, shared pages divided among those that share them."""
    total_kib = 0
    for pid in pids:
        try:
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        total_kib += sum(int(line.split()[1]) for line in rollup.splitlines() if "Pss:" in line[:5])
    return total_kib / 1024


def _rusage_s() -> float:
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
