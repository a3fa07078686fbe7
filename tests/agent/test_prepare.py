"""`setup` runs once for a spec of a job on a machine, whatever happens halfway."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from styx.agent import order, prepare
from styx.core.ids import AttemptKey, JobId, TaskId
from styx.core.spec import TaskSpec
from styx.wire import agent as wire


class Place:
    """One agent's directory, and what it would start there."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._running: list[subprocess.Popen[bytes]] = []

    def start(self, setup: str, *, job: str = "job", **spec: Any) -> subprocess.Popen[bytes]:
        assigned = wire.Assign(
            key=AttemptKey(TaskId("task"), 1, 0),
            term=1,
            job_id=JobId(job),
            name="name",
            spec=TaskSpec(name="name", setup=setup, **spec),
        )
        started = order.start(
            assigned, directory=str(self._directory), gpus=(), has_gpus=False, until=5.0
        )
        process = subprocess.Popen(
            started["argv"],
            env=dict(os.environ) | started["env"],
            cwd=self._directory,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self._running.append(process)
        return process

    def run(self, setup: str, **spec: Any) -> tuple[int, bytes, bytes]:
        process = self.start(setup, **spec)
        out, err = process.communicate(timeout=10)
        return process.returncode, out, err

    def close(self) -> None:
        for process in self._running:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place
    place.close()


def test_it_runs_before_the_command_and_only_once(place: Place) -> None:
    command = ("printf", "%s,", "a b", "$c")
    assert place.run("echo $A", argv=command, env={"A": "it's"}) == (0, b"it's\na b,$c,", b"")
    assert place.run("echo $A", argv=command, env={"A": "it's"}) == (0, b"a b,$c,", b"")


def test_another_job_and_another_spec_have_their_own(place: Place) -> None:
    for other in ({"job": "other"}, {"env": {"A": "b"}}, {"workdir": "/"}, {}):
        assert place.run("echo setup", script="echo run", **other) == (0, b"setup\nrun\n", b"")


def test_its_failure_is_the_tasks_and_the_next_one_tries_again(
    place: Place, tmp_path: Path
) -> None:
    setup = "test -e there; echo done"
    code, out, err = place.run(setup, script="echo run")
    assert (code, out, err) == (1, b"", b"styx: setup failed with exit code 1\n")
    (tmp_path / "there").touch()
    assert place.run(setup, script="echo run") == (0, b"done\nrun\n", b"")


def test_those_that_come_meanwhile_wait_for_it(place: Place, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "go")
    setup = "echo setup; cat go; touch ready"
    tasks = [place.start(setup, script="cat ready; echo run") for _ in range(4)]
    (tmp_path / "go").write_bytes(b"")  # returns once the first is at it
    said = sorted(task.communicate(timeout=10)[0] for task in tasks)
    assert said == [b"run\n"] * 3 + [b"setup\nrun\n"]


def test_halfway_is_not_done(place: Place, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "go")
    stuck = "test -e second || { echo > go; sleep 60; }"
    setup = f"echo half >> log; {stuck}; echo whole >> log"
    first = place.start(setup, script="true")
    (tmp_path / "go").read_bytes()  # it is in the middle
    waits = place.start(setup, script="true")
    (tmp_path / "second").touch()
    os.killpg(first.pid, signal.SIGKILL)
    waits.communicate(timeout=10)
    assert waits.returncode == 0
    assert (tmp_path / "log").read_text() == "half\nhalf\nwhole\n"


def test_what_it_leaves_running_holds_nobody_up(place: Place) -> None:
    setup = "sleep 5 >/dev/null 2>&1 & exit 3"
    before = time.monotonic()
    assert place.run(setup, argv=("true",))[0] == 3
    assert place.run(setup, argv=("true",))[0] == 3
    assert time.monotonic() - before < 4


def test_the_longest_scripts_together_start(place: Place) -> None:
    setup = "echo setup #".ljust(96 << 10, "x")
    script = "echo run #".ljust(order.ARGUMENT_BYTES, "x")
    assert place.run(setup, script=script) == (0, b"setup\nrun\n", b"")


def test_the_mark_is_in_the_directory_that_goes_with_the_job(tmp_path: Path) -> None:
    spec = TaskSpec(name="name", setup="true")
    mark = prepare.mark(str(tmp_path), "job", spec)
    assert Path(mark).parent == tmp_path / "jobs" / "job"
    again = msgspec.json.decode(msgspec.json.encode(spec), type=TaskSpec)
    assert prepare.mark(str(tmp_path), "job", again) == mark
