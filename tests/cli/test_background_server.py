"""The server that `styx run` starts for a user who has none."""

import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from styx.cli import local
from tests.support.site import DEADLINE_S, STYX, Site, until


@pytest.fixture
def nobody(tmp_path: Path) -> Iterator[Site]:
    """A home without a server; whatever is started for it is stopped."""
    site = Site(tmp_path / "home")
    site.home.mkdir()
    (site.home / "test.toml").touch()
    yield site
    site.cli("server", "stop")
    for process in psutil.process_iter(["cmdline"]):
        if "styx.agent.supervisor" in (words := process.info["cmdline"] or []) and any(
            str(site.home) in word for word in words
        ):
            process.kill()


def server(site: Site) -> dict[str, object]:
    return json.loads((site.home / "server.json").read_text())


def test_two_runs_at_once_start_one_server_which_lives_until_it_is_stopped(nobody: Site) -> None:
    runs = [
        subprocess.Popen(
            [*STYX, "run", "echo", f"run {n}"],
            env=nobody.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for n in range(2)
    ]  # fmt: skip
    ends = [run.communicate(timeout=2 * DEADLINE_S) for run in runs]
    assert [run.returncode for run in runs] == [0, 0]
    assert [out for out, _ in ends] == [b"run 0\n", b"run 1\n"]
    url = f"http://127.0.0.1:{nobody.port}"
    line = f"started a local server: {url}  (stop it with: styx server stop)\n".encode()
    assert sorted(err for _, err in ends) == [b"", line]

    pid = server(nobody)["pid"]
    assert nobody.cli("server", "start", "-o", "name").stdout.decode() == f"{url}\n"
    assert server(nobody)["pid"] == pid, "it runs already"
    status = nobody.cli("server", "status", "-o", "json")
    assert json.loads(status.stdout) == {
        "status": "running", "home": str(nobody.home), "url": url, "pid": pid,
    }  # fmt: skip
    assert os.getsid(int(str(pid))) == pid, "a Ctrl-C for the client is none for the server"

    os.kill(int(str(pid)), signal.SIGKILL)
    until(lambda: not psutil.pid_exists(int(str(pid))))
    done = nobody.cli("run", "echo", "again")
    assert (done.returncode, done.stdout) == (0, b"again\n"), done.stderr
    pid = server(nobody)["pid"]

    stopped = nobody.cli("server", "stop")
    assert (stopped.returncode, stopped.stderr.decode()) == (0, f"stopped {url}\n")
    until(lambda: not psutil.pid_exists(int(str(pid))))
    assert nobody.cli("server", "status").returncode == 1
    again = nobody.cli("server", "stop")
    assert (again.returncode, again.stdout) == (1, b"")


def test_a_port_that_was_chosen_and_is_taken(nobody: Site) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", nobody.port))
        other.listen()
        done = nobody.cli("server", "start")
    assert done.returncode == 125
    assert f"cannot listen on 127.0.0.1:{nobody.port}".encode() in done.stderr
    assert b"server.log" in done.stderr


def test_no_server_is_started_where_one_is_configured(nobody: Site) -> None:
    done = nobody.cli("run", "true", STYX_SERVER_URL="http://127.0.0.1:1")
    assert done.returncode == 125
    assert b"cannot reach http://127.0.0.1:1" in done.stderr
    assert not (nobody.home / "server.json").exists()


def test_the_usual_port_may_be_taken() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        found = local.free_port("127.0.0.1", taken)
        assert found == 0 or taken < found < taken + local.PORTS_TRIED
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", found))
