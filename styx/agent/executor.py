"""The supervisor, as the link sees it: started if need be, told what to do, listened to."""

import asyncio
import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec

import styx
from styx.agent import home
from styx.agent.buffered import BufferedReader
from styx.core.agent import Capacity
from styx.kit.backoff import Backoff

RETRY_S: Final = 0.005  # a supervisor is up after 30 ms
FORGET_S: Final = 0.05  # the next start is usually sooner, and saves the supervisor a wake-up
RELAUNCH_BASE_S: Final = 0.1
RELAUNCH_CAP_S: Final = 5.0
QUEUES_PROTO: Final = 2
_LOG_BYTES: Final = 1 << 20

log: Final = logging.getLogger("styx.agent")
Record = dict[str, Any]  # a line of the journal: see `styx.agent.journal`


def launch(directory: str, env: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start a supervisor in a session of its own; one that finds another at work leaves again.

    Without `site`: its start and its memory are a third smaller, and it needs nothing but the
    standard library and this package.
    """
    log = os.path.join(directory, home.SUPERVISOR_LOG)
    mode = "ab" if os.path.exists(log) and os.stat(log).st_size < _LOG_BYTES else "wb"
    package = str(Path(styx.__file__).parents[1])
    with open(log, mode) as output:
        return subprocess.Popen(
            [sys.executable, "-S", "-P", "-m", "styx.agent.supervisor", directory],
            env=env | {"PYTHONPATH": package, "PYTHONUTF8": "1"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


class Executor:
    """Keeps the socket to the supervisor. `on_snapshot` gets all that it holds, whenever it has been
    greeted; `on_records` what it says of attempts after that.
    """

    def __init__(
        self,
        directory: str,
        env: dict[str, str],
        process: subprocess.Popen[bytes],
        *,
        capacity: Capacity,
        on_records: Callable[[list[Record]], None],
        on_snapshot: Callable[[list[Record]], None],
    ) -> None:
        self._directory = directory
        # By the standard library: a variable that is not UTF-8 comes through it unharmed.
        room = {"cpus_milli": capacity.cpus_milli, "memory_bytes": capacity.memory_bytes}
        self._hello = json.dumps({"do": "hello", "env": env, "room": room}).encode()
        self._env = env
        self._process = process
        self._on_records = on_records
        self._on_snapshot = on_snapshot
        self._transport: asyncio.WriteTransport | None = None
        self._orders: list[bytes] = []
        self._urgent = False
        self._later: asyncio.TimerHandle | None = None
        self._held: list[Record] = []
        self.synced = asyncio.Event()
        self._proto = 0  # that the supervisor speaks: it may be older than this link

    @property
    def queues(self) -> bool:
        """Whether it keeps a start for which there is no room until there is."""
        return self._proto >= QUEUES_PROTO

    async def run(self) -> None:
        """Hold the connection for good: whenever the supervisor is gone, there is another soon."""
        while True:
            self._transport, lines = await self._connect()
            self._orders = [self._hello]
            self._write()
            try:
                await lines.ended.wait()
            finally:
                self._transport.close()
                self._transport = None
                self._held.clear()
                self.synced.clear()

    def send(self, order: Record) -> None:
        """Said at the next `flush`: one system call, and one wake-up there, for many.

        Lost when the supervisor is gone: the next snapshot is the moment to say it again.
        """
        self._orders.append(msgspec.json.encode(order))
        self._urgent = self._urgent or order["do"] != "forget"

    def flush(self) -> None:
        """Say what is urgent. What can be forgotten goes along with it, or soon by itself."""
        if self._urgent:
            self._write()
        elif self._orders and self._later is None:
            self._later = asyncio.get_running_loop().call_later(FORGET_S, self._write)

    def _write(self) -> None:
        if self._later is not None:
            self._later.cancel()
            self._later = None
        if self._orders and self._transport is not None:
            self._transport.write(b"\n".join([*self._orders, b""]))
        self._orders.clear()
        self._urgent = False

    async def _connect(self) -> tuple[asyncio.WriteTransport, "_Lines"]:
        address = home.socket_address(self._directory)
        backoff = Backoff(base_s=RELAUNCH_BASE_S, cap_s=RELAUNCH_CAP_S)
        loop = asyncio.get_running_loop()
        while True:
            try:
                return await loop.create_unix_connection(lambda: _Lines(self._heard), address)
            except OSError:
                if self._process.poll() is not None:
                    log.debug("starting another supervisor")
                    await asyncio.sleep(backoff.next_s())
                    self._process = launch(self._directory, self._env)
            await asyncio.sleep(RETRY_S)

    def _heard(self, lines: list[bytes]) -> None:
        records: list[Record] = [msgspec.json.decode(line) for line in lines]
        if self.synced.is_set():
            self._on_records(records)
            return
        end = next((at for at, record in enumerate(records) if "synced" in record), None)
        self._held += records[:end]
        if end is not None:
            self._proto = records[end]["synced"]
            self.synced.set()
            self._on_snapshot(self._held)
            self._held = []
            self._on_records(records[end + 1 :])


class _Lines(BufferedReader):
    """`heard` gets the whole lines that have arrived, without their ends."""

    def __init__(self, heard: Callable[[list[bytes]], None]) -> None:
        super().__init__()
        self._heard = heard
        self._rest = b""

    def received(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        if lines:
            self._heard(lines)
