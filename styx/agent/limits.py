"""What the operating system lets this process use of the machine: affinity and control groups."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import psutil

ROOT: Final = Path("/sys/fs/cgroup")
OWN: Final = Path("/proc/self/cgroup")


def cpus() -> float:
    """Cores that may be used, in fractions where a quota says so."""
    if hasattr(os, "sched_getaffinity"):
        allowed = float(len(os.sched_getaffinity(0)))
    else:
        allowed = float(os.cpu_count() or 1)
    return min([allowed, *_cpu_quotas()])


def memory_bytes() -> int:
    """Memory that may be used: the machine's, or a limit below it."""
    return min([psutil.virtual_memory().total, *_memory_limits()])


def _cpu_quotas() -> Iterator[float]:
    for group in _groups(""):
        quota, _, period = _read(group / "cpu.max").partition(" ")
        if quota.isdigit():
            yield int(quota) / int(period)
    for group in _groups("cpu"):
        quota, period = _read(group / "cpu.cfs_quota_us"), _read(group / "cpu.cfs_period_us")
        if quota.isdigit() and period.isdigit():
            yield int(quota) / int(period)


def _memory_limits() -> Iterator[int]:
    for group in _groups(""):
        if (limit := _read(group / "memory.max")).isdigit():
            yield int(limit)
    for group in _groups("memory"):
        if (limit := _read(group / "memory.limit_in_bytes")).isdigit():
            yield int(limit)


def _groups(controller: str) -> Iterator[Path]:
    """This process's control group and those above it; `controller` is "" for version 2.

    Inside a container the path may be the host's, so the mount's root is looked at in any case.
    """
    root = ROOT / controller if controller else ROOT
    yield root
    for line in _read(OWN).splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            group = root / path.lstrip("/")
            yield group
            yield from (parent for parent in group.parents if root in parent.parents)


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
