"""`styx serve` as a process: what it says of itself, what it refuses, and how it stops."""

import contextlib
import json
import re
import signal
import socket
import stat
import subprocess
import zlib
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.site import DEADLINE_S, STYX, Site, until

STOP_S = 5.0  # what a stop may take


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    opened = Site(tmp_path / "home")
    opened.home.mkdir()
    (opened.home / "test.toml").touch()
    yield opened
    opened.close()
    opened.hang_up()


def serve(site: Site, *options: str) -> subprocess.CompletedProcess[str]:
    """A server that is expected to end by itself."""
    return subprocess.run(
        [*STYX, "serve", *options],
        env=site.env,
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE_S,
    )


def serve_with_agent(site: Site) -> None:
    with (site.home / "server.stderr").open("ab") as sink:
        site.server = subprocess.Popen(
            [*STYX, "serve", "--with-agent"],
            env=site.env,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
        )
    until(lambda: [a["status"] for a in agents(site)] == ["ready"], "the agent is ready")


def agents(site: Site) -> list[dict[str, str]]:
    try:
        return site.get("/api/v1/agents")
    except OSError:
        return []


def agent_process(site: Site) -> psutil.Process:
    assert site.server is not None
    server = psutil.Process(site.server.pid)

    def find() -> psutil.Process | None:
        for child in server.children():
            with contextlib.suppress(psutil.Error):  # it ended meanwhile
                if "agent" in child.cmdline():
                    return child
        return None

    return until(find, "the agent's process")


def private(path: Path) -> bool:
    return stat.S_IMODE(path.stat().st_mode) == 0o600


def test_from_its_first_word_to_its_last(site: Site):
    site.start()
    assert site.server is not None
    local = json.loads((site.home / "server.json").read_text())
    assert local["pid"] == site.server.pid
    assert local["url"] == f"http://127.0.0.1:{site.port}"
    assert local["started_at"]
    token = (site.home / "token").read_text().strip()
    found = re.fullmatch(r"(styx_[0-9a-f]{12}_[\w-]{43})_([0-9a-f]{8})", token)
    assert found
    assert int(found[2], 16) == zlib.crc32(found[1].encode())
    assert private(site.home / "token")
    assert private(site.home / "webhook-secret")
    assert private(site.home / "server.json")

    second = serve(site, "--port", "0")
    assert second.returncode == 1
    assert "another styx server" in second.stderr
    assert "Traceback" not in second.stderr

    site.agent("a1")
    children = psutil.Process(site.server.pid).children(recursive=True)
    with socket.create_connection(("127.0.0.1", site.port)) as reader:
        host = f"localhost:{site.port}"
        reader.sendall(f"GET /api/v1/events HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        assert b"200" in reader.recv(4096)
        site.server.send_signal(signal.SIGINT)
        assert site.server.wait(timeout=STOP_S) == 0
    assert not (site.home / "server.json").exists()
    assert (site.home / "token").read_text().strip() == token
    assert not [child for child in children if child.is_running()], "its Postgres is left"


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ('secret = "s3cret"', "whsec_"),
        ('allow_hosts = ["10.0.0.0/99"]', "10.0.0.0/99"),
        ('urls = ["https://127.0.0.1/s3cret"]', "no public address"),
        ('urls = ["s3cret"]', "https://"),
    ],
)
def test_webhooks_that_cannot_work_are_said_at_the_start(site: Site, setting: str, says: str):
    (site.home / "test.toml").write_text(f"[webhooks]\n{setting}\n")
    refused = serve(site, "--port", "0")
    assert refused.returncode == 1
    assert says in refused.stderr
    assert "s3cret" not in refused.stderr


def test_a_taken_port_is_said_at_once(site: Site):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = serve(site, "--port", str(port))
    assert refused.returncode == 1
    assert f"127.0.0.1:{port}" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not (site.home / "postgres").exists(), "nothing else was begun"


def test_tokens_do_not_cross_a_network_in_clear_text(site: Site):
    refused = serve(site, "--host", "0.0.0.0", "--port", "0")
    assert refused.returncode == 1
    assert "behind_tls_proxy" in refused.stderr


def test_its_agent_comes_back_and_goes_with_it(site: Site):
    serve_with_agent(site)
    first = agent_process(site)
    first.kill()
    until(lambda: agent_process(site).pid != first.pid, "another agent process")
    until(lambda: [a["status"] for a in agents(site)] == ["ready"], "the agent is back")
    last = agent_process(site)
    assert site.stop() == 0
    assert not last.is_running()

    serve_with_agent(site)
    orphan = agent_process(site)
    site.kill()
    until(lambda: not orphan.is_running() or orphan.status() == psutil.STATUS_ZOMBIE, "no orphan")


def test_a_server_answers_under_the_name_that_it_advertises(tmp_path: Path) -> None:
    token = "styx_0123456789ab_of-this-test"
    site = Site(
        tmp_path / "home",
        f'[server]\nadvertise_url = "http://styx.example:8080"\n[auth]\ntoken = "{token}"\n',
    )
    bearer = {"Authorization": f"Bearer {token}"}
    try:
        site.start()
        known = [
            site.call("GET", "/api/v1/agents", headers=bearer | {"Host": host}).status
            for host in ("styx.example", "styx.example:8080", "other.example")
        ]
    finally:
        site.close()
    assert known == [200, 200, 403]
