"""Whether a Styx under pressure is still itself: how fast it answers, how much memory it holds, who died."""

import math
import threading
import time
from typing import Final

import psutil

from tests.chaos.report import Report
from tests.chaos.rig import Rig
from tests.support.site import until

EVERY_S: Final = 0.05
CONTROL_P99_S: Final = 1.0
SERVER_MIB: Final = 1_024.0
AGENT_MIB: Final = 150.0  # both halves of one
PATIENCE_S: Final = 60.0
MIB: Final = 1 << 20
NAME: Final = "still-alive"
TASK: Final = {"name": NAME, "run": "true", "resources": {"cpus": 0.1}}


class Vitals:
    """Watches one server and its agents from its making until `tell`."""

    def __init__(self, site: Rig) -> None:
        self.wrong: list[str] = []
        self._site = site
        self._took_s: list[float] = []
        self._server_bytes = 0
        self._agent_bytes = 0
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=work, daemon=True) for work in (self._ask, self._weigh)
        ]
        for thread in self._threads:
            thread.start()

    def tell(self, report: Report, part: str) -> None:
        """The measures so far; and whether a task still runs from its submit to its end."""
        self._stop.set()
        for thread in self._threads:
            thread.join()
        report.figure(f"{part}: control requests", len(self._took_s))
        report.limit(f"{part}: control latency, p99", self.p99_s(), CONTROL_P99_S)
        report.figure(f"{part}: control latency, worst", f"{max(self._took_s):.2f} s")
        report.limit(f"{part}: server's memory", self._server_bytes / MIB, SERVER_MIB, "MiB")
        report.limit(f"{part}: agent's memory", self._agent_bytes / MIB, AGENT_MIB, "MiB")
        report.promise(f"{part}: other answers", self.wrong)
        report.promise(f"{part}: processes that ended", self._ended())
        report.promise(f"{part}: traces in logs", self._traces())
        report.limit(f"{part}: a task from submit to end after it", self._one(), 10.0)

    def p99_s(self) -> float:
        ordered = sorted(self._took_s)
        return ordered[math.ceil(0.99 * len(ordered)) - 1]

    def _ask(self) -> None:
        """A read from memory, one from the database and a write, in turn, on one connection."""
        job_id = ""
        turn = 0
        with self._site.client(PATIENCE_S) as client:
            while not self._stop.wait(EVERY_S):
                turn += 1
                began = time.monotonic()
                try:
                    if turn % 8 == 1:
                        answer = client.ask("POST", "/api/v1/jobs", {"tasks": {NAME: TASK}})
                        job_id = answer.json().get("job_id", job_id)
                    elif turn % 2:
                        answer = client.ask("GET", "/api/v1/agents")
                    else:
                        answer = client.ask("GET", f"/api/v1/jobs/{job_id}")
                except OSError as error:
                    self.wrong.append(f"no answer: {error}")
                    continue
                self._took_s.append(time.monotonic() - began)
                if answer.status not in {200, 201}:
                    self.wrong.append(f"{answer.status}: {answer.body[:200]!r}")

    def _weigh(self) -> None:
        server = self._site.servers[0].process
        while not self._stop.wait(2 * EVERY_S):
            if server is not None:
                self._server_bytes = max(self._server_bytes, _rss_bytes([server.pid]))
            for agent in self._site.agents:
                self._agent_bytes = max(self._agent_bytes, _rss_bytes(agent.pids()))

    def _ended(self) -> list[str]:
        ended = [server.name for server in self._site.servers if server.ended()]
        for agent in self._site.agents:
            ended += [f"{agent.name}: link"] if agent.ended() else []
            ended += [] if agent.supervisor() else [f"{agent.name}: supervisor"]
        return ended

    def _traces(self) -> list[str]:
        logs = [server.log for server in self._site.servers]
        logs += [agent.log for agent in self._site.agents]
        return [f"{log}" for log in logs if b"Traceback (most" in log.read_bytes()]

    def _one(self) -> float:
        began = time.monotonic()
        with self._site.client(PATIENCE_S) as client:
            accepted = client.settle("POST", "/api/v1/tasks", TASK)
            path = f"/api/v1/tasks/{accepted.json()['task_id']}?wait=5"
            until(
                lambda: client.get(path)["status"] == "succeeded",
                "a task still runs",
                deadline_s=PATIENCE_S,
            )
        return time.monotonic() - began


def _rss_bytes(pids: list[int]) -> int:
    total = 0
    for pid in pids:
        try:
            total += int(psutil.Process(pid).memory_info().rss)
        except psutil.NoSuchProcess:
            continue
    return total
