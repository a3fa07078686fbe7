# ruff: noqa: PTH123 -- a path object costs more than what is done with it, thousands of times a minute
"""The hardware under a simulated machine and its processes, which outlive both halves of the agent."""

import os
from collections.abc import Callable
from typing import Final

from tests.sim.ledger import Ledger
from tests.sim.loop import Clock, Handle, Simulation

INIT: Final = 1
TERM: Final = 15
KILL: Final = 9
DIES_WITHIN_S: Final = 0.01  # of SIGKILL
STUBBORN: Final = 0.1  # how many commands do not heed SIGTERM
LEAVES_DAEMON: Final = 0.08  # how many leave a process behind that has left their group


class Running:
    """A process, until somebody has taken its status."""

    def __init__(self, pid: int, key: str, parent: int, group: int, *, stubborn: bool) -> None:
        self.pid = pid
        self.key = key
        self.parent = parent
        self.group = group
        self.stubborn = stubborn
        self.status: int | None = None  # as of wait(2), once it is dead
        self.ends: list[Handle] = []


class Computer:
    """Processes of one machine. `on_write` hears the name of a file of the spool that has grown."""

    def __init__(
        self,
        simulation: Simulation,
        name: str,
        clock: Clock,
        ledger: Ledger,
        *,
        full: Callable[[], str],
        on_write: Callable[[str], None],
    ) -> None:
        self.clock = clock
        self.boots = 0
        self.processes: dict[int, Running] = {}
        self.synced: dict[int, int] = {}  # by inode: how long the file was when the disk was told
        self.full = full
        self.on_death: Callable[[Running], None] = unheard
        self._simulation = simulation
        self._name = name
        self._ledger = ledger
        self._on_write = on_write
        self._pids = INIT
        self._mains: dict[str, Running] = {}

    def pid(self) -> int:
        self._pids += 1
        return self._pids

    def execute(self, argv: list[str], key: str, parent: int, out: str, err: str) -> int:
        simulation, dice = self._simulation, self._simulation.random
        pid = self.pid()
        main = Running(pid, key, parent, pid, stubborn=dice.random() < STUBBORN)
        self.processes[pid] = self._mains[key] = main
        self._ledger.started(self._name, key, simulation.now())
        for path in (out, err):
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT))
        _, seconds, code, out_bytes, err_bytes = argv
        for share in (0.5, 0.99):
            at = simulation.now() + share * float(seconds)
            for number, path, size in ((1, out, int(out_bytes)), (2, err, int(err_bytes))):
                if size:
                    part = size // 2 if share == 0.5 else size - size // 2
                    main.ends.append(simulation.at(at, self._write, key, number, path, part))
        if dice.random() < LEAVES_DAEMON:
            main.ends.append(simulation.after(float(seconds) / 2, self._fork, main))
        main.ends.append(simulation.after(float(seconds), self.die, main, int(code) << 8))
        return pid

    def signal(self, process: Running, number: int) -> None:
        if process.status is not None or number not in (TERM, KILL):
            return
        self._ledger.killed(process.key, self._simulation.now(), f"signal {number}")
        within_s = DIES_WITHIN_S if number == KILL else 0.5
        if number == KILL or not process.stubborn:
            after_s = self._simulation.random.uniform(0.0, within_s)
            process.ends.append(self._simulation.after(after_s, self.die, process, number))

    def die(self, process: Running, status: int) -> None:
        if process.status is not None:
            return
        process.status = status
        for handle in process.ends:
            handle.cancel()
        self.orphan(process.pid)
        if process.parent == INIT:
            self.bury(process)
        self._account(process.key)
        self.on_death(process)

    def orphan(self, parent: int) -> None:
        """The children of the dead go to the nearest subreaper: their grandparent, or init."""
        dead = self.processes.get(parent)
        heir = INIT if dead is None else dead.parent
        for child in list(self.processes.values()):
            if child.parent == parent:
                child.parent = heir
                if heir == INIT and child.status is not None:
                    self.bury(child)

    def bury(self, process: Running) -> None:
        self.processes.pop(process.pid, None)

    def halt(self) -> None:
        """The power is gone, and every process."""
        processes, self.processes = list(self.processes.values()), {}
        for process in processes:
            for handle in process.ends:
                handle.cancel()
            if process.status is None:
                process.status = -1
                self._ledger.ended(self._name, process.key, None, self._simulation.now(), None)
        self._mains.clear()

    def _account(self, key: str) -> None:
        """The run is over once nothing of it is left; its code is the main process's."""
        if any(p.key == key and p.status is None for p in self.processes.values()):
            return
        status = self._mains.pop(key).status
        assert status is not None
        code, number = (status >> 8, None) if not status & 0x7F else (None, status & 0x7F)
        self._ledger.ended(self._name, key, code, self._simulation.now(), number)

    def _fork(self, main: Running) -> None:
        """A process that leaves the session, and does nothing more until it is ended."""
        pid = self.pid()
        self.processes[pid] = Running(pid, main.key, main.pid, pid, stubborn=True)

    def _write(self, key: str, stream: int, path: str, size: int) -> None:
        number = int(key[-8:-4].replace(".", "0"), 16)
        data = (b"%08x\n" % (number + size) * (size // 9 + 1))[:size]
        with open(path, "ab", buffering=0) as file:
            file.write(data)
        self._ledger.wrote(self._name, key, stream, data)
        self._on_write(path.rpartition("/")[2])


def unheard(_: Running) -> None:
    pass
