"""Readings of the kernel's counters, and what is made of them."""

import os
import resource
import statistics
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, NamedTuple

import psutil

TICK_S: Final = 1 / os.sysconf("SC_CLK_TCK")


class Cost(NamedTuple):
    wall_s: float
    cpu_s: float


def median_s(times: int, act: Callable[[], object]) -> float:
    """Median wall seconds of one call."""
    taken: list[float] = []
    for _ in range(times):
        started = time.perf_counter()
        act()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


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
    total = 0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += sum(int(field) for field in fields[11:15])
    return total * TICK_S


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
