"""The half of the agent that holds the tasks: `python -m styx.agent.supervisor HOME`.

It alone executes. While it holds the home's lock no other process may, and it starts nothing whose
claim is not in its journal, so an attempt is executed at most once whatever dies. It outlives the
half that talks to the server (`styx.agent.link`), records every end before it tells of it, and leaves
when it has had no link and no task for a while. It is small and has one thread, because it stays.

Lines from the link, by `do`:

    hello  env room            the environment that tasks start from, and the room for them; answered
                               by every attempt held, then {"synced": PROTO}
    start  k argv env cwd …    once per key, when there is room; see `Supervisor.start` for the rest
    stop   k grace why         the stop ladder; an unknown key becomes a tombstone
    void   k why detail        a tombstone, unless the key is known
    forget k                   the server has everything: the record and the spool go
    lease  until               how long exclusive attempts may run; comes before their start

Lines to the link are the journal's: an attempt and what became of it (`pid`, `unkillable`,
`exit` or `void`).
Times are seconds on the clock of `proc.now`, which both halves share.
"""

from __future__ import annotations

import fcntl
import gc
import os
import signal
import sys
import time

from styx.agent import custody, home, proc, spawn
from styx.agent.journal import Journal, encode
from styx.agent.lines import Listener
from styx.agent.reports import Reports
from styx.agent.system import System

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from styx.agent.ports import Kernel

PROTO: Final = 2  # of these lines: a supervisor may be older than the link it serves
IDLE_EXIT_S: Final = 10.0  # long enough for an agent that is restarted
LOCK_WAIT_S: Final = 2.0  # the one before may be on its way out
LOCK_POLL_S: Final = 0.02
RETRY_S: Final = 0.5  # the journal's disk is full
ACCEPT_REST_S: Final = 0.1  # no descriptor is left for a newcomer, who stays ready to be accepted
NOTE_S: Final = 0.5  # how long what only the journal wants to know waits for company
NEVER: Final = float("inf")


class Supervisor:
    """`kernel` is the system that it works on: all that it knows beside the journal comes from there."""

    def __init__(self, directory: str, kernel: Kernel) -> None:
        self._home = directory
        self._work = os.path.join(directory, home.WORK)
        self._kernel = kernel
        self._journal = Journal(directory, kernel.sync)
        self._listener = Listener(kernel.listen(home.socket_address(directory)))
        kernel.attend(self._listener.fileno())
        self._custody = custody.Custody(directory, self._journal, kernel, self._record)
        self._room = self._custody.room
        self._env: dict[str, str] = {}
        self._reports = Reports()
        self._write_at = NEVER  # when the journal gets what is due to it
        self._writing = False  # the link's socket is full
        self._accept_at = NEVER  # when newcomers are looked at again
        self._leaving = False
        self._idle_since = kernel.now()

    def run(self) -> None:
        """Until there has been nothing to do for a while."""
        self.recover()
        while not self.idle():
            self.turn(self._kernel.poll(self.rest_s()))
        self.close()

    def recover(self) -> None:
        """Take up what the supervisor before this one has left."""
        self._custody.recover()
        self._settle()

    def idle(self) -> bool:
        """Whether it is time to leave."""
        if self._custody.live or min(self._write_at, self._reports.due) < NEVER:
            return False
        return self._leaving or self._kernel.now() - self._idle_since >= IDLE_EXIT_S

    def rest_s(self) -> float:
        """For how long there is nothing to do, unless a descriptor becomes ready."""
        leave_at = self._idle_since + IDLE_EXIT_S
        ours = min(leave_at, self._write_at, self._reports.due, self._accept_at)
        due = min(self._custody.next_due(), self._room.next_due(), ours)
        return max(0.0, due - self._kernel.now())

    def turn(self, ready: list[int]) -> None:
        """Do all that there is to do now."""
        for descriptor in ready:
            self._attend(descriptor)
        if self._kernel.terminated and not self._leaving:
            self._leave()
        if self._kernel.now() >= self._accept_at:
            self._accept_at = NEVER
            self._kernel.attend(self._listener.fileno())
        self._custody.turn(self._kernel.now())
        self._admit()
        self._settle()

    def close(self) -> None:
        self._listener.close()

    def _settle(self) -> None:
        """Put what happened on disk, and only then tell the link."""
        now = self._kernel.now()
        if now >= min(self._write_at, self._reports.due):
            self._publish(now)
        if not self._listener.flush():
            self._drop()
        elif self._listener.backlog != self._writing:
            self._writing = self._listener.backlog
            self._kernel.attend(self._listener.peer, writing=self._writing)
        if self._custody.live or self._listener.peer >= 0:
            self._idle_since = now

    def _publish(self, now: float) -> None:
        try:
            self._journal.flush()
        except OSError as error:
            _say(f"results are held back, the journal cannot be written: {error}")
            self._write_at = now + RETRY_S
            self._reports.hold(self._write_at)
            return
        self._write_at = NEVER
        for line in self._reports.take(now):
            self._listener.send(line)

    def _attend(self, descriptor: int) -> None:
        if self._custody.attend(descriptor):
            return
        if descriptor == self._listener.fileno():
            self._accept()
        elif descriptor == self._listener.peer:
            orders = self._listener.receive()
            if orders is None:
                self._drop()
                return
            for order in orders:
                self._obey(order)

    def _accept(self) -> None:
        """The newest link is the one that counts, but the one that is there serves until then."""
        newcomer = self._listener.accept()
        if newcomer is None:
            self._kernel.leave(self._listener.fileno())
            self._accept_at = self._kernel.now() + ACCEPT_REST_S
            return
        self._drop()
        self._listener.take(newcomer)
        self._kernel.attend(self._listener.peer)

    def _drop(self) -> None:
        if self._listener.peer >= 0:
            self._kernel.leave(self._listener.peer)
            self._listener.drop()
            self._writing = False

    def _leave(self) -> None:
        """The machine is going down: stop every task with its own grace, then go."""
        self._leaving = True
        for key in self._room.give_back():
            self._refuse(key)
        for attempt in list(self._custody.live.values()):
            self._custody.stop(attempt, attempt.grace, "agent_rebooted")

    # --- orders -------------------------------------------------------------------------------

    def _obey(self, order: dict[str, Any]) -> None:
        match order["do"]:
            case "start":
                self.start(order)
            case "stop":
                if attempt := self._custody.live.get(order["k"]):
                    self._custody.stop(attempt, order["grace"])
                else:
                    self._room.waiting.pop(order["k"], None)
                    self._void(order["k"], order["why"], "")
            case "forget":
                self._forget(order["k"])
            case "void":
                self._void(order["k"], order["why"], order["detail"])
            case "lease":
                self._note({"lease": order["until"]})
            case "hello":
                self._env = order["env"]
                # A new link does not know them, and its server would take them for lost.
                for key in self._room.give_back():
                    self._void(
                        key, "agent_busy", "the agent began anew before there was room for it"
                    )
                self._room.resize(order.get("room"))
                for record in (*self._journal.attempts.values(), {"synced": PROTO}):
                    self._reports.add(encode(record))
            case other:
                _say(f"the link asks for {other!r}, which this supervisor does not know")

    def start(self, order: dict[str, Any]) -> None:
        """Execute it now, or when there is room for it.

        `k`, `argv`, `env` (beside the link's), `cwd` and `gpus` are what to run; `script`, if there,
        is a text too long for an argument, to be put into a file that becomes the last one.
        `cpus_milli` and `memory_bytes` are the room it takes. `durable` claims survive a power cut;
        past `until` the order is stale; `timeout`, `grace` and `exclusive` are kept for the end. `job` is
        whose files it uses, and `parcel` what it leaves: both the link wants to hear of; `remove` is what removes its container. With `end` nothing is executed: that is how it has ended.
        """
        key: str = order["k"]
        if key in self._journal.attempts:
            self._tell(key)
        elif key in self._journal.forgotten:
            # A server that was restored from a backup may assign again what it had seen the end of.
            self._void(key, "stale_assign", "this attempt was run here before, and is over")
        elif key in self._room.waiting:
            pass
        elif "end" in order or self._room.admits(order):
            self._execute(order)
        elif not self._room.wait(order, self._kernel.now()):
            self._void(key, "agent_busy", "too many wait for room already")

    def _admit(self) -> None:
        """Execute what has waited and has room now."""
        while order := self._room.next(self._kernel.now()):
            if self._room.fits(order):
                self._execute(order)
            else:
                self._void(order["k"], "agent_busy", "the room for it did not come free in time")

    def _refuse(self, key: str) -> None:
        self._void(key, "stale_assign", "the agent was out of touch when it came to start")

    def _execute(self, order: dict[str, Any]) -> None:
        """Claim, then execute: the one place where a task's process comes from."""
        if self._leaving or self._kernel.now() >= order["until"]:
            self._refuse(order["k"])
            return
        key: str = order["k"]
        claim = {
            "k": key,
            "at": round(self._kernel.now(), 3),
            "gpus": order["gpus"],
            "grace": order["grace"],
            "cpus_milli": order.get("cpus_milli", 0),  # not in the orders of a link before PROTO 2
            "memory_bytes": order.get("memory_bytes", 0),
        }
        if order["exclusive"]:
            claim["exclusive"] = True
        if order["timeout"] is not None:
            claim["timeout"] = order["timeout"]
        if "script" in order:
            claim["script"] = True
        if "remove" in order:
            claim["remove"] = order["remove"]
        claim |= {name: order[name] for name in ("job", "parcel") if name in order}
        begun = os.path.lexists(home.spool_path(self._home, key, home.OUT_SUFFIX))
        try:
            self._journal.write(claim, durable=order["durable"])
        except OSError as error:
            self._void(key, "agent_full", f"the agent cannot write its journal: {error.strerror}")
            return
        if begun:
            # It was executed, and a power cut took its claim from the journal but not its output.
            self._custody.record_end(key, {"reason": "exit_status_lost"})
            return
        if "end" in order:
            self._custody.record_end(key, order["end"])
            return
        try:
            pid = self._spawn(order)
        except spawn.SpawnRefused as error:
            self._custody.record_end(key, {"reason": "spawn_error", "detail": str(error)})
        except spawn.MachineFull as error:
            self._record({"k": key, "void": "agent_full", "detail": str(error)})
        else:
            self._custody.hold(claim, pid)

    def _spawn(self, order: dict[str, Any]) -> int:
        key: str = order["k"]
        argv: list[str] = order["argv"]
        if script := order.get("script"):
            path = home.spool_path(self._home, key, home.SCRIPT_SUFFIX)
            argv = [*argv, path]
            try:
                with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
                    file.write(script)
            except OSError as error:
                raise spawn.MachineFull(f"cannot write the script: {error.strerror}") from error
        return self._kernel.spawn(
            argv,
            self._env | order["env"],
            order["cwd"] or self._work,
            home.spool_path(self._home, key, home.OUT_SUFFIX),
            home.spool_path(self._home, key, home.ERR_SUFFIX),
        )

    def _void(self, key: str, why: str, detail: str) -> None:
        if key in self._journal.attempts:
            self._tell(key)
        else:
            self._record({"k": key, "void": why, "detail": detail})

    def _forget(self, key: str) -> None:
        if key in self._custody.live or key not in self._journal.attempts:
            return
        suffixes = [home.OUT_SUFFIX, home.ERR_SUFFIX]
        if self._journal.attempts[key].get("script"):
            suffixes.append(home.SCRIPT_SUFFIX)
        self._note({"k": key, "forget": True})
        for suffix in suffixes:
            try:
                os.unlink(home.spool_path(self._home, key, suffix))
            except OSError:  # it never had one
                pass

    def _note(self, record: dict[str, Any]) -> None:
        """For the journal alone, whenever it is written next."""
        self._journal.later(record)
        self._write_at = min(self._write_at, self._kernel.now() + NOTE_S)

    def _record(self, record: dict[str, Any]) -> None:
        """Something became of an attempt: written down in this turn, told when it is due."""
        key, now = record["k"], self._kernel.now()
        line = self._journal.later(record)
        self._write_at = now
        if "pid" in record:
            self._reports.started(key, line, now)
        else:
            self._reports.ended(key, line, now, len(self._room.waiting))

    def _tell(self, key: str) -> None:
        """Say again what is known of an attempt."""
        self._reports.add(encode(self._journal.attempts[key]))


def _lock(directory: str) -> bool:
    """Take the home's lock for the life of this process. False: another supervisor keeps it."""
    lock = os.open(os.path.join(directory, home.SUPERVISOR_LOCK), os.O_RDWR | os.O_CREAT, 0o600)
    deadline = time.monotonic() + LOCK_WAIT_S
    while time.monotonic() < deadline:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(LOCK_POLL_S)
        else:
            return True
    return False


def _ignore(_number: int, _frame: object) -> None:
    """A signal that is handled between two turns: the wakeup pipe tells the loop."""


def _say(line: str) -> None:
    sys.stderr.write(f"styx supervisor: {line}\n")
    sys.stderr.flush()


def main(directory: str) -> int:
    home.prepare(directory)
    if not _lock(directory):
        return 0  # another one is at work: the link will talk to that
    os.chdir(directory)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # what every task reads
    proc.become_subreaper()
    for number in (signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    wakeup, written = os.pipe()
    os.set_blocking(written, False)
    signal.set_wakeup_fd(written)
    signal.signal(signal.SIGTERM, _ignore)
    supervisor = Supervisor(directory, System(directory, wakeup))
    gc.freeze()
    supervisor.run()
    return 0


if __name__ == "__main__":
    sys.exit(main(os.path.abspath(sys.argv[1])))
