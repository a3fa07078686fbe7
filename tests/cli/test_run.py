"""`styx run`, `styx submit`, `styx logs`: what comes out, and with which exit code."""

import hashlib
import json
import os
import pty
import re
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.site import DEADLINE_S, STYX, Site, until


def test_the_output_and_nothing_else(site: Site) -> None:
    done = site.cli("run", "sh", "-c", "echo out; echo err >&2; printf unfinished")
    assert (done.stdout, done.stderr, done.returncode) == (b"out\nunfinished", b"err\n", 0)


def test_bytes_are_not_text(site: Site, tmp_path: Path) -> None:
    data = bytes(range(256)) * 4_096 + os.urandom(1 << 20)
    (tmp_path / "data").write_bytes(data)
    done = site.cli("run", "cat", str(tmp_path / "data"))
    assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(data).digest()


def test_everything_behind_the_first_word_is_the_command(site: Site) -> None:
    words = ("--name", "x", "-e", "--", "-h", "a b", "")
    done = site.cli("run", "--name", "words", "printf", "[%s]", *words)
    assert done.stdout.decode() == "".join(f"[{word}]" for word in words)


def test_two_dashes_may_stand_before_the_command(site: Site) -> None:
    assert site.cli("run", "--", "echo", "--", "x").stdout == b"-- x\n"


def test_options_reach_the_task(site: Site) -> None:
    done = site.cli(
        *("run", "--detach", "--name", "all", "-e", "A=1=2", "-e", "B=", "--cpus", "0.5"),
        *(
            "--memory",
            "512MiB",
            "--priority",
            "high",
            "--timeout",
            "1h30m",
            "--queue-timeout",
            "90",
        ),
        *("--retries", "3", "--label", "team=x", "--workdir", "/", "--arch", "arm64"),
        *("--image", "a:1", "true"),
    )
    task = site.task(done.stdout.decode().strip())
    site.cli("cancel", task["id"])
    assert task["name"] == "all"
    assert task["command"] == ["true"]
    assert task["env"] == {"A": "1=2", "B": ""}
    resources = task["resources"]
    assert (resources["cpus"], resources["memory_gib"], resources["arch"]) == (0.5, 0.5, "aarch64")
    assert (task["priority"], task["retries"], task["workdir"]) == ("high", 3, "/")
    assert (task["timeout_s"], task["queue_timeout_s"]) == (5_400.0, 90.0)
    assert task["labels"] == {"team": "x"}
    assert task["image"] == "a:1"


def test_a_relative_workdir_is_of_this_directory(site: Site) -> None:
    done = site.cli("run", "--workdir", "tests", "pwd")
    assert done.stdout.decode() == f"{Path.cwd() / 'tests'}\n"


def test_on_its_own_machine_a_task_runs_where_the_user_stands(site: Site) -> None:
    assert site.cli("run", "pwd").stdout.decode() == f"{Path.cwd()}\n"


@pytest.mark.parametrize(("script", "code"), [("exit 255", 255), ("kill -9 $$", 137)])
def test_the_exit_code_is_the_tasks(site: Site, script: str, code: int) -> None:
    done = site.cli("run", "--name", "ends", "sh", "-c", script)
    assert done.returncode == code
    assert re.fullmatch(
        rb"error: ends failed \((exit|signal) \d+\) after \S+\nhint: styx explain \S+\n",
        done.stderr,
    )


def test_a_command_that_is_not_there(site: Site) -> None:
    done = site.cli("run", "no-such-command")
    assert done.returncode == 127
    assert b"command not found: 'no-such-command'" in done.stderr


def test_a_command_that_cannot_be_executed(site: Site) -> None:
    assert site.cli("run", "/etc/passwd").returncode == 126


def test_a_task_out_of_time(site: Site) -> None:
    assert site.cli("run", "--timeout", "0.2", "sleep", "60").returncode == 124


def test_every_try_is_told(site: Site, tmp_path: Path) -> None:
    script = (
        f"echo try $STYX_ATTEMPT; echo x >> {tmp_path}/tries; test $(wc -l < {tmp_path}/tries) = 3"
    )
    done = site.cli("run", "--retries", "4", "sh", "-c", script)
    assert (done.stdout, done.returncode) == (b"try 1\ntry 2\ntry 3\n", 0)


def test_the_same_key_is_the_same_task(site: Site) -> None:
    command = ("run", "--idempotency-key", "once", "--detach", "true")
    assert site.cli(*command).stdout == site.cli(*command).stdout


def test_an_array_is_told_line_by_line(site: Site) -> None:
    script = 'printf "a\\nb $STYX_ARRAY_INDEX"; exit $STYX_ARRAY_INDEX'
    done = site.cli("run", "--name", "sweep", "--array", "3", "sh", "-c", script)
    assert sorted(done.stdout.decode().splitlines()) == sorted(
        [f"sweep/{n} | {word}" for n in range(3) for word in ("a", f"b {n}")]
    )
    assert done.returncode == 2


def test_of_a_large_array_only_the_ends_are_told(site: Site) -> None:
    done = site.cli(
        "run", "--array", "101", "--cpus", "0.01", "sh", "-c", "exit $((STYX_ARRAY_INDEX == 7))"
    )
    assert (done.stdout, done.returncode) == (b"", 1)
    assert done.stderr.startswith(b"101 tasks; ")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("run",), "missing argument"),
        (("run", "--cpus", "banana", "true"), "'--cpus': expected a number of cores"),
        (("run", "--timeout", "soon", "true"), "'--timeout': expected seconds"),
        (("run", "-e", "NOVALUE", "true"), "expected K=V, not 'NOVALUE'"),
        (("run", "--name", "a b", "true"), "name: "),
        (("run", "--num-nodes", "0", "true"), "'--num-nodes'"),
    ],
)
def test_a_usage_error_runs_nothing(site: Site, words: tuple[str, ...], said: str) -> None:
    done = site.cli(*words)
    assert (done.returncode, done.stdout) == (2, b"")
    assert said in done.stderr.decode()
    assert done.stderr.startswith(b"error: ")


# --- files --------------------------------------------------------------------------------------------

JOB = """\
name: nightly
tasks:
  fetch: {run: "echo fetched"}
  sum:   {run: 'echo $STYX_ARRAY_VALUE', array: {over: [1e-2, no]}, needs: [fetch]}
  fail:  {run: "exit 4", needs: [{task: sum, on: done}]}
  after: {run: "true", needs: [fail]}
"""


@pytest.fixture
def job(tmp_path: Path) -> str:
    path = tmp_path / "job.yaml"
    path.write_text(JOB)
    return str(path)


def test_run_of_a_file_follows_all_its_tasks(site: Site, job: str) -> None:
    done = site.cli("run", job)
    assert sorted(done.stdout.decode().splitlines()) == [
        "fetch | fetched",
        "sum/0 | 0.01",
        "sum/1 | no",
    ]
    assert done.returncode == 4
    assert b"error: fail failed (exit 4)" in done.stderr


def test_run_of_a_file_takes_no_options_of_a_command(site: Site, job: str) -> None:
    done = site.cli("run", "--cpus", "2", job)
    assert (done.returncode, done.stdout) == (2, b"")
    assert f"--cpus belongs into {job}".encode() in done.stderr


def test_a_file_that_is_a_command(site: Site, tmp_path: Path) -> None:
    script = tmp_path / "x.json"
    script.write_text("#!/bin/sh\necho ran $1\n")
    script.chmod(0o755)
    assert site.cli("run", str(script), "it").stdout == b"ran it\n", (
        "with arguments it is no document"
    )


def test_submit_prints_the_jobs_id(site: Site, job: str) -> None:
    job_id = site.cli("submit", job).stdout.decode().strip()
    assert site.get(f"/api/v1/jobs/{job_id}")["total"] == 5


def test_submit_and_wait(site: Site, job: str) -> None:
    done = site.cli("submit", job, "--wait", "-o", "json")
    submitted = json.loads(done.stdout)
    assert set(submitted["task_ids"]) == {"fetch", "sum", "fail", "after"}
    assert done.returncode == 4
    assert site.cli("wait", submitted["job_id"]).returncode == 4


def test_submit_of_standard_input(site: Site) -> None:
    done = subprocess.run(
        [*STYX, "submit", "-", "--follow"],
        env=site.env, input=b"name: piped\nrun: echo piped\n", capture_output=True, check=True,
    )  # fmt: skip
    assert done.stdout == b"piped | piped\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: x\nrun: y\nresorces: {}\n", "3:1: resorces: no such key; did you mean 'resources'?"),
        ("tasks:\n  a:\n    run: y\n    resources: {gpu: 1}\n", "4:17: tasks.a.resources.gpu: no such key"),
        ("tasks:\n  a: {run: x, needs: [b]}\n  b: {run: x, needs: [a]}\n", "wait for each other: a → b → a"),
        ("tasks: []\n", "1:1: tasks: a job has at least one task"),
        ("tasks: 5\n", "1:1: tasks: expected a list"),
        ("a: [\n", "not YAML: "),
    ],
)  # fmt: skip
def test_a_refused_file_is_told_by_line_and_column(
    site: Site, tmp_path: Path, text: str, said: str
) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    done = site.cli("submit", str(path))
    assert (done.returncode, done.stdout) == (2, b"")
    assert said in done.stderr.decode()
    assert str(path) in done.stderr.decode()


# --- logs ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def chatty(site: Site) -> str:
    """A finished task that wrote three lines to each stream."""
    task_id = site.submit(
        name="chatty", run="for n in 1 2 3; do echo o$n; echo e$n >&2; done; exit 5"
    )
    site.finished(task_id)
    until(lambda: site.task(task_id)["attempts"][0]["logs_complete"])
    return task_id


def test_logs_of_a_finished_task(site: Site, chatty: str) -> None:
    done = site.cli("logs", chatty)
    assert (done.stdout, done.stderr) == (b"o1\no2\no3\n", b"e1\ne2\ne3\n")
    assert done.returncode == 0, "printing them worked"


def test_logs_by_name_and_prefix(site: Site, chatty: str) -> None:
    assert site.cli("logs", "chatty").stdout == b"o1\no2\no3\n"
    assert site.cli("logs", chatty[:-1]).stdout == b"o1\no2\no3\n"


def test_logs_of_one_stream_and_of_the_end(site: Site, chatty: str) -> None:
    assert site.cli("logs", "--stream", "err", chatty).stderr == b"e1\ne2\ne3\n"
    assert site.cli("logs", "--stream", "err", chatty).stdout == b""
    done = site.cli("logs", "--tail", "1", chatty)
    assert (done.stdout, done.stderr) == (b"o3\n", b"e3\n")


def test_logs_that_are_followed_have_the_tasks_code(site: Site, chatty: str) -> None:
    done = site.cli("logs", "-f", "--tail", "2", chatty)
    assert done.stdout == b"o2\no3\n"
    assert done.stderr.startswith(b"e2\ne3\nerror: chatty failed (exit 5)")
    assert done.returncode == 5


def test_logs_of_an_attempt(site: Site) -> None:
    task_id = site.submit(run="echo $STYX_ATTEMPT; exit 1", retries=1)
    site.finished(task_id)
    until(lambda: all(row["logs_complete"] for row in site.task(task_id)["attempts"]))
    assert site.cli("logs", task_id).stdout == b"2\n"
    assert site.cli("logs", "--attempt", "1", task_id).stdout == b"1\n"
    assert site.cli("logs", "-f", "--attempt", "1", task_id).stdout == b"1\n"
    assert site.cli("logs", "--attempt", "3", task_id).returncode == 1


def test_a_reader_that_goes_away(site: Site) -> None:
    command = f"{' '.join(STYX)} run yes | head -n 1"
    done = subprocess.run(
        ["bash", "-c", command + "; exit ${PIPESTATUS[0]}"],
        env=site.env, capture_output=True, check=False, timeout=DEADLINE_S,
    )  # fmt: skip
    site.cli("cancel", "last")
    assert (done.stdout, done.stderr, done.returncode) == (b"y\n", b"", 141)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has a disk that is always full")
@pytest.mark.parametrize("words", [("run", "echo", "x"), ("tasks", "-o", "json")])
def test_output_that_cannot_be_written(site: Site, words: tuple[str, ...]) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [*STYX, *words], env=site.env, stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert done.returncode == 125
    assert done.stderr == b"error: cannot write the output: No space left on device\n"


# --- Ctrl-C -------------------------------------------------------------------------------------------


@contextmanager
def terminal(site: Site, *words: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """The command on a terminal of its own: the process, and the end that a user has before them."""
    ours, theirs = pty.openpty()
    try:
        process = subprocess.Popen(
            [*STYX, *words],
            env=site.env, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
            # A test run in the background of a script inherits that Ctrl-C is ignored.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 (one system call)
        )  # fmt: skip
        os.close(theirs)
        try:
            yield process, ours
        finally:
            process.kill()
            process.wait()
    finally:
        os.close(ours)


def shown(terminal_fd: int, text: bytes) -> bytes:
    """What the terminal shows, once the text is among it."""
    seen = b""
    deadline = time.monotonic() + DEADLINE_S
    while text not in seen:
        assert time.monotonic() < deadline, seen
        if select.select([terminal_fd], [], [], 0.5)[0]:
            try:
                seen += os.read(terminal_fd, 65_536)
            except OSError:  # nobody has the other end any more
                raise AssertionError(seen) from None
    return seen


def test_ctrl_c_detaches_and_says_how_to_come_back(site: Site) -> None:
    with terminal(site, "run", "sh", "-c", "echo begun; exec sleep 300") as (process, screen):
        shown(screen, b"begun")
        process.send_signal(signal.SIGINT)
        said = shown(screen, b"cancels it)").decode()
        assert process.wait(timeout=DEADLINE_S) == 130
    found = re.search(r"detached; it goes on\. {2}styx logs -f (\S+) · styx cancel (\S+)", said)
    assert found is not None
    assert found[1] == found[2]
    assert site.status(found[1]) == "running"
    assert site.cli("cancel", "--force", found[1]).returncode == 0
    assert site.cli("wait", found[1]).returncode == 137


def test_a_second_ctrl_c_cancels(site: Site) -> None:
    with terminal(site, "run", "--name", "twice", "sh", "-c", "echo begun; exec sleep 300") as (
        process,
        screen,
    ):
        shown(screen, b"begun")
        process.send_signal(signal.SIGINT)
        shown(screen, b"cancels it)")
        process.send_signal(signal.SIGINT)
        shown(screen, b"cancelling ")
        assert process.wait(timeout=DEADLINE_S) == 130
    assert site.cli("wait", "twice").returncode == 143


def test_a_terminal_is_told_why_a_task_waits(site: Site) -> None:
    with terminal(site, "run", "--name", "large", "--cpus", "64", "true") as (process, screen):
        shown(screen, b"large: queued for")
        process.send_signal(signal.SIGINT)
        process.wait(timeout=DEADLINE_S)
    assert site.cli("cancel", "large").returncode == 0
