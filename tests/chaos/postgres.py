"""A Postgres of the harness's own, on TCP, which may be killed, stopped, frozen and started again."""

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Final

from styx.store import binaries

START_S: Final = 60.0
SETTINGS: Final = {
    "unix_socket_directories": "",
    "max_connections": "60",
    "shared_buffers": "32MB",
    "max_wal_size": "512MB",
    "log_min_messages": "warning",
}


class Postgres:
    """Its files are in `directory`. `listen` is what it binds to; clients are told `host`."""

    def __init__(
        self, directory: Path, port: int, *, listen: str = "127.0.0.1", within: tuple[str, ...] = ()
    ) -> None:
        self.port = port
        self._directory = directory
        self._listen = listen
        self._within = within  # a command that runs another one elsewhere, as `ip netns exec NAME`
        self._data = directory / "data"
        self._who = binaries.account(directory.parent)
        self._binaries = binaries.find(self._who, None).directory
        self.process: subprocess.Popen[bytes] | None = None

    def url(self, host: str = "127.0.0.1") -> str:
        return f"postgresql://styx@{host}:{self.port}/postgres"

    def start(self) -> None:
        """Return once it takes connections."""
        if not self._data.exists():
            self._make()
        self._spawn()
        deadline = time.monotonic() + START_S
        while not self._ready():
            assert time.monotonic() < deadline, self._log()
            if self.process is not None and self.process.poll() is not None:
                time.sleep(0.1)  # the sessions of the one that was killed are on their way out
                self._spawn()
            time.sleep(0.02)

    def start_soon(self) -> None:
        """As `start`, without waiting; `step` has to be called until it says that it is up."""
        self._spawn()

    def step(self) -> bool:
        if self.process is None or self.process.poll() is not None:
            self._spawn()
        return self._ready()

    def kill(self) -> None:
        """`kill -9` of the postmaster: its sessions end by themselves, without a last checkpoint."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        self.process = None

    def stop(self) -> None:
        """In order, as an administrator would: sessions are cut, the log is flushed."""
        if self.process is not None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait()
            self.process = None

    def signal(self, number: signal.Signals) -> None:
        """To the postmaster and all its sessions."""
        assert self.process is not None
        pid = self.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for each in (pid, *map(int, children)):
            os.kill(each, number)

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.signal(signal.SIGCONT)
            self.stop()
        shutil.rmtree(self._data, ignore_errors=True)

    def _make(self) -> None:
        self._data.mkdir(parents=True, mode=0o700)
        if self._who is not None:
            os.chown(self._data, *self._who)
        done = subprocess.run(
            [
                *(self._binaries / "initdb", "--pgdata=/proc/self/cwd", "--username=styx"),
                *("--auth=trust", "--encoding=UTF8", "--locale=C", "--no-instructions"),
            ],
            cwd=self._data,
            env=binaries.ENVIRONMENT,
            capture_output=True,
            check=False,
            **binaries.become(self._who),
        )
        assert done.returncode == 0, done.stderr.decode()
        with (self._data / "pg_hba.conf").open("a") as file:
            file.write("host all all 10.0.0.0/8 trust\n")

    def _spawn(self) -> None:
        settings = SETTINGS | {"listen_addresses": self._listen, "port": str(self.port)}
        words = [f"--{name}={value}" for name, value in settings.items()]
        command = [str(self._binaries / "postgres"), "-D", "/proc/self/cwd", *words]
        # A namespace is entered as root, so there the privileges are dropped after it.
        become = binaries.become(None if self._within else self._who)
        if self._within and self._who is not None:
            user, group = self._who
            drop = ("setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups")
            command = [*self._within, *drop, *command]
        with self._log_path.open("ab") as sink:
            self.process = subprocess.Popen(
                command,
                cwd=self._data,
                env=binaries.ENVIRONMENT,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                start_new_session=True,
                **become,
            )

    def _ready(self) -> bool:
        if self._within:
            pidfile = self._data / "postmaster.pid"
            lines = pidfile.read_text().splitlines() if pidfile.exists() else []
            return len(lines) > 7 and lines[7].strip() == "ready"
        with socket.socket() as probe:
            probe.settimeout(1.0)
            if probe.connect_ex(("127.0.0.1", self.port)):
                return False
            # A startup message with a version that nobody speaks is answered only when it is up.
            probe.sendall((8).to_bytes(4, "big") + (80877103).to_bytes(4, "big"))  # SSLRequest
            try:
                return probe.recv(1) in {b"N", b"S"}
            except OSError:
                return False

    @property
    def _log_path(self) -> Path:
        return self._directory / "postgres.log"

    def _log(self) -> str:
        return self._log_path.read_text(errors="replace")[-2_000:]
