"""What the kernel says about processes. Everything here may vanish between two reads.

On systems without /proc the answers are empty, and callers fall back to process groups.
"""

from __future__ import annotations

import ctypes
import os
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import Final

MARKER: Final = "STYX_ATTEMPT_KEY"  # in the environment of every process of an attempt
_MARKER_PREFIX: Final = MARKER.encode() + b"="
_PROC: Final = os.path.isdir("/proc/self")
_PR_SET_CHILD_SUBREAPER: Final = 36  # linux/prctl.h
_DEAD: Final = (b"Z", b"X")
_SPAWN_S: Final = 5.0  # from a claim to its process, on a machine that is swapping
_TICK_ERROR_S: Final = 0.05  # the kernel tells start times in ticks of 10 ms
_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
_BOOT_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def now() -> float:
    """Seconds since the machine booted: one clock for both halves of the agent, and for the kernel's
    process start times; it never jumps, and goes on while the machine is suspended.
    """
    return time.clock_gettime(_BOOT_CLOCK)


def boot_id() -> str:
    """Differs after a reboot, when all earlier processes are dead. "" where the kernel has none."""
    return _read("/proc/sys/kernel/random/boot_id").decode().strip()


def oom_kills() -> int:
    """How many processes the kernel has killed for want of memory since it booted."""
    for line in _read("/proc/vmstat").splitlines():
        if line.startswith(b"oom_kill "):
            return int(line.split()[1])
    return 0


def peak_rss_bytes() -> int:
    """The most memory that this process has had resident."""
    for line in _read("/proc/self/status").splitlines():
        if line.startswith(b"VmHWM:"):
            return int(line.split()[1]) << 10
    return 0


def is_leader(pid: int) -> bool:
    """Whether it lives and leads its session, as the main process of an attempt does."""
    if not _PROC:
        try:
            return os.getsid(pid) == pid
        except OSError:
            return False
    fields = _stat(pid)
    return bool(fields) and fields[0] not in _DEAD and int(fields[3]) == pid


def is_main(pid: int, claimed_at: float, key: str) -> bool:
    """Whether this pid is still the process that was spawned for the attempt, not a later namesake.

    Without /proc, a namesake that leads a session is taken for it.
    """
    if not _PROC:
        return is_leader(pid)
    if not is_leader(pid) or marked(pid) not in ("", key):
        return False
    fields = _stat(pid)
    started_at = int(fields[19]) / _TICKS_PER_S if fields else 0.0
    return claimed_at - _TICK_ERROR_S <= started_at <= claimed_at + _SPAWN_S


def become_subreaper() -> None:
    """Have orphaned descendants become children of this process instead of init's."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def children() -> list[int] | None:
    """Direct children of this single-threaded process, dead ones too; None where it cannot be told."""
    pid = os.getpid()
    try:
        with open(f"/proc/{pid}/task/{pid}/children", "rb", buffering=0) as file:
            return [int(child) for child in file.read().split()]
    except OSError:
        return None


def marked(pid: int) -> str:
    """The attempt that a process says it belongs to; "" for none, dead or not ours to read."""
    for variable in _read(f"/proc/{pid}/environ").split(b"\0"):
        if variable.startswith(_MARKER_PREFIX):
            return variable[len(_MARKER_PREFIX) :].decode(errors="replace")
    return ""


def members(keys: Collection[str], roots: dict[int, str]) -> dict[str, set[int]]:
    """Every living process of these attempts: by its environment, or by descent from one of `roots`
    (pid -> key) or from a process found. One pass over all processes: milliseconds.
    """
    owner = dict(roots)
    parents: dict[int, int] = {}
    me = os.getpid()
    for name in _listdir("/proc"):
        if not name.isdigit() or (pid := int(name)) == me:
            continue
        fields = _stat(pid)
        if not fields or fields[0] in _DEAD:
            owner.pop(pid, None)
            continue
        parents[pid] = int(fields[1])
        if pid not in owner and (key := marked(pid)) in keys:
            owner[pid] = key
    for pid in parents:
        _inherit(pid, parents, owner)
    found: dict[str, set[int]] = {key: set() for key in keys}
    for pid, key in owner.items():
        if pid in parents and key in found:
            found[key].add(pid)
    return found


def _inherit(pid: int, parents: dict[int, int], owner: dict[int, str]) -> None:
    """Give the process, and its ancestors on the way, the owner of their nearest owned ancestor."""
    path: list[int] = []
    while pid in parents and pid not in owner:
        path.append(pid)
        pid = parents[pid]
    if pid in owner:
        owner.update(dict.fromkeys(path, owner[pid]))


def _stat(pid: int) -> list[bytes]:
    """The fields of /proc/PID/stat after the command's name, which may hold anything: state, ppid, …"""
    return _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()


def _read(path: str) -> bytes:
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read()
    except OSError:
        return b""


def _listdir(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except OSError:
        return []
