"""T-11: Postgres stopped, frozen, and its sessions cut under load: what clients see, and what is lost."""

import asyncio
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import asyncpg

from tests.chaos import rig
from tests.chaos.report import Report
from tests.chaos.rig import Rig
from tests.support.site import until

ANSWERED_S: Final = 2.0
BACK_S: Final = 5.0
WRITERS: Final = 4
PAUSE_S: Final = 0.05
LONG_S: Final = 120.0
CUTS: Final = 20  # storms of pg_terminate_backend
TASK: Final = 'echo "$STYX_TASK_ID" >>"$LEDGER"; sleep 0.5'
_driver: Any = asyncpg  # it ships no types
Act = Callable[[], None]
CUT: Final = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
)


class Writers:
    """Submit without pause, as clients that do not repeat; remember every answer."""

    def __init__(self, site: Rig, ledger: Path) -> None:
        self.accepted: list[str] = []
        self.wrong: list[str] = []
        self.answers: Counter[int] = Counter()
        self.slowest_503_s = 0.0
        self.last_201 = 0.0
        self._site = site
        self._document = {
            "name": "small",
            "run": TASK,
            "env": {"LEDGER": str(ledger)},
            "resources": {"cpus": 0.1},
        }
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._write, daemon=True) for _ in range(WRITERS)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _write(self) -> None:
        with self._site.client(30.0) as client:
            while not self._stop.wait(PAUSE_S):
                sent = time.monotonic()
                try:
                    answer = client.ask("POST", "/api/v1/tasks", self._document)
                except OSError as error:
                    self.wrong.append(f"no answer: {error}")
                    continue
                took_s = time.monotonic() - sent
                self.answers[answer.status] += 1
                if answer.status == 201:
                    self.accepted.append(answer.json()["task_id"])
                    self.last_201 = time.monotonic()
                elif answer.status == 503:
                    self.slowest_503_s = max(self.slowest_503_s, took_s)
                    if not answer.headers.get("Retry-After"):
                        self.wrong.append("503 without Retry-After")
                else:
                    self.wrong.append(f"{answer.status}: {answer.body[:200]!r}")


def run(*, seed: int, seconds: float, agents: int) -> Report:
    """Postgres is away, then frozen, for `seconds` each."""
    with rig.running("dbfaults", seed, "[scheduler]\nretry_base_s = 0.2\n") as site:
        ledger = site.directory / "ledger"
        ledger.touch()
        site.start(1)
        site.join(agents, "--cpus", "8")
        report = Report("dbfaults", seed, site.directory)
        report.figure("Postgres away for", f"{seconds:g} s")
        writers = Writers(site, ledger)
        time.sleep(2.0)
        _fault(report, "stopped", writers, seconds, site.postgres.stop, site.postgres.start)
        site_signal = site.postgres.signal
        _fault(
            report, "frozen", writers, seconds,
            lambda: site_signal(signal.SIGSTOP), lambda: site_signal(signal.SIGCONT),
        )  # fmt: skip
        for _ in range(CUTS):
            asyncio.run(_cut(site.postgres.url()))
            time.sleep(0.3)
        _back(writers, "sessions are cut")
        writers.stop()
        report.figure("storms of cut sessions", CUTS)
        for status, count in sorted(writers.answers.items()):
            report.figure(f"answers {status}", count)
        report.limit("slowest 503", writers.slowest_503_s, ANSWERED_S)
        report.promise("other answers", writers.wrong)
        report.promise("accepted tasks that did not succeed", _unfinished(site, writers))
        started = Counter(ledger.read_text().split())
        report.promise("tasks run twice", [key for key, n in started.items() if n > 1])
        return report


def _fault(
    report: Report, word: str, writers: Writers, seconds: float, begin: Act, end: Act
) -> None:
    begin()
    time.sleep(seconds)
    end()
    report.limit(f"writes again after {word}", _back(writers, word), BACK_S)


def _back(writers: Writers, word: str) -> float:
    began = time.monotonic()
    until(lambda: writers.last_201 > began, f"writes after {word}", deadline_s=LONG_S)
    return writers.last_201 - began


async def _cut(url: str) -> None:
    connection = await _driver.connect(url)
    try:
        await connection.execute(CUT)
    finally:
        await connection.close()


def _unfinished(site: Rig, writers: Writers) -> list[str]:
    found: list[str] = []
    with site.client(70.0) as client:
        for task_id in writers.accepted:
            answer = client.settle("GET", f"/api/v1/tasks/{task_id}?wait=60")
            task = answer.json()
            if answer.status != 200 or task["status"] != "succeeded":
                found.append(f"{task_id}: {answer.status} {task.get('status')}")
    return found
