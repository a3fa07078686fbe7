"""The system under the supervisor, as it is. What each question promises is said in `ports.Kernel`."""

from __future__ import annotations

import os
import resource
import select
import socket
import sys

from styx.agent import proc, spawn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import Final

    from styx.agent import ports

HEADROOM: Final = 32  # descriptors that no pidfd may take: for links, files, and what a scan reads
_MAX_RSS_UNIT: Final = 1 if sys.platform == "darwin" else 1024
_EPOLL: Final = hasattr(select, "epoll")
_READ: Final = select.POLLIN
_WRITE: Final = select.POLLOUT


class System:
    """`wakeup` becomes readable when a signal has asked this process to end."""

    def __init__(self, directory: str, wakeup: int) -> None:
        self.terminated = False
        self._here = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        self._poll = select.epoll() if _EPOLL else select.poll()
        self._known: set[int] = set()
        self._wakeup = wakeup
        self.attend(wakeup)

    def now(self) -> float:
        return proc.now()

    def boot_id(self) -> str:
        return proc.boot_id()

    def oom_kills(self) -> int:
        return proc.oom_kills()

    def peak_rss_bytes(self) -> int:
        return proc.peak_rss_bytes()

    # --- processes ----------------------------------------------------------------------------

    def spawn(self, argv: list[str], env: dict[str, str], cwd: str, out: str, err: str) -> int:
        try:
            return spawn.spawn(argv, env, cwd, out, err)
        finally:
            os.fchdir(self._here)  # a task's directory shall not be kept busy by us

    def wait(self, pid: int) -> tuple[int, int, int] | None:
        reaped, status, usage = os.wait4(pid, os.WNOHANG)
        if reaped == 0:
            return None
        cpu_ms = round((usage.ru_utime + usage.ru_stime) * 1000)
        return status, cpu_ms, usage.ru_maxrss * _MAX_RSS_UNIT

    def bury(self, pid: int) -> bool:
        try:
            return os.waitpid(pid, os.WNOHANG)[0] == pid
        except ChildProcessError:
            return True

    def kill(self, pid: int, number: int) -> bool:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass
        except PermissionError:
            return False
        return True

    def kill_group(self, pid: int, number: int) -> None:
        try:
            os.killpg(pid, number)
        except (ProcessLookupError, PermissionError):
            pass

    def group_lives(self, pid: int) -> bool:
        try:
            os.killpg(pid, 0)
            while os.waitpid(-pid, os.WNOHANG)[0]:  # its dead, which became our children
                pass
        except PermissionError:  # macOS says so of a group of zombies
            return False
        except (ProcessLookupError, ChildProcessError):
            return False
        return True

    def children(self) -> list[int]:
        return proc.children() or []

    def marked(self, pid: int) -> str:
        return proc.marked(pid)

    def members(self, keys: Collection[str], roots: dict[int, str]) -> dict[str, set[int]]:
        return proc.members(keys, roots)

    def is_main(self, pid: int, claimed_at: float, key: str) -> bool:
        return proc.is_main(pid, claimed_at, key)

    # --- descriptors --------------------------------------------------------------------------

    def watch(self, pid: int) -> int:
        if not hasattr(os, "pidfd_open"):
            raise OSError("no pidfd on this system")
        descriptor = _pidfd(pid)
        self.attend(descriptor)
        return descriptor

    def unwatch(self, descriptor: int) -> None:
        # Unregister first: a child between vfork and exec may still hold a copy of the pidfd.
        self.leave(descriptor)
        os.close(descriptor)

    def listen(self, address: str) -> ports.Acceptor:
        return _Listening(address)

    def attend(self, descriptor: int, *, writing: bool = False) -> None:
        events = _READ | (_WRITE if writing else 0)
        if descriptor in self._known:
            self._poll.modify(descriptor, events)
        else:
            self._poll.register(descriptor, events)
            self._known.add(descriptor)

    def leave(self, descriptor: int) -> None:
        self._known.discard(descriptor)
        self._poll.unregister(descriptor)

    def poll(self, seconds: float) -> list[int]:
        ready = [found for found, _ in self._poll.poll(seconds if _EPOLL else seconds * 1000)]
        if self._wakeup in ready:
            os.read(self._wakeup, 64)
            self.terminated = True
        return ready

    def sync(self, descriptor: int) -> None:
        os.fsync(descriptor)


class _Listening(socket.socket):
    """At an address of the file system, which goes with it."""

    def __init__(self, address: str) -> None:
        super().__init__(socket.AF_UNIX, socket.SOCK_STREAM)
        if os.path.exists(address):
            os.unlink(address)  # of a supervisor that was killed: this one holds the lock
        self.bind(address)
        self.listen(4)
        self.setblocking(False)
        self._address = address
        self._inode = os.stat(address).st_ino

    def close(self) -> None:
        super().close()
        try:
            if os.stat(self._address).st_ino == self._inode:  # the home may be another one by now
                os.unlink(self._address)
        except FileNotFoundError:
            pass


def _pidfd(pid: int) -> int:
    """Raises: OSError, rather than take one of the last descriptors."""
    while True:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        try:
            descriptor = os.pidfd_open(pid)
        except OSError:
            if soft == hard:
                raise
        else:
            if soft < 0 or descriptor < soft - HEADROOM:
                return descriptor
            os.close(descriptor)
            if soft == hard:
                raise OSError("the last descriptors are for other things")
        # The limit is raised only now, since tasks inherit it, and programs that use select(2)
        # break with more than 1,024.
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
