"""The database is restored from an older copy while an agent runs: nothing is killed (T-20)."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from styx.store import binaries
from tests.support.postgres import Postgres
from tests.support.site import Site, until

SETTINGS = """
[database]
url = "{url}"
[scheduler]
redrive_s = 0.5
"""


@pytest.fixture
def url(postgres: Postgres) -> Iterator[str]:
    made = postgres.clone()
    yield made
    postgres.drop(made)


@pytest.fixture
def own(url: str, tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path / "home", SETTINGS.format(url=url))
    try:
        yield made
    finally:
        made.close()


def postgres_program(name: str, *words: str, **options: bytes) -> bytes:
    directory = binaries.find(None, None).directory
    done = subprocess.run([directory / name, *words], capture_output=True, check=False, **options)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def foreign(site: Site) -> list[str]:
    """What the only agent's open session said that it runs and the database never knew."""
    found: list[str] = site.get("/api/v1/agents")[0]["foreign"]
    return found


def test_what_ran_since_the_backup_runs_on_and_is_listed(
    own: Site, url: str, postgres: Postgres, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    pids = tmp_path / "pids"
    script = f"echo $$ >> {pids}; echo begun; until [ -e {gate} ]; do sleep 0.05; done; echo done"
    own.start()
    own.agent("one", cpus=4)
    before = own.submit(run=script)
    until(lambda: own.status(before) == "running", "the first runs")
    dump = postgres_program("pg_dump", "--dbname", url)
    since = own.submit(run=script)
    until(lambda: own.status(since) == "running", "the second runs")
    logs = f"/api/v1/tasks/{since}/logs"
    until(lambda: own.call("GET", logs).body == b"begun\n", "its output is here, and freed there")
    processes = [psutil.Process(int(pid)) for pid in pids.read_text().split()]
    assert len(processes) == 2

    assert own.stop() == 0
    name = urlsplit(url).path.lstrip("/")
    postgres.drop(url)
    postgres_program("psql", "--dbname", postgres.url, "--command", f"CREATE DATABASE {name}")
    postgres_program("psql", "--dbname", url, "--set", "ON_ERROR_STOP=1", input=dump)
    own.start()
    until(lambda: foreign(own) == [f"{since}.1.0"], "the agent is back, and said what it runs")

    assert own.call("GET", f"/api/v1/tasks/{since}").status == 404
    assert own.status(before) == "running"
    later = own.submit(run="true")
    assert own.finished(later)["status"] == "succeeded"
    assert all(process.is_running() for process in processes)
    agent = own.agents["one"]
    agent.kill_link()  # and it is no other by the next session
    until(lambda: foreign(own) == [], "the session is over")
    agent.restart()
    until(lambda: foreign(own) == [f"{since}.1.0"], "the agent is back again")
    assert all(process.is_running() for process in processes)

    gate.touch()
    assert own.finished(before)["attempt"] == 1
    assert own.output(before) == b"begun\ndone\n"
    until(lambda: foreign(own) == [], "it has ended by itself")
