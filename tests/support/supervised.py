"""A supervisor as a real process, driven over its socket as the link drives it."""

import asyncio
import json
import os
import signal
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from styx.agent import executor, home

WAIT_S: Final = 30.0
FOREVER: Final = 1e12

Record = dict[str, Any]


class Supervised:
    """`snapshot` is what the supervisor held when it was greeted; `told` all it has said since.

    Keys are short here and unique on the machine, as they are in earnest: what is left of an attempt
    is found by its key.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._suffix = f".{uuid.uuid4().hex}.0"
        self.directory.mkdir(mode=0o700, exist_ok=True)
        self.snapshot: dict[str, Record] = {}
        self.told: list[Record] = []
        self.launch()
        self.connect()

    def launch(self) -> None:
        self.process = executor.launch(str(self.directory), dict(os.environ))

    def connect(self, env: dict[str, str] | None = None) -> None:
        """As a new link. The one before, if it has not been dropped, is left to the supervisor."""
        deadline = time.monotonic() + WAIT_S
        while True:
            self._socket = socket.socket(socket.AF_UNIX)
            try:
                self._socket.connect(home.socket_address(str(self.directory)))
                self._greet(dict(os.environ) if env is None else env)
            except OSError:
                # Also reset: a child of a killed supervisor holds its socket until it has done exec.
                self._socket.close()
                assert time.monotonic() < deadline, "no supervisor answers"
                time.sleep(0.01)
            else:
                return

    def _greet(self, env: dict[str, str]) -> None:
        self._socket.settimeout(WAIT_S)
        self._lines = self._socket.makefile("rb")
        self.told.clear()
        self.send(do="hello", env=env)
        self.snapshot = {}
        while "synced" not in (record := self._receive()):
            self.snapshot[record["k"]] = record

    def drop(self) -> None:
        """As if the link had been killed."""
        self._lines.close()
        self._socket.close()

    def kill(self) -> None:
        """`kill -9` of the supervisor alone."""
        self.process.kill()
        self.process.wait()
        self.drop()

    def revive(self) -> None:
        self.launch()
        self.connect()

    def key(self, name: str) -> str:
        return name + self._suffix

    def send(self, **order: Any) -> None:
        if "k" in order:
            order["k"] = self.key(order["k"])
        self._socket.sendall(json.dumps(order).encode() + b"\n")

    def start(self, key: str, *argv: str, **order: Any) -> None:
        env = {"STYX_ATTEMPT_KEY": self.key(key)} | order.pop("env", {})
        defaults = {
            "cwd": "",
            "gpus": [],
            "cpus_milli": 1_000,
            "memory_bytes": 0,
            "durable": False,
            "exclusive": False,
            "until": FOREVER,
            "timeout": None,
            "grace": 30.0,
        }
        self.send(**(defaults | {"do": "start", "k": key, "argv": argv, "env": env} | order))

    def sh(self, key: str, script: str, **order: Any) -> None:
        self.start(key, "sh", "-c", script, **order)

    def stop(self, key: str, grace: float = 30.0) -> None:
        self.send(do="stop", k=key, grace=grace, why="cancelled")

    def wait(self, key: str, field: str) -> Record:
        """The first record of the attempt that has this field, told already or yet to come."""
        for record in self.told:
            if record.get("k") == key and field in record:
                return record
        while True:
            record = self._receive()
            if record.get("k") == key and field in record:
                return record

    def end(self, key: str) -> Record:
        exit_: Record = self.wait(key, "exit")["exit"]
        return exit_

    def run(self, key: str, *argv: str, **order: Any) -> Record:
        self.start(key, *argv, **order)
        return self.end(key)

    def out(self, key: str) -> bytes:
        return self._spooled(key, home.OUT_SUFFIX)

    def err(self, key: str) -> bytes:
        return self._spooled(key, home.ERR_SUFFIX)

    def _spooled(self, key: str, suffix: str) -> bytes:
        path = Path(home.spool_path(str(self.directory), self.key(key), suffix))
        return path.read_bytes() if path.exists() else b""

    def processes(self, key: str) -> list[int]:
        """The living processes that carry the attempt's marker in their environment."""
        return marked(self.key(key))

    def _receive(self) -> Record:
        line = self._lines.readline()
        if not line:
            raise ConnectionResetError("the supervisor closed the connection")
        record: Record = json.loads(line)
        record["k"] = record.get("k", "").removesuffix(self._suffix)
        self.told.append(record)
        return record

    def close(self) -> None:
        """Leave nothing behind, whatever the test did."""
        self.drop()
        self.process.kill()
        self.process.wait()
        for pid in marked(self._suffix):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def marked(end: str) -> list[int]:
    """The living processes with the marker of an attempt whose key ends so."""
    return [pid for key, pid in markers() if key.endswith(end)]


def markers() -> Iterator[tuple[str, int]]:
    """Every living process of any attempt on this machine."""
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            for variable in (entry / "environ").read_bytes().split(b"\0"):
                if variable.startswith(b"STYX_ATTEMPT_KEY="):
                    yield variable.partition(b"=")[2].decode(), int(entry.name)


def gone(pid: int) -> bool:
    """Whether it has ended, though perhaps nobody has waited for it."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] == b"Z"
    except OSError:
        return True


def until(condition: Any, what: str = "", deadline_s: float = WAIT_S) -> Any:
    """The first true value of the condition."""
    deadline = time.monotonic() + deadline_s
    while not (value := condition()):
        assert time.monotonic() < deadline, f"still not {what or condition}"
        time.sleep(0.01)
    return value


async def eventually(condition: Any, what: str = "", deadline_s: float = WAIT_S) -> Any:
    """The same in an async test, whose server must go on answering meanwhile."""
    deadline = time.monotonic() + deadline_s
    while not (value := condition()):
        assert time.monotonic() < deadline, f"still not {what or condition}"
        await asyncio.sleep(0.01)
    return value


@contextmanager
def supervised(directory: Path) -> Iterator[Supervised]:
    held = Supervised(directory)
    try:
        yield held
    finally:
        held.close()
