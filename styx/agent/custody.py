"""The attempts that have a process: watched, stopped when due, buried when nothing of them is left."""

from __future__ import annotations

import heapq
import os
import signal

from styx.agent import home, remover, stop
from styx.agent.journal import Journal
from styx.agent.room import Room

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Final

    from styx.agent.ports import Kernel

POLL_S: Final = 0.02  # where the kernel has no pidfd (before Linux 5.3, macOS)
TICK_S: Final = 5.0  # strays that nobody waits for are reaped this often
LOOK_WITHIN_S: Final = 1.0  # however busy or puzzling the strays are
ORPHAN_SCAN_S: Final = 1.0  # a claimed process may still be on its way into exec
OWN_GROWTH_BYTES: Final = 1 << 20  # of the supervisor itself between two ticks, at most
STALE_TIMERS: Final = 1_000
DETAIL_CHARS: Final = 300  # of a reason, for people: 500 of them fit a frame of the sync
NEVER: Final = float("inf")


class Custody:
    """`live` is every attempt with a process or with something left of it. `record` takes down what
    becomes of them, in the words of the journal.
    """

    def __init__(
        self,
        directory: str,
        journal: Journal,
        kernel: Kernel,
        record: Callable[[dict[str, Any]], None],
    ) -> None:
        self.live: dict[str, stop.Attempt] = {}
        self.room = Room()
        self._home = directory
        self._journal = journal
        self._kernel = kernel
        self._record = record
        self._by_pidfd: dict[int, stop.Attempt] = {}
        self._spawned: dict[int, stop.Attempt] = {}  # our children, by pid
        self._polled: dict[str, stop.Attempt] = {}  # without a pidfd
        self._ended: list[stop.Attempt] = []  # not yet looked at for leftovers
        self._unswept: dict[str, stop.Attempt] = {}  # killed, or ended with something left
        self._timers: list[tuple[float, str]] = []
        self._strays = stop.Strays(kernel)
        self._remover = remover.Remover(directory, kernel, self._spawned)
        self._tick_at = 0.0
        self._oom_kills = 0
        self._own_rss_bytes = 0

    def hold(self, claim: dict[str, Any], pid: int) -> None:
        """Take over a process that has just been spawned for this claim."""
        attempt = stop.Attempt(self._kernel, claim, pid=pid)
        self._spawned[pid] = attempt
        self._watch(attempt)

    def stop(self, attempt: stop.Attempt, grace: float, reason: str = "") -> None:
        self._reap(attempt)  # if it has ended by itself, that is its true result
        now = self._kernel.now()
        attempt.stop(now, grace, reason)
        if attempt.exit is None and attempt.stage == stop.STOPPING:
            self._check_limits(attempt, now)

    def attend(self, descriptor: int) -> bool:
        """True if it was one of our pidfds that became readable: its process has ended."""
        attempt = self._by_pidfd.get(descriptor)
        if attempt is not None:
            self._reap(attempt, dead=True)
        return attempt is not None

    def turn(self, now: float) -> None:
        """Do all that is due."""
        for attempt in list(self._polled.values()):
            self._reap(attempt)
        self._fire(now)
        ticks = bool(self.live) and now >= self._tick_at
        if ticks:
            self._tick_at = now + TICK_S
            self._oom_kills = self._kernel.oom_kills()
            self._own_rss_bytes = self._kernel.peak_rss_bytes() + OWN_GROWTH_BYTES
        if ticks or self._ended or self._unswept or self._deserted():
            self._look(now)
            self._sweep(now)

    def next_due(self) -> float:
        """When `turn` has something to do, if no descriptor says so before."""
        due = self._tick_at if self.live else NEVER
        if self._timers:
            due = min(due, self._timers[0][0])
        if self._ended:
            due = min(due, self._strays.rest_until)
        if self._polled or self._deserted():
            due = min(due, self._kernel.now() + POLL_S)
        return min(due, *(attempt.due for attempt in self._unswept.values()), NEVER)

    def record_end(self, key: str, end: dict[str, Any]) -> None:
        """Take down how an attempt ended, with the final length of its streams."""
        for field, suffix in (("out_bytes", home.OUT_SUFFIX), ("err_bytes", home.ERR_SUFFIX)):
            try:
                end[field] = os.stat(home.spool_path(self._home, key, suffix)).st_size
            except OSError:  # never made, or taken away by hand
                end[field] = 0
        if "detail" in end:
            end["detail"] = end["detail"][:DETAIL_CHARS]
        self._record({"k": key, "exit": end})

    # --- limits -------------------------------------------------------------------------------

    def _arm(self, attempt: stop.Attempt) -> None:
        if attempt.due == NEVER:
            return
        heapq.heappush(self._timers, (attempt.due, attempt.key))
        if len(self._timers) > STALE_TIMERS + 2 * len(self.live):
            # Those of tasks that ended long before their limit.
            self._timers = [(live.due, live.key) for live in self.live.values() if live.due < NEVER]
            heapq.heapify(self._timers)

    def _fire(self, now: float) -> None:
        while self._timers and self._timers[0][0] <= now:
            due, key = heapq.heappop(self._timers)
            attempt = self.live.get(key)
            if attempt is None or attempt.exit is not None or attempt.due != due:
                continue  # it has ended, or was armed anew since
            if attempt.stage != stop.KILLING:
                self._check_limits(attempt, now)

    def _check_limits(self, attempt: stop.Attempt, now: float) -> None:
        """Let it go on, ask it to end, or end it.

        Past the lease the server may run it elsewhere, and two must never overlap.
        """
        lease_end = self._journal.lease if attempt.exclusive else NEVER
        stopping = attempt.stage == stop.STOPPING
        if stopping and now >= min(attempt.stop_by, lease_end):
            attempt.kill(now)
            self._unswept[attempt.key] = attempt
        elif stopping:
            attempt.due = min(attempt.stop_by, lease_end)
            self._arm(attempt)
        elif now >= attempt.timeout_at:
            self.stop(attempt, attempt.grace, "timeout")
        elif now >= lease_end - attempt.grace:
            self.stop(attempt, attempt.grace, "agent_silent")
        else:
            attempt.due = min(attempt.timeout_at, lease_end - attempt.grace)
            self._arm(attempt)

    def _deserted(self) -> list[int]:
        """Strays that belong to nothing that runs."""
        return self._strays.deserted(self.live, idle=not self.live)

    # --- ends ---------------------------------------------------------------------------------

    def _keep(self, attempt: stop.Attempt) -> None:
        self.live[attempt.key] = attempt
        self.room.take(attempt)

    def _watch(self, attempt: stop.Attempt) -> None:
        self._keep(attempt)
        try:
            attempt.pidfd = self._kernel.watch(attempt.pid)
        except OSError:
            self._polled[attempt.key] = attempt
        else:
            self._by_pidfd[attempt.pidfd] = attempt
        self._record({"k": attempt.key, "pid": attempt.pid})
        self._check_limits(attempt, self._kernel.now())

    def _reap(self, attempt: stop.Attempt, *, dead: bool = False) -> None:
        """If the main process has ended, take down how."""
        if attempt.exit is not None:
            return
        if attempt.adopted:
            if not dead and self._kernel.is_main(attempt.pid, attempt.at, attempt.key):
                return
            attempt.exit = {"reason": "exit_status_lost"}
        else:
            death = self._kernel.wait(attempt.pid)
            if death is None:
                return
            status, cpu_ms, max_rss_bytes = death
            del self._spawned[attempt.pid]
            if attempt.remove and remover.is_removed(attempt, status):
                attempt.remove = []
            attempt.exit = self._exit(attempt, status)
            attempt.exit["cpu_ms"] = cpu_ms
            # A process born by vfork begins with our own peak, so anything below that is unknown.
            if max_rss_bytes > self._own_rss_bytes:
                attempt.exit["max_rss_bytes"] = max_rss_bytes
        attempt.ended_at = self._kernel.now()
        if attempt.pidfd >= 0:
            self._kernel.unwatch(attempt.pidfd)
            del self._by_pidfd[attempt.pidfd]
        self._polled.pop(attempt.key, None)
        self._ended.append(attempt)

    def _exit(self, attempt: stop.Attempt, status: int) -> dict[str, Any]:
        if os.WIFEXITED(status):
            code = os.WEXITSTATUS(status)
            if code == remover.KILLED and attempt.contained:
                self._blame_memory(attempt)
            return {"code": code}
        number = os.WTERMSIG(status)
        if number == signal.SIGKILL:
            self._blame_memory(attempt)
        return {"signal": number}

    def _blame_memory(self, attempt: stop.Attempt) -> None:
        """It was killed; if not by us, then perhaps by the kernel."""
        if attempt.signalled:
            return
        before, self._oom_kills = self._oom_kills, self._kernel.oom_kills()
        if self._oom_kills > before:
            attempt.reason = "oom"

    def _look(self, now: float) -> None:
        """Finish the ended that left nothing behind."""
        waited = bool(self._ended) and now - self._ended[0].ended_at > LOOK_WITHIN_S
        if not self._strays.look(self._spawned, now) and not waited:
            return
        for attempt in self._ended:
            left = attempt.adopted or attempt.remove or self._strays.of(attempt.key)
            if left or self._kernel.group_lives(attempt.pid):
                attempt.due = now
                self._unswept[attempt.key] = attempt
            elif attempt.key not in self._unswept:
                self._finish(attempt)
        self._ended.clear()
        for pid in self._deserted():
            self._kernel.kill(pid, signal.SIGKILL)

    def _sweep(self, now: float) -> None:
        """Kill what is left of the others, and finish those with nothing left."""
        due = [attempt for attempt in self._unswept.values() if attempt.due <= now]
        if not due:
            return
        stop.sweep(self._kernel, due, self._strays)
        for attempt in due:
            gone = attempt.exit is not None and self._remover.done(attempt, now)
            if gone and attempt.empty_sweeps >= stop.EMPTY_SWEEPS:
                del self._unswept[attempt.key]
                self._finish(attempt)
            elif attempt.foreign and not attempt.exclusive and self._outlasts(attempt, now):
                del self._unswept[attempt.key]
                self._finish(attempt, "processes of another user were left")
            elif now - attempt.hunted_at >= stop.UNKILLABLE_S and not attempt.unkillable:
                # It is held until it is really gone: whoever ran it again now would run it twice.
                attempt.unkillable = True
                self._record({"k": attempt.key, "unkillable": True})

    def _outlasts(self, attempt: stop.Attempt, now: float) -> bool:
        return attempt.exit is not None and now - attempt.hunted_at > stop.FOREIGN_S

    def _finish(self, attempt: stop.Attempt, detail: str = "") -> None:
        assert attempt.exit is not None
        end = attempt.exit
        end["ran_ms"] = round((attempt.ended_at - attempt.at) * 1000)
        if attempt.signalled:
            end["signalled"] = True
        if attempt.reason:
            end["reason"] = attempt.reason
        if detail:
            end["detail"] = detail
        del self.live[attempt.key]
        self.room.give(attempt)
        self.record_end(attempt.key, end)

    # --- recovery -----------------------------------------------------------------------------

    def recover(self) -> None:
        """Find again what the supervisor before this one had started."""
        boot = self._kernel.boot_id()
        rebooted = self._journal.boot not in ("", boot)
        self._journal.later({"boot": boot})
        claims = [
            record
            for record in self._journal.attempts.values()
            if "exit" not in record and "void" not in record
        ]
        if rebooted:
            for claim in claims:
                self.record_end(claim["k"], {"reason": "agent_rebooted"})
            return
        for claim in claims:
            self._readopt(claim)

    def _readopt(self, claim: dict[str, Any]) -> None:
        """Watch the main process if it lives; else kill what it left, and say that its end is lost."""
        key, pid = claim["k"], claim.get("pid", 0)
        # Without one the crash came between its start and the record of it. Then nothing tells the main
        # process from a daemon that it has left, which may never end: no process of it is kept.
        if pid and not self._kernel.is_main(pid, claim["at"], key):
            pid = 0
        attempt = stop.Attempt(self._kernel, claim, pid=pid, adopted=True)
        if pid:
            self._watch(attempt)
            return
        attempt.exit = {"reason": "exit_status_lost"}
        attempt.ended_at = self._kernel.now()
        attempt.due = attempt.ended_at + (0.0 if "pid" in claim else ORPHAN_SCAN_S)
        self._unswept[key] = attempt
        self._keep(attempt)
