"""Bad input gets a clear answer, and the server stays up (contract §5)."""

import asyncio
import socket
import subprocess
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.support.site import STYX, Site

ECHO = {"command": "echo"}


@pytest.mark.parametrize(
    ("body", "path", "words"),
    [
        (ECHO | {"comand": "x"}, "comand", "command"),
        ({"command": 7}, "command", "expected"),
        (ECHO | {"resources": {"memory": "16 parsecs"}}, "resources.memory", "16 parsecs"),
        (ECHO | {"resources": {"gpu": 1}}, "resources.gpu", "gpus"),
        (ECHO | {"timeout": "soon"}, "timeout", "soon"),
        (ECHO | {"priority": "urgent"}, "priority", "critical"),
        (ECHO | {"run": "true"}, "run", "command"),
        ({}, "command", "run"),
        (ECHO | {"name": "a/b"}, "name", "a/b"),
        (ECHO | {"needs": ["nobody"]}, "needs[0]", "nobody"),
        (ECHO | {"env": {"A": {}}}, "env.A", ""),
        (ECHO | {"num_nodes": 0}, "num_nodes", ""),
        (ECHO | {"array": 0}, "array", ""),
    ],
)
def test_a_task_that_is_wrong(lone: Site, body: Any, path: str, words: str) -> None:
    problem = refused(lone, "/api/v1/tasks", body, 422)
    assert path in [error["path"] for error in problem["errors"]]
    assert words in " ".join(error["message"] for error in problem["errors"])


def test_a_cycle_is_named(lone: Site) -> None:
    tasks = {
        "a": ECHO | {"needs": ["c"]},
        "b": ECHO | {"needs": ["a"]},
        "c": ECHO | {"needs": ["b"]},
    }
    problem = refused(lone, "/api/v1/jobs", {"tasks": tasks}, 422)
    assert problem["detail"].endswith("wait for each other: a → b → c → a")


def test_two_tasks_of_one_name(lone: Site) -> None:
    tasks = [ECHO | {"name": "x"}, ECHO | {"name": "x"}]
    assert "x" in refused(lone, "/api/v1/jobs", {"tasks": tasks}, 422)["detail"]


def test_a_batch_is_accepted_whole_or_not_at_all(lone: Site) -> None:
    before = lone.get("/api/v1/tasks?limit=1000")
    refused(lone, "/api/v1/tasks", [ECHO, ECHO | {"cpus": 1}], 422)
    assert lone.get("/api/v1/tasks?limit=1000") == before


@pytest.mark.parametrize("body", [b"{", b"", b"\xff", b"null", b"7", b"[" * 5000])
def test_what_is_no_document(lone: Site, body: bytes) -> None:
    answer = lone.call("POST", "/api/v1/tasks", body)
    assert answer.status in {400, 422}, answer.body
    assert answer.headers["Content-Type"].startswith("application/problem+json")


def test_too_big_a_body(lone: Site) -> None:
    refused(lone, "/api/v1/tasks", b'{"command":"' + b"x" * (17 << 20) + b'"}', 413)


@pytest.mark.parametrize(
    "given", ["nothing", "../../etc/passwd", "%00", "00000000-0000-7000-8000-000000000000"]
)
def test_an_id_that_is_none(lone: Site, given: str) -> None:
    answer = lone.call("GET", f"/api/v1/tasks/{given}")
    assert answer.status in {400, 404, 422}
    assert answer.headers["Content-Type"].startswith("application/problem+json")


def test_a_key_that_is_in_use_for_something_else(lone: Site) -> None:
    key = {"Idempotency-Key": "once"}
    first = lone.call("POST", "/api/v1/tasks", ECHO, key)
    again = lone.call("POST", "/api/v1/tasks", ECHO, key)
    other = lone.call("POST", "/api/v1/tasks", {"command": "date"}, key)
    assert (first.status, again.json()["task_id"]) == (201, first.json()["task_id"])
    assert other.status == 409
    lone.post(f"/api/v1/tasks/{first.json()['task_id']}/cancel")


def test_impossible_resources_are_accepted_with_a_warning(with_solo: Site) -> None:
    accepted = with_solo.post("/api/v1/tasks", ECHO | {"resources": {"gpus": "TPU-v9:64"}})
    with_solo.post(f"/api/v1/tasks/{accepted['task_id']}/cancel")
    assert accepted["warnings"]


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Forwarded-For": "10.0.0.1"},
        {"Host": "evil.test"},
        {"Origin": "https://evil.test"},
        {"Authorization": "Bearer styx_wrong"},
    ],
)
def test_who_is_nobody_gets_nothing(lone: Site, headers: dict[str, str]) -> None:
    answer = lone.call("GET", "/api/v1/tasks", headers=headers)
    assert answer.status in {401, 403, 421}, answer.body


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("tasks: [", "job.yaml:2:1: not YAML"),
        ("name: x\ntasks:\n  a: {run: 'true', nees: [b]}\n", "needs"),
        ("\x00", ""),
    ],
)
def test_a_file_that_is_wrong(lone: Site, tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "job.yaml").write_text(text)
    done = lone.cli("submit", str(tmp_path / "job.yaml"))
    assert done.returncode == 2, done.stderr
    assert words in done.stderr.decode()
    assert b"Traceback" not in done.stderr


def test_a_word_that_is_no_command(lone: Site) -> None:
    done = lone.cli("sttus")
    assert done.returncode == 2
    assert b"did you mean: styx status" in done.stderr


def test_the_server_is_still_up(lone: Site) -> None:
    """Stands last of those above: all of it left the server as it was."""
    assert lone.get("/health")["status"] == "healthy"
    assert lone.finished(lone_task(lone))["status"] in {"succeeded", "cancelled"}


def lone_task(site: Site) -> str:
    task_id = site.submit(**ECHO)
    if not site.agents:
        site.post(f"/api/v1/tasks/{task_id}/cancel")
    return task_id


# --- a server that cannot start -------------------------------------------------------------------


def test_sqlite_is_refused_at_once(own: Site) -> None:
    said = refuses_to_serve(own, DATABASE_URL="sqlite:///tmp/x.db")
    assert "postgres" in said.lower()


def test_a_database_url_that_is_none(own: Site) -> None:
    assert "DATABASE_URL" in refuses_to_serve(own, DATABASE_URL="mysql://root:hunter2@localhost/x")


def test_a_database_that_is_not_there(own: Site) -> None:
    said = refuses_to_serve(own, DATABASE_URL="postgresql://u:hunter2@127.0.0.1:1/x")
    assert "refused" in said
    assert "hunter2" not in said


def test_a_database_of_a_newer_version(own: Site, database_url: str) -> None:
    asyncio.run(_mark(database_url))
    assert "newer version" in refuses_to_serve(own, DATABASE_URL=database_url)


async def _mark(url: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(
        "INSERT INTO migration (name, app_name, ran_on) VALUES ('2999-01-01T00:00:00', 'styx', now())"
    )
    await connection.close()


def test_a_port_that_is_taken(own: Site) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", own.port))
        taken.listen()
        assert str(own.port) in refuses_to_serve(own)


def test_a_second_server_on_one_home(lone: Site) -> None:
    said = refuses_to_serve(lone, STYX_SERVER_PORT="0")
    assert str(lone.home) in said
    assert lone.get("/health")["status"] == "healthy"


def test_a_foreign_address_without_tls(own: Site) -> None:
    refuses_to_serve(own, STYX_SERVER_HOST="0.0.0.0")


def refuses_to_serve(site: Site, **env: str) -> str:
    """It ends by itself with 1 or 2, and what it says is a sentence, not a trace."""
    site.home.mkdir(parents=True, exist_ok=True)
    (site.home / "test.toml").touch()
    done = subprocess.run(
        [*STYX, "serve"],
        env=site.env | env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        timeout=60,
        text=True,
    )
    assert done.returncode in {1, 2}, done.stderr
    assert "Traceback" not in done.stderr
    assert 0 < len(done.stderr.strip().splitlines()) <= 4, done.stderr
    return done.stderr


def refused(site: Site, path: str, body: Any, status: int) -> dict[str, Any]:
    answer = site.call("POST", path, body)
    assert answer.status == status, answer.body
    assert answer.headers["Content-Type"].startswith("application/problem+json")
    problem = answer.json()
    assert problem["status"] == status
    assert problem["title"]
    return problem
