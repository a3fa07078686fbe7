"""The system under a simulated machine's supervisor: processes, signals, descriptors, a power switch.

`Computer` is the hardware and its processes, which outlive both halves of the agent. `Kernel` is what
one supervisor sees of it, through the port that the real system stands behind in the product.
"""

import asyncio
import contextlib
import os
from collections.abc import Callable, Collection
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

from styx.agent import proc, spawn
from tests.sim.ledger import Ledger
from tests.sim.loop import Clock, Handle, Process, Simulation

INIT: Final = 1
TERM: Final = 15
KILL: Final = 9
LOCAL_S: Final = 0.001  # a line between the two halves
LEAST_S: Final = 1e-6  # a turn takes time, whatever is due
DIES_WITHIN_S: Final = 0.01  # of SIGKILL
STUBBORN: Final = 0.1  # how many commands do not heed SIGTERM
LEAVES_DAEMON: Final = 0.08  # how many leave a process behind that has left their group
NO_PIDFD: Final = 0.01  # how often no descriptor is left for a process

P = ParamSpec("P")
T = TypeVar("T")


class Crash(BaseException):
    """`kill -9` of the supervisor, at exactly this call."""


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
        self.full = full
        self.on_death: Callable[[Running], None] = _unheard
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
            Path(path).touch()
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
        with Path(path).open("ab") as file:
            file.write(data)
        self._ledger.wrote(key, stream, data)
        self._on_write(path.rpartition("/")[2])


class Peer:
    """One connection of the supervisor's socket: `fed` by the link, read and written by the supervisor."""

    def __init__(self, kernel: "Kernel", link: Process, protocol: Any) -> None:
        self._kernel = kernel
        self._link = link
        self._protocol = protocol
        self._inbox = bytearray()
        self._number = kernel.descriptor()
        self._ended = False  # the link's end is closed
        kernel.readable[self._number] = lambda: bool(self._inbox) or self._ended

    # --- the supervisor's end

    def fileno(self) -> int:
        return self._number

    def recv(self, size: int, /) -> bytes:
        self._kernel.step()
        data = bytes(self._inbox[:size])
        del self._inbox[:size]
        if not data and not self._ended:
            raise BlockingIOError
        return data

    def send(self, data: bytes | bytearray, /) -> int:
        self._kernel.step()
        if not self._link.alive:
            raise BrokenPipeError
        self._link.post(self._kernel.soon(), self._protocol.received, bytes(data))
        self._kernel.step()
        return len(data)

    def setblocking(self, flag: bool, /) -> None:
        assert not flag

    def close(self) -> None:
        if self._kernel.readable.pop(self._number, None) and self._link.alive:
            self._link.post(self._kernel.soon(), self._protocol.connection_lost, None)

    # --- the link's

    def feed(self, data: bytes) -> None:
        self._inbox += data
        self._kernel.wake()

    def end(self) -> None:
        self._ended = True
        self._kernel.wake()


class Line:
    """The link's end of a `Peer`: what is used of an asyncio transport."""

    def __init__(self, kernel: "Kernel", peer: Peer) -> None:
        self._kernel = kernel
        self._peer = peer

    def write(self, data: bytes) -> None:
        self._kernel.process.post(self._kernel.soon(), self._peer.feed, data)

    def close(self) -> None:
        self._kernel.process.post(self._kernel.soon(), self._peer.end)


class _Acceptor:
    def __init__(self, kernel: "Kernel") -> None:
        self._kernel = kernel
        self._number = kernel.descriptor()
        kernel.readable[self._number] = lambda: bool(kernel.newcomers)

    def fileno(self) -> int:
        return self._number

    def accept(self) -> tuple[Peer, None]:
        self._kernel.step()
        if not self._kernel.newcomers:
            raise BlockingIOError
        return self._kernel.newcomers.pop(0), None

    def close(self) -> None:
        self._kernel.listening = False


def _call(
    method: Callable[Concatenate["Kernel", P], T],
) -> Callable[Concatenate["Kernel", P], T]:
    """A system call: the caller may be killed before it or after it."""

    @wraps(method)
    def call(self: "Kernel", /, *args: P.args, **kwargs: P.kwargs) -> T:
        self.step()
        result = method(self, *args, **kwargs)
        self.step()
        return result

    return call


class Kernel:
    """`styx.agent.ports.Kernel` for the supervisor that `process` is."""

    def __init__(self, simulation: Simulation, computer: Computer, process: Process) -> None:
        self.terminated = False
        self.process = process
        self.listening = False
        self.newcomers: list[Peer] = []
        self.readable: dict[int, Callable[[], bool]] = {}
        self.crash_in = 0  # calls from now; 0: not at all
        self._simulation = simulation
        self._computer = computer
        self._pid = computer.pid()
        self._attended: dict[int, bool] = {}
        self._peers: list[Peer] = []
        self._descriptors = 2
        self._waiter: asyncio.Future[None] | None = None
        computer.on_death = lambda _: self.wake()

    # --- the simulation's side ----------------------------------------------------------------

    def step(self) -> None:
        if self.crash_in:
            self.crash_in -= 1
            if not self.crash_in:
                raise Crash

    def soon(self) -> float:
        return self._simulation.now() + LOCAL_S

    def descriptor(self) -> int:
        self._descriptors += 1
        return self._descriptors

    def connect(self, link: Process, protocol: Any) -> Line:
        """Raises: ConnectionRefusedError."""
        if not self.listening or not self.process.alive:
            raise ConnectionRefusedError
        peer = Peer(self, link, protocol)
        self.newcomers.append(peer)
        self._peers.append(peer)
        self.process.post(self.soon(), self.wake)
        return Line(self, peer)

    def wake(self) -> None:
        if self._waiter is not None and not self._waiter.done() and self._ready():
            self._waiter.set_result(None)

    async def rest(self, seconds: float) -> None:
        """Until a descriptor is ready, for so long at most, and never for no time at all."""
        loop = asyncio.get_running_loop()
        waiter = self._waiter = loop.create_future()
        timer = loop.call_later(LEAST_S if self._ready() else max(seconds, LEAST_S), _set, waiter)
        await waiter
        timer.cancel()

    def died(self) -> None:
        """What the system does for a process that is gone."""
        self.listening = False
        self._computer.on_death = _unheard
        self._computer.orphan(self._pid)
        for peer in self._peers:
            peer.close()

    def _ready(self) -> list[int]:
        return [
            number
            for number, writing in self._attended.items()
            if writing or (number in self.readable and self.readable[number]())
        ]

    # --- the port -----------------------------------------------------------------------------

    def now(self) -> float:
        return self._computer.clock.monotonic()

    def boot_id(self) -> str:
        return str(self._computer.boots)

    def oom_kills(self) -> int:
        return 0

    def peak_rss_bytes(self) -> int:
        return 0

    @_call
    def spawn(self, argv: list[str], env: dict[str, str], cwd: str, out: str, err: str) -> int:
        if full := self._computer.full():
            raise spawn.MachineFull(full)
        return self._computer.execute(argv, env[proc.MARKER], self._pid, out, err)

    @_call
    def wait(self, pid: int) -> tuple[int, int, int] | None:
        process = self._computer.processes[pid]
        assert process.parent == self._pid
        if process.status is None:
            return None
        self._computer.bury(process)
        return process.status, 0, 0

    @_call
    def bury(self, pid: int) -> bool:
        process = self._computer.processes.get(pid)
        if process is None or process.parent != self._pid:
            return True
        if process.status is None:
            return False
        self._computer.bury(process)
        return True

    @_call
    def kill(self, pid: int, number: int) -> bool:
        if process := self._computer.processes.get(pid):
            self._computer.signal(process, number)
        return True

    @_call
    def kill_group(self, pid: int, number: int) -> None:
        for process in list(self._computer.processes.values()):
            if process.group == pid:
                self._computer.signal(process, number)

    @_call
    def group_lives(self, pid: int) -> bool:
        group = [p for p in self._computer.processes.values() if p.group == pid]
        for process in group:
            if process.status is not None and process.parent == self._pid:
                self._computer.bury(process)
        return any(process.status is None for process in group)

    @_call
    def children(self) -> list[int]:
        return [p.pid for p in self._computer.processes.values() if p.parent == self._pid]

    @_call
    def marked(self, pid: int) -> str:
        process = self._living(pid)
        return "" if process is None else process.key

    @_call
    def members(self, keys: Collection[str], roots: dict[int, str]) -> dict[str, set[int]]:
        found: dict[str, set[int]] = {key: set() for key in sorted(keys)}
        for process in self._computer.processes.values():
            if process.status is None and process.key in found:
                found[process.key].add(process.pid)
        return found

    @_call
    def is_leader(self, pid: int) -> bool:
        process = self._living(pid)
        return process is not None and process.group == pid

    @_call
    def is_main(self, pid: int, claimed_at: float, key: str) -> bool:
        process = self._living(pid)
        return process is not None and process.key == key and process.group == pid

    @_call
    def watch(self, pid: int) -> int:
        if self._simulation.random.random() < NO_PIDFD:
            raise OSError("the last descriptors are for other things")
        number = self.descriptor()
        self.readable[number] = lambda: self._living(pid) is None
        self._attended[number] = False
        return number

    @_call
    def unwatch(self, descriptor: int) -> None:
        del self.readable[descriptor], self._attended[descriptor]

    @_call
    def listen(self, address: str) -> _Acceptor:
        self.listening = True
        return _Acceptor(self)

    @_call
    def attend(self, descriptor: int, *, writing: bool = False) -> None:
        self._attended[descriptor] = writing

    @_call
    def leave(self, descriptor: int) -> None:
        del self._attended[descriptor]

    @_call
    def poll(self, seconds: float) -> list[int]:
        return self._ready()

    @_call
    def sync(self, descriptor: int) -> None:
        pass

    def _living(self, pid: int) -> Running | None:
        process = self._computer.processes.get(pid)
        return process if process is not None and process.status is None else None


def close_below(directory: Path) -> None:
    """Close the files that a killed supervisor left open: here it was no process of its own."""
    for descriptor in list(Path("/proc/self/fd").iterdir()):
        with contextlib.suppress(OSError):
            if descriptor.readlink().is_relative_to(directory):
                os.close(int(descriptor.name))


def _set(waiter: "asyncio.Future[None]") -> None:
    if not waiter.done():
        waiter.set_result(None)


def _unheard(_: Running) -> None:
    pass
