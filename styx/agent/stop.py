"""Ending an attempt for good: the polite signal, the grace, and then every process it ever made.

A process group holds most of them. Those that left it (`setsid`, a double fork) are found because the
supervisor is their *subreaper*: whoever outlives its parent becomes a child of ours, and shows up in
one small file of /proc. Only what must be hunted is hunted through all of /proc.
"""

from __future__ import annotations

import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Container
    from typing import Any, Final

    from styx.agent.ports import Kernel

RUNNING: Final = "running"
STOPPING: Final = "stopping"  # the polite signal is sent; `stop_by` is the end of its grace
KILLING: Final = "killing"  # SIGKILL is sent; swept until nothing is left

EMPTY_SWEEPS: Final = 2  # a process that forks while it is looked for may be missed once
SWEEP_PAUSE_S: Final = 0.02  # at first; as much longer each time
SWEEP_PAUSE_MAX_S: Final = 1.0
SWEEP_SHARE: Final = 4  # a sweep of a full machine rests four times as long as it took
FOREIGN_S: Final = 10.0  # another user's processes, which we may not kill, hold a result so long
UNKILLABLE_S: Final = 60.0  # as in an uninterruptible sleep: the operator hears of it
LOOK_SHARE: Final = 20  # looking for strays takes at most a twentieth of the time …
EXEC_S: Final = 0.1  # what says nothing for so long will not say it any more
EXEC_LOOK_S: Final = 0.002
CHEAP_LOOK_S: Final = 0.0002  # … once it takes longer than this, with some thousand tasks running


class Attempt:
    """One that has a process. `due` is when it next needs attention, on the clock of `proc.now`."""

    __slots__ = (
        "adopted",
        "at",
        "contained",
        "cpus_milli",
        "due",
        "empty_sweeps",
        "ended_at",
        "exclusive",
        "exit",
        "foreign",
        "grace",
        "hunted_at",
        "kernel",
        "key",
        "memory_bytes",
        "pid",
        "pidfd",
        "reason",
        "remove",
        "signalled",
        "stage",
        "stop_by",
        "sweeps",
        "timeout_at",
        "unkillable",
    )

    def __init__(
        self, kernel: Kernel, claim: dict[str, Any], *, pid: int = 0, adopted: bool = False
    ) -> None:
        self.kernel = kernel
        self.key: str = claim["k"]
        self.at: float = claim["at"]
        self.exclusive: bool = claim.get("exclusive", False)
        self.cpus_milli: int = claim.get("cpus_milli", 0)
        self.memory_bytes: int = claim.get("memory_bytes", 0)
        self.grace: float = claim.get("grace", 30.0)
        self.timeout_at: float = self.at + claim.get("timeout", float("inf"))
        self.remove: list[str] = claim.get("remove", [])  # its container; [] once that is gone
        self.contained = bool(self.remove)
        self.pid = pid
        self.pidfd = -1
        self.adopted = adopted  # not our child: its exit status goes to somebody else
        self.stage = RUNNING
        self.due = self.timeout_at
        self.stop_by = float("inf")
        self.signalled = False
        self.reason = ""  # why the supervisor itself stopped it
        self.exit: dict[str, Any] | None = None  # set once the main process is gone
        self.ended_at = 0.0
        self.sweeps = 0
        self.empty_sweeps = 0
        self.hunted_at = float("inf")  # when it was first swept
        self.foreign = False  # all that is left of it is somebody else's
        self.unkillable: bool = claim.get("unkillable", False)  # and the operator has been told

    def stop(self, now: float, grace: float, reason: str = "") -> None:
        """Ask it to end within `grace` seconds, and no later than its timeout would have made it end.

        Again with less grace: the earlier end counts.
        """
        if self.exit is not None or self.stage == KILLING:
            return
        self.stop_by = min(self.stop_by, now + grace, max(now, self.timeout_at) + self.grace)
        if self.stage == RUNNING:
            self.reason = reason
            self.stage = STOPPING
            self.signal(signal.SIGTERM if grace > 0 else signal.SIGKILL)
            self.signal(signal.SIGCONT)  # a stopped process hears nothing
            self.signalled = True

    def kill(self, now: float) -> None:
        self.stage = KILLING
        self.due = now
        self.signal(signal.SIGKILL)

    def signal(self, number: int) -> None:
        """To the whole process group, which is as old as the process: it leads its own session."""
        if self.pid:  # adopted without it; 0 would be our own group
            self.kernel.kill_group(self.pid, number)


class Strays:
    """Children of this process that it did not spawn: orphans of attempts, adopted from the kernel."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self.owner: dict[int, str] = {}  # pid -> attempt, "" if it does not say
        self.rest_until = 0.0
        self._seen_at: dict[int, float] = {}  # of those that do not say

    def look(self, spawned: Collection[int], now: float) -> bool:
        """Bring `owner` up to date and reap its dead. False: ask again, not before `rest_until`."""
        if now < self.rest_until:
            return False
        began = self._kernel.now()
        present = self._kernel.children()
        if self.owner or len(present) > len(spawned):
            self._sort(present, spawned, now)
        took = self._kernel.now() - began
        if took > CHEAP_LOOK_S:
            self.rest_until = began + took + LOOK_SHARE * took
        # In the middle of an exec a process has no environment: it may say in a moment whose it is.
        if any(now - seen_at < EXEC_S for seen_at in self._seen_at.values()):
            self.rest_until = max(self.rest_until, now + EXEC_LOOK_S)
            return False
        return True

    def of(self, key: str) -> bool:
        return bool(self.owner) and key in self.owner.values()

    def deserted(self, live: Container[str], *, idle: bool) -> list[int]:
        """Those whose attempt is over; and when nothing runs, those that hide whose they are."""
        return [pid for pid, key in self.owner.items() if (key not in live if key else idle)]

    def _sort(self, present: list[int], spawned: Collection[int], now: float) -> None:
        for pid in present:
            if pid not in spawned and not self.owner.get(pid):
                self.owner[pid] = self._kernel.marked(pid)
                self._seen_at.setdefault(pid, now)
        alive = set(present)
        for pid, key in list(self.owner.items()):
            if pid not in alive or self._kernel.bury(pid):
                del self.owner[pid]
            if key or pid not in self.owner:
                self._seen_at.pop(pid, None)


def sweep(kernel: Kernel, due: Collection[Attempt], strays: Strays) -> None:
    """Kill every process of these attempts that can be found, and count the sweeps that found none."""
    roots = {attempt.pid: attempt.key for attempt in due if attempt.exit is None}
    keys = {attempt.key for attempt in due}
    roots.update((pid, key) for pid, key in strays.owner.items() if key in keys)
    began = kernel.now()
    found = kernel.members(keys, roots)
    for attempt in due:
        attempt.hunted_at = min(attempt.hunted_at, began)
        ours = attempt.exit is None or (attempt.pid != 0 and kernel.group_lives(attempt.pid))
        if ours:
            attempt.signal(signal.SIGKILL)
        killed = [kernel.kill(pid, signal.SIGKILL) for pid in found[attempt.key]]
        attempt.foreign = bool(killed) and not ours and not any(killed)
        attempt.empty_sweeps = 0 if ours or killed else attempt.empty_sweeps + 1
        attempt.sweeps += 1
    took = kernel.now() - began
    for attempt in due:
        # What resists for long, as in an uninterruptible sleep, is not worth a busy machine.
        pause = min(SWEEP_PAUSE_S * attempt.sweeps, SWEEP_PAUSE_MAX_S)
        attempt.due = began + took + max(pause, SWEEP_SHARE * took)
