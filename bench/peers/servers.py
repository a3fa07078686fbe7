"""Prefect and dstack, each on its own SQLite: what their server takes to start again, to be there, to take a run.

`prefect` or `dstack`, then `start`, `memory` or `submit`, answers each line with [seconds or MiB, 0].
"""

import http.client
import json
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

from bench.asked import answer
from bench.measure import family, pss_mib, wall_s

START_S: Final = 120.0
SETTLE_S: Final = 5.0


class Server:
    def __init__(self, arguments: list[str], env: dict[str, str], port: int, health: str) -> None:
        program = [str(Path(sys.executable).parent / arguments[0]), *arguments[1:]]
        self._log = Path("server.log").open("wb")  # noqa: SIM115 - as long as the process
        started = time.perf_counter()
        self._process = subprocess.Popen(
            program,
            env=os.environ | env,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )
        self.headers = {"Content-Type": "application/json"}
        self._port = port
        while not self._answers(health):
            if time.perf_counter() - started > START_S or self._process.poll() is not None:
                sys.exit(Path("server.log").read_text()[-200:].replace("\n", " "))
            time.sleep(0.01)
        self.start_s = time.perf_counter() - started
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def post(self, path: str, body: dict[str, Any]) -> Any:
        self._connection.request("POST", path, json.dumps(body), self.headers)
        answer = self._connection.getresponse()
        text = answer.read()
        if answer.status >= 300:
            raise RuntimeError(f"{path}: {answer.status} {text[:300]!r}")
        return json.loads(text or b"null")

    def memory_mib(self) -> float:
        return pss_mib(family([self._process.pid]))

    def connect(self) -> None:
        """Anew: it ends a connection that was idle for a while."""
        self._connection.close()
        self._connection.connect()

    def close(self) -> None:
        members = family([self._process.pid])
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            for pid in members:
                os.kill(pid, 9)

    def _answers(self, health: str) -> bool:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=5)
            connection.request("GET", health)
            return connection.getresponse().status == 200
        except OSError:
            return False


class Kind(NamedTuple):
    start: Callable[[], Server]
    submit: Callable[[Server], Callable[[], object]]  # which prepares what a submit needs


def prefect() -> Kind:
    port = _free_port()
    env = {
        "PREFECT_HOME": str(Path.cwd()),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
    }
    arguments = ["prefect", "server", "start", "--port", str(port)]

    def submit(server: Server) -> Callable[[], object]:
        flow = server.post("/api/flows/", {"name": "bench"})["id"]
        state = {"type": "SCHEDULED", "name": "Scheduled"}
        return lambda: server.post("/api/flow_runs/", {"flow_id": flow, "state": state})

    return Kind(lambda: Server(arguments, env, port, "/api/health"), submit)


def dstack() -> Kind:
    port, token = _free_port(), secrets.token_hex(16)
    env = {"HOME": str(Path.cwd()), "DO_NOT_TRACK": "1"}
    arguments = ["dstack", "server", "--port", str(port), "--host", "127.0.0.1", "--token", token]
    run = {
        "configuration": {"type": "task", "commands": ["echo hi"]},
        "configuration_path": "bench.dstack.yml",
        "ssh_key_pub": "ssh-ed25519 AAAA",
    }

    def submit(server: Server) -> Callable[[], object]:
        server.headers["Authorization"] = f"Bearer {token}"
        body = {"plan": {"run_spec": run}, "force": False}
        return lambda: server.post("/api/project/main/runs/apply", body)

    return Kind(lambda: Server(arguments, env, port, "/healthcheck"), submit)


def starts(kind: Kind) -> None:
    def again(_: str) -> tuple[float, float]:
        server = kind.start()
        server.close()
        return server.start_s, 0.0

    answer(again)


def memory(kind: Kind) -> None:
    """Each time of a server of its own."""

    def idle(_: str) -> tuple[float, float]:
        server = kind.start()
        try:
            time.sleep(SETTLE_S)
            return server.memory_mib(), 0.0
        finally:
            server.close()

    answer(idle)


def submits(kind: Kind) -> None:
    server = kind.start()
    time.sleep(SETTLE_S)  # before, Prefect answers 503
    server.connect()
    act = kind.submit(server)

    def one(_: str) -> tuple[float, float]:
        server.connect()
        return wall_s(act), 0.0

    try:
        act()  # warm
        answer(one)
    finally:
        server.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    peer = {"prefect": prefect, "dstack": dstack}[sys.argv[1]]()
    peer.start().close()  # its database is made, its modules are compiled
    {"start": starts, "memory": memory, "submit": submits}[sys.argv[2]](peer)
