"""The private Postgres of a machine that has none: our own child, gone when we are gone.

Its files are in `<home>/postgres`: `data`, and `log` with what it said since its last start. It
listens on a Unix socket inside `data`, which only its user can enter, and on nothing else.
"""

import asyncio
import contextlib
import ctypes
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Final
from urllib.parse import quote

import psutil

from styx.errors import SetupError
from styx.store import binaries

START_S: Final = 60.0  # replaying the log after a crash is most of it
STOP_S: Final = 3.0  # a server has 5 s to stop
POLL_S: Final = 0.005
WATCH_S: Final = 0.25
# The kernel's bound on a socket's path is 108 bytes on Linux, 104 on macOS, its end included.
SOCKET_PATH_BYTES: Final = 100
SETTINGS: Final = {
    "listen_addresses": "",
    "unix_socket_directories": ".",
    "max_connections": "48",
    # Small when idle: one user, few connections, pages cached by the kernel anyway.
    "shared_buffers": "32MB",
    "wal_buffers": "1MB",
    "huge_pages": "off",
    "io_method": "sync",
    "max_worker_processes": "2",
    "max_parallel_workers_per_gather": "0",
    "max_logical_replication_workers": "0",
    "max_wal_senders": "0",
    "wal_level": "minimal",
    "jit": "off",
    # Less often, and therefore fewer full pages written: a crash replays at most this much.
    "checkpoint_timeout": "15min",
    "max_wal_size": "512MB",
    "log_min_messages": "warning",
    "log_checkpoints": "off",
}
_SINCE: Final = {"io_method": 18}  # the version that brought the setting
_IN_USE: Final = "is still in use"  # the shared memory, as Postgres complains of it


class HomeLock:
    """One server per home. The kernel lets go of it when the process ends, however it ends."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._file: IO[str] | None = None

    def acquire(self) -> None:
        """Raises: SetupError, naming who holds it."""
        try:
            self._home.mkdir(parents=True, exist_ok=True, mode=0o700)
            file = (self._home / "server.lock").open("a+")
        except OSError as error:
            raise SetupError(
                f"{self._home} cannot be used: {error.strerror}",
                hint="set STYX_HOME to a directory of yours",
            ) from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip()
            file.close()
            raise SetupError(
                f"another styx server (process {holder}) already runs on {self._home}",
                hint="stop it with `styx server stop`, or set STYX_HOME to another directory",
            ) from None
        file.seek(0)
        file.truncate()
        file.write(f"{os.getpid()}\n")
        file.flush()
        self._file = file

    def release(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


class EmbeddedPostgres:
    """Start it from the thread that lives as long as the process: it dies with that thread.

    Whoever starts it holds the home's `HomeLock`.
    """

    def __init__(self, home: Path) -> None:
        self._directory = home.absolute() / "postgres"
        self._data = self._directory / "data"
        self._who: binaries.Account | None = None
        self._postgres = Path()
        self._settings: list[str] = []
        self._child: subprocess.Popen[bytes] | None = None
        self._alias: Path | None = None

    async def start(self) -> str:
        """Make the database at its first start; return the URL once it answers.

        Raises: SetupError.
        """
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        owner = self._directory.stat().st_uid
        if owner == os.geteuid():
            # Under root, this is what keeps other processes of `nobody` out.
            self._directory.chmod(0o700)
        elif os.geteuid() != 0:
            raise SetupError(
                f"{self._directory} belongs to another user (number {owner})",
                hint="run Styx as that user, or set STYX_HOME to a directory of yours",
            )
        self._who = binaries.account(self._directory)
        version = self._data / "PG_VERSION"
        made_by = int(version.read_text()) if version.exists() else None
        found = await asyncio.to_thread(binaries.find, self._who, made_by)
        self._postgres = found.directory / "postgres"
        self._settings = [
            f"--{name}={value}"
            for name, value in SETTINGS.items()
            if found.major >= _SINCE.get(name, 0)
        ]
        if made_by is None:
            await asyncio.to_thread(self._make, found.directory / "initdb")
        await self._stop_orphan()
        await self._run()
        return self._url()

    async def stop(self) -> None:
        """Orderly, within `STOP_S`; then without a last checkpoint, which loses nothing."""
        child, self._child = self._child, None
        if child is not None:
            await _end(child.send_signal, lambda: child.poll() is not None)
        if self._alias is not None:
            shutil.rmtree(self._alias, ignore_errors=True)
            self._alias = None

    async def keep(self) -> None:
        """Start it again whenever it ends by itself, until cancelled. Raises: SetupError."""
        while True:
            await asyncio.sleep(WATCH_S)
            if self._child is not None and self._child.poll() is not None:
                await self._run()

    def _make(self, initdb: Path) -> None:
        """Into a directory of another name first: a half-made database never looks made."""
        new = self._directory / "data.new"
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(mode=0o700)
        if self._who is not None:
            os.chown(new, *self._who, follow_symlinks=False)
        done = subprocess.run(
            [
                *(initdb, f"--pgdata={self._seen(new)}", "--username=styx", "--auth=trust"),
                *("--encoding=UTF8", "--locale=C", "--no-instructions"),
            ],
            cwd=new,
            env=binaries.ENVIRONMENT,
            capture_output=True,
            check=False,
            **binaries.become(self._who),
        )
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip()
            raise SetupError(f"the private database could not be made: {said}", hint=binaries.CURE)
        new.rename(self._data)

    async def _run(self) -> None:
        log = self._directory / "log"
        try:
            async with asyncio.timeout(START_S):
                child = self._spawn(log)
                while not self._ready(child.pid):
                    if child.poll() is not None:
                        if _IN_USE not in log.read_text(errors="replace"):
                            raise SetupError(
                                f"the private Postgres ended at once: {_last_line(log)}",
                                hint=f"all that it said is in {log}",
                            )
                        # The sessions of a killed Postgres are still on their way out.
                        child = self._spawn(log)
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            raise SetupError(
                f"the private Postgres did not answer within {START_S:.0f} s",
                hint=f"what it said is in {log}",
            ) from None

    def _spawn(self, log: Path) -> subprocess.Popen[bytes]:
        sink = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        try:
            if self._who is not None:
                os.fchown(sink, *self._who)
            # Its own session: Ctrl-C at our terminal must not stop it under our last commit.
            self._child = subprocess.Popen(
                [self._postgres, "-D", self._seen(self._data), *self._settings],
                cwd=self._data,
                env=binaries.ENVIRONMENT,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                start_new_session=True,
                preexec_fn=_die_with_parent(os.getpid()),  # noqa: PLW1509 – two system calls
                **binaries.become(self._who),
            )
        finally:
            os.close(sink)
        return self._child

    def _seen(self, data: Path) -> str:
        """How the child names its directory, which is its working directory (see `binaries`)."""
        if self._who is not None and sys.platform == "linux":
            return "/proc/self/cwd"
        return str(data)

    def _pidfile(self) -> list[str]:
        try:
            return (self._data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return []

    def _ready(self, pid: int) -> bool:
        lines = self._pidfile()
        return len(lines) > 7 and lines[0] == str(pid) and lines[7].strip() == "ready"

    async def _stop_orphan(self) -> None:
        """A Postgres that outlived its server (where the kernel cannot end it with us)."""
        lines = self._pidfile()
        if not lines:
            return
        try:
            process = psutil.Process(int(lines[0]))
            if Path(process.cwd()) != self._data.resolve():
                return  # the number belongs to somebody else by now
        except (ValueError, psutil.Error):
            return
        await _end(process.send_signal, lambda: _gone(process))

    def _url(self) -> str:
        place = self._data
        if len(os.fsencode(place)) > SOCKET_PATH_BYTES - len("/.s.PGSQL.5432"):
            # A private directory of ours, and in it a short name for the long one.
            self._alias = Path(tempfile.mkdtemp(prefix="styx-"))
            place = self._alias / "pg"
            place.symlink_to(self._data)
        return f"postgresql://styx@/postgres?host={quote(str(place), safe='/')}"


def _gone(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE  # ended, and nobody has asked how
    except psutil.NoSuchProcess:
        return True


async def _end(send: Callable[[signal.Signals], None], gone: Callable[[], bool]) -> None:
    """Fast shutdown, then immediate shutdown, then none."""
    for sent in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
            send(sent)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_S):
                while not gone():  # noqa: ASYNC110 – the end of a process is no event of this loop
                    await asyncio.sleep(POLL_S)
                return


_PR_SET_PDEATHSIG: Final = 1
_libc: Final = ctypes.CDLL(None)


def _die_with_parent(parent: int) -> Callable[[], None] | None:
    """For the child, between fork and exec: fast shutdown when the thread that made it ends."""
    if sys.platform != "linux":
        return None

    def prepare() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGINT))
        if os.getppid() != parent:  # it ended before we asked to be told
            os._exit(1)

    return prepare


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"
