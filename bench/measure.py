"""Readings of the kernel's counters, and what is made of them."""

import os
import resource
import statistics
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, NamedTuple

import psutil

SPINS: Final = 500_000  # some 30 ms
SPIN_READINGS: Final = 7
TICK_S: Final = 1 / os.sysconf("SC_CLK_TCK")


class Figure(NamedTuple):
    """A median with the least and the most of its readings, in the unit of its row."""

    value: float
    low: float
    high: float
    readings: int

    def __str__(self) -> str:
        if self.readings < 2:
            return _short(self.value)
        return f"{_short(self.value)} ({_short(self.low)}–{_short(self.high)}, n {self.readings})"


class Cost(NamedTuple):
    wall_s: float
    cpu_s: float


def figure(readings: Iterable[float], scale: float = 1.0) -> Figure:
    ordered = sorted(scale * reading for reading in readings)
    return Figure(statistics.median(ordered), ordered[0], ordered[-1], len(ordered))


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

    return median_s(SPIN_READINGS, spin)


def median_s(times: int, act: Callable[[], object]) -> float:
    """Median wall seconds of one call."""
    return statistics.median(readings_s(times, act))


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


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
