"""How much CPU time and memory running tasks use, read from /proc at a bounded cost."""

import os
from collections.abc import Iterable
from typing import Final

TASKS_MAX: Final = 256  # a heartbeat carries the readings of so many, and no more
PROCESSES_MAX: Final = 1_024  # read in one go: some 30 ms
_MS_PER_TICK: Final = 1000 // os.sysconf("SC_CLK_TCK")
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_UTIME, _CSTIME, _RSS = 11, 14, 21  # places in /proc/PID/stat after the command's name; see proc(5)


def of_tasks(mains: Iterable[tuple[str, int]]) -> dict[str, tuple[int, int]]:
    """(cpu_ms, rss_bytes) of each task, its descendants included, by the pid of its main process."""
    readings: dict[str, tuple[int, int]] = {}
    left = PROCESSES_MAX
    for key, pid in mains:
        if left <= 0 or len(readings) >= TASKS_MAX:
            break
        cpu_ms, rss_bytes, processes = _of_tree(pid, left)
        left -= max(1, processes)
        if processes:
            readings[key] = (cpu_ms, rss_bytes)
    return readings


def _of_tree(root: int, limit: int) -> tuple[int, int, int]:
    """CPU time and memory of a process and its descendants, and how many they are."""
    cpu_ms = rss_bytes = processes = 0
    todo = [root]
    while todo and processes < limit:
        pid = todo.pop()
        fields = _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
        if not fields:
            continue
        processes += 1
        # With that of the children that it has waited for; the living are counted themselves.
        cpu_ms += sum(map(int, fields[_UTIME : _CSTIME + 1])) * _MS_PER_TICK
        rss_bytes += int(fields[_RSS]) * _PAGE_BYTES
        todo += map(int, _read(f"/proc/{pid}/task/{pid}/children").split())
    return cpu_ms, rss_bytes, processes


def _read(path: str) -> bytes:
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read()
    except OSError:
        return b""
