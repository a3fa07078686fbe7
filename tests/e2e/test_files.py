"""A directory goes to where its task runs: real server, real agents, and everything that may come between."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.line import Line
from tests.support.site import Site, until

SETTINGS = """
[scheduler]
retry_base_s = 0.2
retry_cap_s = 0.4
redrive_s = 0.5
[agent]
files_kept_s = 2.0
"""
WAITS = "until test -e {}; do sleep 0.02; done"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = Site(tmp_path_factory.mktemp("files"), SETTINGS)
    try:
        made.start()
        made.agent("one")
        yield made
    finally:
        made.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "src" / "sub").mkdir(parents=True)
    (tmp_path / "src" / "go.sh").write_text("#!/bin/sh\ncat sub/data; pwd -P\n")
    (tmp_path / "src" / "go.sh").chmod(0o755)
    (tmp_path / "src" / "sub" / "data").write_text("some data\n")
    (tmp_path / "src" / "link").symlink_to("sub/data")
    (tmp_path / "src" / "junk.log").write_text("")
    (tmp_path / "src" / ".gitignore").write_text("*.log\n")
    return tmp_path


def submit(site: Site, folder: Path, text: str, *options: str) -> dict[str, str]:
    """Ids of the tasks, by name."""
    (folder / "job.yaml").write_text(text)
    done = site.cli("submit", *options, str(folder / "job.yaml"))
    assert done.returncode == 0, done.stderr.decode()
    job_id = done.stdout.decode().strip()
    return {task["name"]: task["id"] for task in site.get(f"/api/v1/tasks?job={job_id}")}


def test_a_directory_is_sent_with_its_task(site: Site, folder: Path) -> None:
    tasks = submit(site, folder, "name: go\nworkdir: src\ncommand: ./go.sh\n")
    assert site.finished(tasks["go"])["status"] == "succeeded"
    data, where = site.output(tasks["go"]).decode().splitlines()
    assert data == "some data"
    assert Path(where).is_relative_to(site.agents["one"].home / "jobs")


def test_the_tasks_of_a_job_share_it_and_jobs_do_not(site: Site, folder: Path) -> None:
    text = """
workdir: ./src
tasks:
  a: {run: "ls; cat link; echo more > made"}
  b: {run: "cat made", needs: [a]}
"""
    tasks = submit(site, folder, text)
    assert site.finished(tasks["b"])["status"] == "succeeded"
    assert site.output(tasks["a"]).decode().split() == ["go.sh", "link", "sub", "some", "data"]
    assert site.output(tasks["b"]) == b"more\n"
    again = submit(site, folder, "name: c\nworkdir: src\nrun: test ! -e made\n")
    assert site.finished(again["c"])["status"] == "succeeded"


def test_an_array_shares_one_directory(site: Site, folder: Path) -> None:
    text = "name: many\nworkdir: src\narray: 20\nrun: cat sub/data; touch made.$STYX_ARRAY_INDEX\n"
    job = site.cli("submit", "--wait", str(written(folder, text)))
    assert job.returncode == 0, job.stderr
    last = submit(site, folder, "name: x\nworkdir: src\nrun: ls\n")
    assert b"made" not in site.output(last["x"])


def written(folder: Path, text: str) -> Path:
    (folder / "job.yaml").write_text(text)
    return folder / "job.yaml"


def test_only_what_changed_is_sent(site: Site, folder: Path) -> None:
    (folder / "src" / "large").write_bytes(os.urandom(1 << 20))
    first = submit(site, folder, "name: go\nworkdir: src\ncommand: ./go.sh\n")
    site.finished(first["go"])
    before = site.get("/api/v1/files")["total_bytes"]
    (folder / "src" / "sub" / "data").write_text("other data\n")
    second = submit(site, folder, "name: go\nworkdir: src\ncommand: ./go.sh\n")
    assert site.output(second["go"]).startswith(b"other data\n")
    assert 0 < site.get("/api/v1/files")["total_bytes"] - before < 10_000


def test_it_is_removed_some_time_after_the_job(site: Site, folder: Path) -> None:
    text = f"""
workdir: src
tasks:
  long: {{run: "{WAITS.format("stop")}"}}
"""
    tasks = submit(site, folder, text)
    until(lambda: site.status(tasks["long"]) == "running")
    (room,) = rooms(site, site.task(tasks["long"])["job_id"])
    site.agents["one"].kill_link()
    time.sleep(3.0)  # longer than it is kept
    site.agents["one"].restart()
    until(lambda: site.agent_status("one") == "ready")
    time.sleep(3.0)
    assert (room / "go.sh").exists(), "somebody is in it"
    (room / "stop").write_text("")
    assert site.finished(tasks["long"])["status"] == "succeeded"
    until(lambda: not room.parent.exists(), "the directory is removed")


def rooms(site: Site, job_id: str, agent: str = "one") -> list[Path]:
    return [*(site.agents[agent].home / "jobs" / job_id).glob("*")]


def test_a_wrong_directory_is_told_with_its_place(site: Site, folder: Path) -> None:
    done = site.cli("submit", str(written(folder, "name: x\nworkdir: nowhere\nrun: x\n")))
    assert done.returncode == 2
    assert f"{folder}/job.yaml:2:1: workdir: ".encode() in done.stderr
    assert b"nowhere: No such file or directory" in done.stderr
    os.mkfifo(folder / "src" / "queue")
    done = site.cli("submit", str(written(folder, "tasks:\n- {run: x, workdir: src}\n")))
    assert done.returncode == 2
    assert b"job.yaml:2:12: tasks[0].workdir: " in done.stderr
    assert b"queue is a pipe" in done.stderr


def test_run_sends_a_directory_to_a_server_that_is_elsewhere(site: Site, folder: Path) -> None:
    elsewhere = {"STYX_HOME": str(folder / "home"), "STYX_CONFIG": "", "STYX_SERVER_PORT": ""}
    away = elsewhere | {"STYX_SERVER_URL": f"http://127.0.0.1:{site.port}"}
    done = site.cli("run", "--workdir", "src", "./go.sh", cwd=folder, **away)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(b"some data\n")
    here = site.cli("run", "--workdir", "src", "./go.sh", cwd=folder)
    assert here.stdout.decode() == f"some data\n{folder}/src\n", "its own machine's: in place"
    there = site.cli("run", "--workdir", "/", "pwd", cwd=folder, **away)
    assert there.stdout == b"/\n"


@pytest.fixture
def line(own: Site) -> Iterator[Line]:
    """To a site whose agent is behind it."""
    own.settings = SETTINGS
    own.start()
    made = Line(own.port)
    token = (own.home / "token").read_text().strip()
    own.agent("far", "--server", made.url, "--token", token)
    yield made
    made.open()
    made.close()


def fetchers(own: Site) -> list[psutil.Process]:
    link = psutil.Process(own.agents["far"].link.pid)
    return [child for child in link.children() if "styx.agent.fetch" in child.cmdline()]


def gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def fetching(own: Site, line: Line, folder: Path) -> str:
    """A task whose files are on the way."""
    tasks = submit(own, folder, "name: far\nworkdir: src\ncommand: ./go.sh\n")
    assert line.held.wait(60)
    return tasks["far"]


def test_nothing_else_waits_meanwhile(own: Site, line: Line, folder: Path) -> None:
    waiting = fetching(own, line, folder)
    assert own.finished(own.submit(command="true"))["status"] == "succeeded"
    assert own.status(waiting) == "assigned"
    line.open()
    assert own.finished(waiting)["status"] == "succeeded"
    assert own.task(waiting)["attempt"] == 1


def test_a_cancel_ends_it(own: Site, line: Line, folder: Path) -> None:
    task_id = fetching(own, line, folder)
    assert len(fetchers(own)) == 1
    own.post(f"/api/v1/tasks/{task_id}/cancel")
    assert own.finished(task_id)["status"] == "cancelled"
    until(lambda: not fetchers(own), "the fetcher is gone")


def test_a_timeout_ends_it(own: Site, line: Line, folder: Path) -> None:
    text = "name: far\nworkdir: src\ncommand: ./go.sh\ntimeout: 2\n"
    task = own.finished(submit(own, folder, text)["far"])
    assert (task["status"], task["reason"]) == ("failed", "timeout")
    assert "on the way" in task["detail"]
    until(lambda: not fetchers(own), "the fetcher is gone")


def test_a_line_that_breaks_is_tried_again(own: Site, line: Line, folder: Path) -> None:
    task_id = fetching(own, line, folder)
    line.cut()
    line.open()
    assert own.finished(task_id)["status"] == "succeeded"


def test_a_server_that_comes_back_is_asked_again(own: Site, line: Line, folder: Path) -> None:
    task_id = fetching(own, line, folder)
    own.kill()
    line.cut()
    line.open()
    own.start()
    assert own.finished(task_id)["status"] == "succeeded"


def test_an_agent_that_is_killed_begins_again(own: Site, line: Line, folder: Path) -> None:
    task_id = fetching(own, line, folder)
    (fetcher,) = fetchers(own)
    agent = own.agents["far"]
    agent.kill_link()
    until(lambda: gone(fetcher), "the fetcher goes with its agent")
    line.open()
    agent.restart()
    assert own.finished(task_id)["status"] == "succeeded"
    (room,) = rooms(own, own.task(task_id)["job_id"], "far")
    assert (room / "sub" / "data").read_text() == "some data\n"


def test_a_fetcher_that_is_killed_is_followed_by_another(
    own: Site, line: Line, folder: Path
) -> None:
    task_id = fetching(own, line, folder)
    fetchers(own)[0].send_signal(signal.SIGKILL)
    line.open()
    assert own.finished(task_id)["status"] == "succeeded"


def test_what_has_no_room_goes_elsewhere(own: Site, line: Line, folder: Path) -> None:
    """Here a file is in the way: to this agent that is as good as a full disk."""
    task_id = fetching(own, line, folder)
    task = own.task(task_id)
    blocked = own.agents["far"].home / "jobs" / task["job_id"]
    blocked.rmdir()
    blocked.write_text("")
    line.open()
    until(lambda: own.task(task_id)["attempts"][0]["reason"] == "agent_full")
    own.agent("near")
    assert own.finished(task_id)["agent"] == "near"
