# ruff: noqa: PTH115, PTH208 -- a path object costs more than what is done with it, thousands of times a minute
"""What one supervisor of a simulated machine sees of it, through the port that the real system stands
behind in the product. It may be killed at any system call.
"""

import asyncio
import contextlib
import os
from collections.abc import Callable, Collection
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

from styx.agent import proc, spawn
from tests.sim.computer import Computer, Running, unheard
from tests.sim.loop import Process, Simulation

LOCAL_S: Final = 0.001  # a line between the two halves
LEAST_S: Final = 1e-6  # a turn takes time, whatever is due
NO_PIDFD: Final = 0.01  # how often no descriptor is left for a process
DESCRIPTORS: Final = "/proc/self/fd"

P = ParamSpec("P")
T = TypeVar("T")


class Crash(BaseException):
    """`kill -9` of the supervisor, at exactly this call."""


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
        if self.crash_in:
            self.step()
        result = method(self, *args, **kwargs)
        if self.crash_in:
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
        if self._waiter is not None and not self._waiter.done() and self._is_ready():
            self._waiter.set_result(None)

    async def rest(self, seconds: float) -> None:
        """Until a descriptor is ready, for so long at most, and never for no time at all."""
        loop = self.process.loop
        waiter = self._waiter = loop.create_future()
        rest_s = LEAST_S if self._is_ready() else max(seconds, LEAST_S)
        timer = loop.call_later(rest_s, _set, waiter)
        await waiter
        timer.cancel()

    def died(self) -> None:
        """What the system does for a process that is gone."""
        self.listening = False
        self._computer.on_death = unheard
        self._computer.orphan(self._pid)
        for peer in self._peers:
            peer.close()

    def _is_ready(self) -> bool:
        readable = self.readable
        for number, writing in self._attended.items():
            if writing or (number in readable and readable[number]()):
                return True
        return False

    # --- the port -----------------------------------------------------------------------------

    def now(self) -> float:
        return self.process.loop.time()

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
    def is_main(self, pid: int, claimed_at: float, key: str) -> bool:
        process = self._living(pid)
        return process is not None and process.key == key and process.group == pid

    @_call
    def watch(self, pid: int) -> int:
        if self._simulation.random.random() < NO_PIDFD:
            raise OSError("the last descriptors are for other things")
        number, process = self.descriptor(), self._living(pid)
        self.readable[number] = lambda: process is None or process.status is not None
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
        readable = self.readable
        return [
            number
            for number, writing in self._attended.items()
            if writing or (number in readable and readable[number]())
        ]

    @_call
    def sync(self, descriptor: int) -> None:
        found = os.fstat(descriptor)
        self._computer.synced[found.st_ino] = found.st_size

    def _living(self, pid: int) -> Running | None:
        process = self._computer.processes.get(pid)
        return process if process is not None and process.status is None else None


def close_below(directory: Path) -> None:
    """Close the files that a killed supervisor left open: here it was no process of its own."""
    for descriptor in os.listdir(DESCRIPTORS):
        with contextlib.suppress(OSError):
            if os.readlink(f"{DESCRIPTORS}/{descriptor}").startswith(f"{directory}/"):
                os.close(int(descriptor))


def _set(waiter: "asyncio.Future[None]") -> None:
    if not waiter.done():
        waiter.set_result(None)
