"""A whole Styx of real processes on a home of its own: `styx serve`, agents beside it, the CLI.

Nothing here waits for time: every wait is for a condition, with a deadline that only a hang reaches.
"""

import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psutil

ROOT: Final = Path(__file__).parent.parent.parent
STYX: Final = (sys.executable, "-m", "styx")
DEADLINE_S: Final = 60.0
OVER: Final = {"succeeded", "failed", "cancelled", "skipped", "lost"}


def until(condition: Callable[[], Any], what: str = "", *, deadline_s: float = DEADLINE_S) -> Any:
    """The first true value of the condition."""
    end = time.monotonic() + deadline_s
    while not (value := condition()):
        assert time.monotonic() < end, f"still not: {what or condition}"
        time.sleep(0.02)
    return value


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class AgentProcess:
    """Both halves of one agent: the link, which we start, and the supervisor, which it starts."""

    home: Path
    name: str
    start: Callable[[], subprocess.Popen[bytes]]
    link: subprocess.Popen[bytes]

    def kill_link(self) -> None:
        self.link.kill()
        self.link.wait()

    def kill_supervisor(self) -> None:
        for process in self.supervisors():
            process.kill()
            process.wait()

    def restart(self) -> None:
        self.link = self.start()

    def supervisors(self) -> list[psutil.Process]:
        found: list[psutil.Process] = []
        for process in psutil.process_iter(["cmdline"]):
            words = process.info["cmdline"] or []
            if "styx.agent.supervisor" in words and str(self.home) in words:
                found.append(process)
        return found


@dataclass
class Site:
    home: Path
    settings: str = ""  # TOML
    port: int = field(default_factory=free_port)
    server: subprocess.Popen[bytes] | None = None
    agents: dict[str, AgentProcess] = field(default_factory=dict)
    connection: http.client.HTTPConnection | None = None

    # --- processes --------------------------------------------------------------------------------

    @property
    def env(self) -> dict[str, str]:
        """Of every process of the site; nothing of ours that could choose another server or colour."""
        kept = {
            k: v for k, v in os.environ.items() if not k.startswith("STYX_") and k != "DATABASE_URL"
        }
        return kept | {
            "SITE_HOME": str(self.home),  # tasks inherit it: so a leftover is found
            "STYX_HOME": str(self.home),
            "STYX_CONFIG": str(self.home / "test.toml"),
            "STYX_SERVER_PORT": str(self.port),
            "PYTHONPATH": str(ROOT),
            "NO_COLOR": "1",
        }

    def start(self) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        (self.home / "test.toml").write_text(self.settings)
        with (self.home / "server.stderr").open("ab") as sink:
            self.server = subprocess.Popen(
                [*STYX, "serve"], env=self.env, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink
            )
        until(self._up, "the server answers")

    def kill(self) -> None:
        assert self.server is not None
        self.hang_up()
        self.server.kill()
        self.server.wait()

    def stop(self) -> int:
        assert self.server is not None
        self.hang_up()
        self.server.terminate()
        return self.server.wait(timeout=DEADLINE_S)

    def agent(self, name: str, *options: str, cpus: float = 2) -> AgentProcess:
        """Start one, and return once it may be given work."""
        home = self.home / f"agent-{name}"
        env = self.env | {"STYX_AGENT_ID": name, "STYX_AGENT_HOME": str(home)}

        def start() -> subprocess.Popen[bytes]:
            with (self.home / f"agent-{name}.stderr").open("ab") as sink:
                return subprocess.Popen(
                    [*STYX, "agent", "--cpus", str(cpus), *options],
                    env=env, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink,
                )  # fmt: skip

        self.agents[name] = AgentProcess(home, name, start, start())
        until(lambda: self.agent_status(name) == "ready", f"agent {name} is ready")
        return self.agents[name]

    def close(self) -> None:
        """Leave no process behind, whatever the test did."""
        for agent in self.agents.values():
            if agent.link.poll() is None:
                agent.link.terminate()
        if self.server is not None and self.server.poll() is None:
            self.stop()
        for agent in self.agents.values():
            agent.link.wait(timeout=DEADLINE_S)
            agent.kill_supervisor()
        for process in self.strays():
            process.kill()

    def strays(self, task_id: str = "") -> list[psutil.Process]:
        """Processes of this site's tasks, or of one task, wherever they went."""
        found: list[psutil.Process] = []
        for process in psutil.process_iter():
            try:
                env = process.environ()
                if process.status() == psutil.STATUS_ZOMBIE:
                    continue
            except psutil.Error:
                continue
            ours = "STYX_TASK_ID" in env and env.get("SITE_HOME") == str(self.home)
            if ours and task_id in {"", env["STYX_TASK_ID"]}:
                found.append(process)
        return found

    def cli(
        self,
        *words: str,
        cwd: Path | None = None,
        limit_s: float = 2 * DEADLINE_S,
        **env: str,
    ) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [*STYX, *words],
            cwd=cwd,
            env=self.env | env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=limit_s,
        )

    # --- HTTP -------------------------------------------------------------------------------------

    def call(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> Answer:
        """On a kept connection. `body` is sent as it is if it is bytes, else as JSON."""
        payload = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        given = {"Content-Type": "application/json"} if payload is not None else {}
        kept = self.connection
        if kept is not None:
            try:
                return self._ask(kept, method, path, payload, given | (headers or {}))
            except (OSError, http.client.HTTPException):  # it was idle for too long
                self.hang_up()
        address = ("127.0.0.1", self.port)
        self.connection = http.client.HTTPConnection(*address, timeout=DEADLINE_S)
        try:
            return self._ask(self.connection, method, path, payload, given | (headers or {}))
        except (OSError, http.client.HTTPException):
            self.hang_up()
            raise

    @staticmethod
    def _ask(
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        body: bytes | None,
        headers: dict[str, str],
    ) -> Answer:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return Answer(answer.status, answer.headers, answer.read())

    def hang_up(self) -> None:
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def get(self, path: str) -> Any:
        answer = self.call("GET", path)
        assert answer.status == 200, answer.body
        return answer.json()

    def post(self, path: str, body: Any = None) -> Any:
        answer = self.call("POST", path, body)
        assert 200 <= answer.status < 300, answer.body
        return answer.json()

    def submit(self, **spec: Any) -> str:
        """One task; return its id."""
        return str(self.post("/api/v1/tasks", spec)["task_id"])

    def job(self, tasks: Any, **fields: Any) -> tuple[str, dict[str, Any]]:
        """Return the job's id and the ids of its tasks by name."""
        accepted = self.post("/api/v1/jobs", {"tasks": tasks} | fields)
        return accepted["job_id"], accepted["task_ids"]

    def task(self, task_id: str) -> Any:
        return self.get(f"/api/v1/tasks/{task_id}")

    def status(self, task_id: str) -> str:
        return str(self.task(task_id)["status"])

    def finished(self, task_id: str) -> Any:
        """The task, once it is over."""
        return until(
            lambda: (task := self.task(task_id))["status"] in OVER and task,
            f"task {task_id} is over",
        )

    def job_finished(self, job_id: str, *, deadline_s: float = DEADLINE_S) -> Any:
        return until(
            lambda: (job := self.get(f"/api/v1/jobs/{job_id}"))["status"] != "running" and job,
            f"job {job_id} is over",
            deadline_s=deadline_s,
        )

    def output(self, task_id: str, stream: str = "out") -> bytes:
        """All of it, once it is complete."""
        answer = self.call("GET", f"/api/v1/tasks/{task_id}/logs?stream={stream}&follow=1")
        assert answer.status == 200, answer.body
        return answer.body

    def agent_status(self, name: str) -> str:
        agents = self.get("/api/v1/agents")
        return str(next((a["status"] for a in agents if a["name"] == name), ""))

    def _up(self) -> bool:
        assert self.server is not None
        if self.server.poll() is not None:
            raise AssertionError((self.home / "server.stderr").read_text())
        try:
            return self.call("GET", "/readyz").status == 200
        except (OSError, http.client.HTTPException):
            return False
