"""A Styx of its own for the bench: real processes on a fresh home, gone with the context."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import quote

import psutil

from bench import measure, peers

STYX: Final = (sys.executable, "-m", "styx")
START_S: Final = 300.0  # a boot with a million tasks on a busy machine
ANSWER_S: Final = 600.0  # a million tasks in one request take their time
KEPT_S: Final = 2.0  # the server keeps an idle connection for longer, but not much
STOP_S: Final = 120.0
FINISHED: Final = {"succeeded", "failed", "cancelled", "skipped", "lost"}


class Styx:
    """A server and so many agents of so many slots. `until` is the path that says that it is up."""

    def __init__(
        self, home: Path, *, agents: int = 0, cpus: int = 2, until: str = "/health"
    ) -> None:
        self.home = home
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.env = os.environ | {
            "STYX_HOME": str(home),
            "STYX_SERVER_PORT": str(self.port),
            "STYX_SERVER_URL": self.url,
            "STYX_LOG_LEVEL": "warning",
            "PYTHONPATH": str(Path.cwd()),
        }
        self.env.pop("DATABASE_URL", None)
        started = time.perf_counter()
        self.server = self._start("serve")
        while not self._answers(until):
            if time.perf_counter() - started > START_S:
                self.server.kill()
                raise RuntimeError(f"no 200 from {until} within {START_S:.0f} s")
            time.sleep(0.002)
        self.start_s = time.perf_counter() - started
        self.agents = [
            self._start("agent", "--cpus", str(cpus), STYX_AGENT_HOME=str(home / f"agent-{number}"))
            for number in range(agents)
        ]
        self.client = Client(self.port)
        while self._ready() < agents:
            time.sleep(0.01)

    def close(self) -> None:
        """The supervisors would leave by themselves, a while after their agents; tasks would go on."""
        self.client.close()
        left = measure.family(self._supervisors())
        for process in self.agents:
            process.send_signal(signal.SIGTERM)
        for process in (*self.agents, self.server):
            process.send_signal(signal.SIGTERM)
            process.wait(STOP_S)
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    @property
    def database_url(self) -> str:
        return f"postgresql://styx@/postgres?host={quote(str(self.home / 'postgres' / 'data'), safe='/')}"

    @property
    def server_pids(self) -> set[int]:
        return {self.server.pid}

    @property
    def postgres_pids(self) -> set[int]:
        return measure.family([self.server.pid]) - self.server_pids

    @property
    def where(self) -> peers.Where:
        """Our Postgres, for a peer's own database."""
        postmaster = psutil.Process(self.server.pid).children()[0].pid
        return peers.Where(self.database_url, postmaster)

    @property
    def agent_pids(self) -> set[int]:
        """Both halves of each, and what runs below them."""
        return measure.family(self.link_pids)

    @property
    def link_pids(self) -> set[int]:
        """Both halves of each."""
        return self._supervisors() | {agent.pid for agent in self.agents}

    def _supervisors(self) -> set[int]:
        mark = str(self.home)
        return {
            process.pid
            for process in psutil.process_iter(["cmdline"])
            if (line := process.info["cmdline"]) and "styx.agent.supervisor" in line
            if any(word.startswith(mark) for word in line)
        }

    def _start(self, *arguments: str, **env: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen([*STYX, *arguments], env=self.env | env, stdin=subprocess.DEVNULL)

    def _ready(self) -> int:
        return sum(a["status"] == "ready" for a in self.client.get("/api/v1/agents"))

    def _answers(self, path: str) -> bool:
        if self.server.poll() is not None:
            raise RuntimeError("styx serve ended at once")
        try:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
            connection.request("GET", path)
            return connection.getresponse().status == 200
        except OSError:
            return False


class Client:
    """One keep-alive connection, and nothing that costs more than it must."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_S)
        self._used_at = time.monotonic()

    def get(self, path: str) -> Any:
        return self._send("GET", path, None)

    def post(self, path: str, body: bytes) -> Any:
        return self._send("POST", path, body)

    def close(self) -> None:
        self._connection.close()

    def _send(self, method: str, path: str, body: bytes | None) -> Any:
        headers = {} if body is None else {"Content-Type": "application/json"}
        if time.monotonic() - self._used_at > KEPT_S:
            self._connection.close()  # the next request opens it anew
        self._connection.request(method, path, body, headers)
        answer = self._connection.getresponse()
        text = answer.read()
        self._used_at = time.monotonic()
        if answer.status >= 300:
            raise RuntimeError(f"{method} {path}: {answer.status} {text[:300]!r}")
        return json.loads(text)


class Watcher:
    """Asks for /health all the while, on a thread of its own: what others wait is what a loop is late."""

    def __init__(self, port: int, path: str = "/health", pause_s: float = 0.01) -> None:
        self.taken_s: list[float] = []
        self._client = Client(port)
        self._path = path
        self._pause_s = pause_s
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watcher")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._client.close()

    def _run(self) -> None:
        while not self._over.wait(self._pause_s):
            started = time.perf_counter()
            self._client.get(self._path)
            self.taken_s.append(time.perf_counter() - started)


class Feed:
    """The stream of changes, on a connection of its own; opened before what it shall see."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
        self._connection.request("GET", "/api/v1/events")
        self._lines = self._connection.getresponse()

    def until_over(self, object_id: str) -> str:
        """Return the final status of a task or job once it is announced."""
        while line := self._lines.readline():
            if line.startswith(b"data:") and object_id.encode() in line:
                event = json.loads(line[5:])
                if event["object_id"] == object_id and event["status"] in FINISHED:
                    return str(event["status"])
        raise RuntimeError("the feed ended")

    def close(self) -> None:
        self._connection.close()


@contextlib.contextmanager
def styx(*, agents: int = 1, cpus: int = 2) -> Iterator[Styx]:
    with tempfile.TemporaryDirectory(prefix="styx-bench-") as home:
        subject = Styx(Path(home), agents=agents, cpus=cpus)
        try:
            yield subject
        finally:
            subject.close()


def call(env: dict[str, str], arguments: Sequence[str]) -> None:
    subprocess.run(
        [*STYX, *arguments],
        env=env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=True,
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
