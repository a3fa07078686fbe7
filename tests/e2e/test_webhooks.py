"""A job's end reaches its receiver whatever dies in between: `styx serve` as a process, killed and started."""

import socket
import stat
import threading
from pathlib import Path

import pytest

from tests.hooks.test_notifier import verified
from tests.support.receiver import Says, first, receiving
from tests.support.site import Site, until

SETTINGS = """
[webhooks]
allow_hosts = ["127.0.0.1"]
timeout_s = 0.5
"""


@pytest.fixture
def home(tmp_path: Path):
    made = Site(tmp_path / "home", SETTINGS)
    try:
        made.start()
        made.agent("one")
        yield made
    finally:
        made.close()


def test_a_kill_in_the_middle_of_a_try(home: Site, tmp_path: Path) -> None:
    hold = threading.Event()
    with receiving(first(Says(hold=hold))) as receiver:
        file = tmp_path / "job.yaml"
        file.write_text(f"run: exit 3\non:\n  failed: {receiver.url()}\n")
        submitted = home.cli("submit", str(file))
        assert submitted.returncode == 0, submitted.stderr
        until(lambda: receiver.got, "the first try")
        home.kill()
        home.start()
        until(lambda: len(receiver.got) == 2, "the second try")
        hold.set()
        until(lambda: told(home)["status"] == "delivered", "it is written down")
    secret = home.home / "webhook-secret"
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    one, two = receiver.got
    assert (one.id, one.body) == (two.id, two.body)
    said = verified(two, secret.read_text().strip())
    assert said["type"] == "job.failed"
    assert said["data"]["first_failed_task"]["exit_code"] == 3


def test_a_kill_while_the_receiver_is_away(home: Site) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    home.job({"a": {"command": "true"}}, on={"done": f"http://127.0.0.1:{port}/hook"})
    until(lambda: told(home).get("detail"), "it was tried in vain")
    home.kill()
    with receiving(port=port) as receiver:
        home.start()
        until(lambda: receiver.got, "it is told")
    assert receiver.got[0].json()["type"] == "job.succeeded"


def told(home: Site) -> dict[str, str]:
    found = home.get("/api/v1/jobs/last")["notifications"]
    return found[0] if found else {}
