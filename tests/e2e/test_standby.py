"""Two servers on one database: one leads, the other takes over, and the agents and their tasks go on."""

import hashlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.site import DEADLINE_S, STYX, Site, until

SETTINGS = """
[database]
url = "{url}"
[auth]
token = "styx_0123456789ab_of-both-replicas"
[logs]
directory = "{logs}"
"""


@pytest.fixture
def pair(database_url: str, tmp_path: Path) -> Iterator[tuple[Site, Site]]:
    """The leader and its standby."""
    settings = SETTINGS.format(url=database_url, logs=tmp_path / "logs")
    first, second = (Site(tmp_path / name, settings) for name in ("first", "second"))
    try:
        first.start()
        second.start()
        yield first, second
    finally:
        second.close()
        first.close()


def leads(site: Site) -> bool:
    return bool(site.call("GET", "/readyz").json()["leader"])


def test_a_standby_sends_on_and_takes_over(pair: tuple[Site, Site], tmp_path: Path) -> None:
    first, second = pair
    assert leads(first)
    assert not leads(second)
    urls = ",".join(f"http://127.0.0.1:{site.port}" for site in pair)
    first.agent("one", "--server", urls, cpus=3)
    gate = tmp_path / "gate"
    running = second.submit(
        run=f"echo before; until [ -e {gate} ]; do sleep 0.05; done; echo after"
    )
    script = f"echo begun; until [ -e {gate} ]; do sleep 0.05; done; echo done; exit 3"
    command = subprocess.Popen(
        [*STYX, "run", "--", "sh", "-c", script],
        env=first.env | {"STYX_SERVER_URL": urls},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    assert command.stdout is not None
    assert command.stdout.readline() == b"begun\n"
    logs = f"/api/v1/tasks/{running}/logs"
    until(
        lambda: second.call("GET", logs).body == b"before\n", "the standby has asked for its output"
    )
    assert first.status(running) == second.status(running) == "running"

    first.kill()
    until(lambda: leads(second), "the standby leads", deadline_s=12)
    queued = second.submit(run="echo of the second term")
    assert second.finished(queued)["status"] == "succeeded"  # the agent has followed
    gate.touch()
    assert second.finished(running)["attempt"] == 1
    assert second.output(running) == b"before\nafter\n"
    assert command.communicate(timeout=DEADLINE_S) == (b"done\n", None)
    assert command.returncode == 3

    first.start()
    assert not leads(first)
    assert first.output(running) == b"before\nafter\n"
    assert second.stop() == 0
    until(lambda: leads(first), "the first leads again", deadline_s=5)


def test_while_nobody_leads_what_is_known_can_be_read(pair: tuple[Site, Site]) -> None:
    first, second = pair
    task_id = second.submit(run="true")
    assert first.server is not None
    first.hang_up()
    first.server.kill()  # not waited for: to its kernel it is there, so its lease has to run out
    answers = [second.call("GET", f"/api/v1/tasks/{task_id}") for _ in range(3)]
    refused = second.call("POST", "/api/v1/tasks", {"run": "true"})
    assert {answer.status for answer in answers} == {200}
    assert answers[0].json()["status"] == "queued"
    assert refused.status == 503
    assert int(refused.headers["Retry-After"]) >= 1
    assert refused.json()["code"] == "no_leader"


def test_replicas_share_one_token(pair: tuple[Site, Site], tmp_path: Path) -> None:
    first, _ = pair
    other = Site(tmp_path / "other", first.settings.replace("of-both", "of-another"))
    other.home.mkdir()
    (other.home / "test.toml").write_text(other.settings)
    refused = other.cli("serve")
    assert refused.returncode == 1
    assert b"set the same auth.token" in refused.stderr


def test_files_are_on_every_server(pair: tuple[Site, Site], tmp_path: Path) -> None:
    first, second = pair
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "data").write_bytes(b"some data\n" * 500_000)
    (tmp_path / "job.yaml").write_text("name: files\nworkdir: src\nrun: sha256sum < data\n")
    done = second.cli("submit", str(tmp_path / "job.yaml"))  # which sends it on
    assert done.returncode == 0, done.stderr
    first.kill()
    until(lambda: leads(second), "the standby leads", deadline_s=12)
    second.agent("one")
    (task,) = second.get("/api/v1/tasks")
    assert second.finished(task["id"])["status"] == "succeeded"
    digest = hashlib.sha256(b"some data\n" * 500_000).hexdigest()
    assert second.output(task["id"]).decode().split()[0] == digest
