"""What is there: lists, one task or job, its history, and what can be done to it."""

import json
import subprocess
from collections.abc import Iterator

import pytest

from tests.support.site import STYX, Site, until


@pytest.fixture(scope="module")
def tasks(site: Site) -> dict[str, str]:
    """By what became of each: its id."""
    made = {
        "good": site.submit(name="good", command="true", labels={"kind": "listed"}),
        "bad": site.submit(name="bad", run="exit 3", labels={"kind": "listed"}),
        "stuck": site.submit(
            name="stuck", command="true", resources={"cpus": 64}, labels={"kind": "listed"}
        ),
    }
    for name in ("good", "bad"):
        site.finished(made[name])
    return made


@pytest.fixture
def sleeper(site: Site) -> Iterator[str]:
    """A task that runs, until the end of the test at the latest."""
    task_id = site.submit(name="sleeper", command=["sleep", "300"], grace=0.1)
    until(lambda: site.status(task_id) == "running")
    yield task_id
    site.call("POST", f"/api/v1/tasks/{task_id}/cancel?force=true")


def lines(site: Site, *words: str) -> list[list[str]]:
    done = site.cli(*words)
    assert done.returncode == 0, done.stderr
    return [line.split() for line in done.stdout.decode().splitlines()]


def names(site: Site, *words: str) -> set[str]:
    done = site.cli(*words, "-o", "json")
    return {row["name"] for row in json.loads(done.stdout)}


def test_tasks_are_a_table_or_data(site: Site, tasks: dict[str, str]) -> None:
    table = lines(site, "tasks", "--label", "kind=listed")
    assert table[0] == ["TASK", "NAME", "STATUS", "RESOURCES", "WHERE", "FOR"]
    assert [row[1:4] for row in table[1:]] == [
        ["stuck", "○", "queued"],
        ["bad", "■", "failed"],
        ["good", "✓", "succeeded"],
    ]
    assert all(tasks[row[1]].startswith(row[0]) for row in table[1:])
    assert "(exit 3)" in " ".join(table[2])
    ids = site.cli("tasks", "-l", "kind=listed", "-o", "name").stdout.decode().split()
    assert ids == [tasks["stuck"], tasks["bad"], tasks["good"]]


def test_tasks_are_filtered(site: Site, tasks: dict[str, str]) -> None:
    assert names(site, "tasks", "--name", "bad") == {"bad"}
    listed = ("tasks", "-l", "kind=listed")
    assert names(site, *listed, "--status", "failed", "--status", "queued") == {"bad", "stuck"}
    assert names(site, *listed, "--since", "1h", "--limit", "2") == {"bad", "stuck"}
    assert names(site, *listed, "--since", "2999-01-01") == set()
    job_id = site.task(tasks["good"])["job_id"]
    assert names(site, "tasks", "--job", job_id) == {"good"}


def test_nothing_to_list(site: Site) -> None:
    done = site.cli("tasks", "--name", "nobody")
    assert done.stdout == b""
    assert done.stderr == b"none match\n"  # there may be others
    assert site.cli("tasks", "--name", "nobody", "-o", "json").stdout == b"[]\n"


def test_jobs(site: Site, tasks: dict[str, str]) -> None:
    table = lines(site, "jobs", "--name", "bad")
    assert table[0] == ["JOB", "NAME", "STATUS", "DONE", "TASKS", "AGE"]
    assert table[1][1:5] == ["bad", "■", "failed", "1/1"]
    assert names(site, "jobs", "--status", "succeeded", "--name", "good") == {"good"}


def test_agents(site: Site) -> None:
    table = lines(site, "agents")
    assert table[1][:5] == ["solo", "●", "ready", "0", "0/2"]
    assert names(site, "agents", "--status", "gone") == set()
    assert site.cli("agents", "-o", "name").stdout == b"solo\n"


def test_status_tells_what_matters(site: Site, tasks: dict[str, str]) -> None:
    done = site.cli("status")
    head, _, table = done.stdout.decode().partition("\n\n")
    assert "1 waiting" in head
    assert "failed since yesterday" in head
    assert "/2 cpus" in head
    shown = [line.split()[1] for line in table.splitlines()[1:]]
    assert "stuck" in shown
    assert "bad" in shown
    assert "good" not in shown


def test_status_of_some(site: Site, tasks: dict[str, str]) -> None:
    assert names(site, "status", "good", tasks["bad"]) == {"good", "bad"}
    job_id = site.task(tasks["good"])["job_id"]
    assert names(site, "status", job_id) == {"good"}


def test_explain(site: Site, tasks: dict[str, str]) -> None:
    done = site.cli("explain", "stuck")
    assert done.stdout.decode().startswith("stuck: queued for ")
    assert "solo has 2 cpus, the task wants 64" in done.stdout.decode()
    assert done.stderr.startswith(b"hint: ")
    assert b"exit 3" in site.cli("explain", "bad").stdout
    explained = json.loads(site.cli("explain", "stuck", "-o", "json").stdout)
    assert explained["hindrances"][0]["code"] == "too_few_cpus"


def test_the_history_of_a_task(site: Site, tasks: dict[str, str]) -> None:
    words = site.cli("events", tasks["bad"], "-o", "name").stdout.decode().split()
    assert words[0] == "submitted"
    assert words[-1] == "failed"


def test_changes_as_they_happen(site: Site) -> None:
    with subprocess.Popen(
        [*STYX, "events", "-o", "jsonl"], env=site.env, stdout=subprocess.PIPE
    ) as watching:
        try:
            assert watching.stdout is not None
            # The stream has no past: submit until it tells of one.
            until(lambda: site.submit(name="seen", command="true") and _told(watching))
        finally:
            watching.kill()


def _told(watching: subprocess.Popen[bytes]) -> bool:
    import select

    assert watching.stdout is not None
    if not select.select([watching.stdout], [], [], 0.3)[0]:
        return False
    event = json.loads(watching.stdout.readline())
    return event["kind"] in {"task", "job"} and event["name"] == "seen"


def test_a_watched_list_tells_each_change_once(site: Site) -> None:
    with subprocess.Popen(
        [*STYX, "tasks", "--name", "watched", "--watch"], env=site.env, stdout=subprocess.PIPE
    ) as watching:
        try:
            assert watching.stdout is not None
            task_id = site.submit(name="watched", command=["sleep", "300"], grace=0.1)
            header = watching.stdout.readline().split()
            assert header[:3] == [b"TASK", b"NAME", b"STATUS"]
            while b"running" not in watching.stdout.readline():
                pass
            site.post(f"/api/v1/tasks/{task_id}/cancel")
            while b"cancelled" not in watching.stdout.readline():
                pass
        finally:
            watching.kill()


# --- what can be done -----------------------------------------------------------------------------


def test_wait_has_the_highest_code(site: Site, tasks: dict[str, str]) -> None:
    assert site.cli("wait", tasks["good"]).returncode == 0
    done = site.cli("wait", "good", "bad", "good")
    assert (done.returncode, done.stdout) == (3, b"")
    assert done.stderr.startswith(b"error: bad failed (exit 3)")


def test_wait_gives_up(site: Site, sleeper: str) -> None:
    done = site.cli("wait", "--timeout", "0.1", sleeper)
    assert done.returncode == 124
    assert done.stderr.startswith(b"error: ")


def test_cancel(site: Site, sleeper: str) -> None:
    done = site.cli("cancel", sleeper)
    assert (done.returncode, done.stdout) == (0, b"")
    assert site.cli("wait", sleeper).returncode == 143
    assert site.cli("cancel", sleeper).returncode == 0, "what is over need not be cancelled"


def test_cancel_of_a_job(site: Site) -> None:
    job_id, _ = site.job(
        {"a": {"command": ["sleep", "300"], "grace": 0.1}, "b": {"run": "x", "needs": ["a"]}}
    )
    assert site.cli("cancel", job_id).returncode == 0
    assert site.cli("wait", job_id).returncode == 143
    assert site.get(f"/api/v1/jobs/{job_id}")["status"] == "cancelled"


def test_retry_is_a_new_task(site: Site) -> None:
    first = site.submit(name="again", run="exit 3")
    site.finished(first)
    new_id = site.cli("retry", "again").stdout.decode().strip()
    assert new_id != first
    assert site.finished(new_id)["exit_code"] == 3


def test_retry_of_a_job_is_what_failed_of_it(site: Site) -> None:
    job_id, _ = site.job({"a": {"run": "true"}, "b": {"run": "exit 2"}})
    site.job_finished(job_id)
    new_id = site.cli("retry", job_id).stdout.decode().strip()
    assert names(site, "status", new_id) == {"b"}
    assert site.cli("wait", new_id).returncode == 2


def test_drain_and_resume(site: Site) -> None:
    done = site.cli("drain", "solo")
    assert (done.returncode, done.stderr) == (0, b"solo: draining, 0 running\n")
    assert site.cli("resume", "solo").returncode == 0
    assert site.agent_status("solo") == "ready"


@pytest.mark.parametrize(
    "words",
    [
        ("logs", "nobody"), ("explain", "nobody"), ("drain", "nobody"), ("tasks", "--job", "nobody"),
    ],
)  # fmt: skip
def test_what_is_not_there(site: Site, words: tuple[str, ...]) -> None:
    done = site.cli(*words)
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.startswith(b"error: there is no ")


def test_last_and_all(site: Site, sleeper: str) -> None:
    assert names(site, "status", "last") == {"sleeper"}
    assert site.cli("cancel", "all").returncode == 0
    assert until(lambda: site.cli("wait", sleeper).returncode) == 143
    assert site.cli("tasks", "--status", "queued", "--status", "running").stdout == b""


def test_a_foreign_token_is_refused(site: Site) -> None:
    done = site.cli("status", STYX_TOKEN="styx_of_somebody_else")
    assert done.returncode == 1
    assert done.stderr.startswith(b"error: the token is not valid here\nhint: ")
