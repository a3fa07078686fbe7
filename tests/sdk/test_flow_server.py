"""A `@job` on a real server, submitted by a program as a user would write it."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from styx import AsyncStyx, Styx, TaskFailed, job
from tests.sdk import pipeline as example
from tests.support.site import ROOT, Site

PROGRAM = """\
from styx import Styx, job, task
import beside

@task
def say(word: str) -> None:
    print(beside.shout(word))

@job
def words() -> None:
    say.after(say("first")).map(["second", "third"])

if __name__ == "__main__":
    with Styx() as styx:
        handle = words.submit(styx)
        handle.wait(check=True)
        for line in handle.task("say").logs():
            print(line)
        for index in range(2):
            print(*handle.task("say-2", index).logs())
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = Site(tmp_path_factory.mktemp("flow"))
    try:
        made.start()
        made.agent("solo")
        yield made
    finally:
        made.close()


@pytest.fixture(autouse=True)
def at_home(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the site's own machine, at the root of the sources."""
    for name, value in site.env.items():
        if name.startswith("STYX_"):
            monkeypatch.setenv(name, value)
    monkeypatch.chdir(ROOT)


def test_a_job_of_functions() -> None:
    with Styx() as styx:
        handle = example.greet.submit(styx, "me")
        assert handle.wait(check=True).counts["succeeded"] == 4
        assert [*handle.task("hello").logs()] == ["hello me hello"]
        assert [*handle.task("hello-2", 1).logs()] == ["hello b hello-2/1"]
        assert [*handle.task("hello-3").logs()] == ["hello last hello-3"]
        same = styx.submit_job(example.greet)
        assert styx.wait_job(same.job_id, check=True).name == "greet"
        assert same.task_ids.keys() == handle.task_ids.keys()
        assert styx.plan_job(example.greet).total == 4


def test_a_function_that_fails() -> None:
    with Styx() as styx, pytest.raises(TaskFailed, match=r"task fail failed \(exit 7\)"):
        example.broken.submit(styx).wait(check=True)


async def test_with_the_async_client() -> None:
    async with AsyncStyx() as styx:
        handles = await asyncio.gather(*(example.greet.submit(styx, str(n)) for n in range(3)))
        await asyncio.gather(*(handle.wait(check=True) for handle in handles))
        lines = [[line async for line in handle.task("hello").logs()] for handle in handles]
    assert lines == [[f"hello {n} hello"] for n in range(3)]


def test_another_server_gets_what_a_file_would_hold(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, site: Site
) -> None:
    """No directory and no interpreter of ours: neither is there."""
    monkeypatch.setenv("STYX_HOME", str(tmp_path))
    with Styx(f"http://127.0.0.1:{site.port}", "") as styx:
        handle = example.greet.submit(styx)
        assert handle.task("hello").detail().command[0] == "python3"
        handle.cancel()


def program(site: Site, where: Path, text: str) -> subprocess.CompletedProcess[str]:
    """Run it as `python jobs/words.py`, from the directory above."""
    jobs = where / "jobs"
    jobs.mkdir()
    (jobs / "words.py").write_text(text)
    (jobs / "beside.py").write_text("def shout(word):\n    return word.upper()\n")
    return subprocess.run(
        [sys.executable, "jobs/words.py"],
        cwd=where, env=site.env, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_a_program_that_submits_itself(site: Site, tmp_path: Path) -> None:
    done = program(site, tmp_path, PROGRAM)
    assert (done.stdout, done.stderr) == ("FIRST\nSECOND\nTHIRD\n", "")


def test_a_program_that_would_submit_itself_for_ever(site: Site, tmp_path: Path) -> None:
    with Styx() as styx:
        before = len([*styx.jobs()])
        done = program(site, tmp_path, PROGRAM.replace('__name__ == "__main__"', "True"))
        assert "TaskFailed: task say failed (exit 1)" in done.stderr
        failed = next(styx.tasks(name="say", status="failed", limit=1))
        said = b"".join(styx.logs(failed.id, stream="err")).decode()
        assert len([*styx.jobs()]) == before + 1
    assert "RuntimeError: a task imports this module" in said
    assert 'submit it below `if __name__ == "__main__":`' in said


def test_a_job_that_is_due_again_and_again() -> None:
    nightly = job(schedule={"cron": "0 2 * * *", "timezone": "Europe/Berlin"})(
        example.greet.function
    )
    with Styx() as styx:
        kept = nightly.schedule(styx, "me")
        assert (kept.name, kept.cron, kept.timezone) == ("greet", "0 2 * * *", "Europe/Berlin")
        assert kept.job["tasks"].keys() == nightly.document("me")["tasks"].keys()
        nightly.submit(styx, "now").wait(check=True)  # now is no due time
        assert styx.schedule("greet").last_job_id is None
        styx.delete_schedule("greet")
        with pytest.raises(TypeError, match="greet has no schedule"):
            example.greet.schedule(styx, "me")
