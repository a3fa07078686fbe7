"""The supervisor as its link drives it: what a task is started with, and what is told of its end."""

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from styx.agent import proc
from tests.support.supervised import Supervised, supervised, until


def test_the_exit_code_is_the_tasks_own(sup: Supervised) -> None:
    for code in range(256):
        sup.sh(f"c{code}", f"exit {code}")
    assert {code: sup.end(f"c{code}").get("code") for code in range(256)} == {
        code: code for code in range(256)
    }


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM, signal.SIGPIPE])
def test_a_death_by_signal_is_told_as_such(sup: Supervised, number: int) -> None:
    sup.sh("k", f"kill -{int(number)} $$")
    end = sup.end("k")
    assert end["signal"] == number
    assert "code" not in end
    assert "signalled" not in end  # it was not we who sent it


def test_output_is_kept_byte_for_byte_and_measured(sup: Supervised) -> None:
    every_byte = "".join(f"\\{value:03o}" for value in range(256))
    sup.sh("k", f"printf '{every_byte}'; printf '{every_byte}x' >&2")
    end = sup.end("k")
    assert sup.out("k") == bytes(range(256))
    assert sup.err("k") == bytes(range(256)) + b"x"
    assert (end["out_bytes"], end["err_bytes"]) == (256, 257)


def test_run_time_cpu_time_and_memory_are_measured(sup: Supervised) -> None:
    burn = "import time; x = b'x' * (80 << 20); end = time.process_time() + 0.2\nwhile time.process_time() < end: pass"
    end = sup.run("k", "python3", "-c", burn)
    assert end["code"] == 0
    assert end["cpu_ms"] >= 200
    assert end["ran_ms"] >= 200
    assert end["max_rss_bytes"] >= 80 << 20


def test_a_small_task_is_not_charged_with_the_supervisors_memory(sup: Supervised) -> None:
    assert "max_rss_bytes" not in sup.run("k", "true")


def test_a_task_starts_in_the_work_directory_with_nothing_to_read(sup: Supervised) -> None:
    sup.sh("k", "pwd; cat; exec 3<&0; ls -l /proc/self/fd | grep -c -e spool -e socket -e pipe")
    sup.end("k")
    assert sup.out("k").decode().splitlines() == [str(sup.directory / "work"), "2"]


def test_a_task_starts_in_the_directory_that_it_names(sup: Supervised, tmp_path: Path) -> None:
    where = tmp_path / "a directory"
    where.mkdir()
    sup.sh("k", "pwd", cwd=str(where))
    sup.end("k")
    assert sup.out("k").decode() == f"{where}\n"
    where.rmdir()  # nothing keeps it busy


def test_the_environment_is_the_links_with_the_tasks_over_it(sup: Supervised) -> None:
    sup.drop()
    sup.connect(env={"PATH": os.environ["PATH"], "A": "link", "B": "link"})
    sup.start("k", "env", env={"B": "task", "C": "ü\n"})
    sup.end("k")
    lines = sup.out("k").decode()
    assert "A=link\n" in lines
    assert "B=task\n" in lines
    assert "C=ü\n" in lines
    assert "PYTHONPATH" not in lines  # the supervisor's own
    assert "STYX_TOKEN" not in lines


def test_signals_have_their_defaults_again(sup: Supervised) -> None:
    """Python ignores SIGPIPE, and the supervisor SIGINT: a task must not inherit that."""
    sup.sh("k", "grep -e SigIgn -e SigBlk /proc/self/status")
    sup.end("k")
    real = (1 << 31) - 1  # above are real-time signals; glibc ignores two of its own there
    assert [int(line.split()[1], 16) & real for line in sup.out("k").splitlines()] == [0, 0]


@pytest.mark.parametrize(
    ("argv", "order", "detail"),
    [
        (["no-such-command"], {}, "command not found: 'no-such-command'"),
        (["./nothing"], {}, "command not found: './nothing'"),
        (["/etc"], {}, "cannot run '/etc': it is not executable"),
        (["true"], {"cwd": "/no/such/directory"}, "/no/such/directory: No such file or directory"),
        (["./text"], {}, "neither a program nor a script"),
        (["./lost"], {}, "the interpreter named in its first line does not exist"),
        (["./locked"], {}, "it is not executable"),
        (["echo", "a\0b"], {}, "null"),
        (["true"], {"env": {"A=B": "c"}}, "cannot run 'true'"),
        (["echo", "x" * 200_000], {}, "too long"),
    ],
)
def test_what_cannot_start_says_why(
    sup: Supervised, argv: list[str], order: dict[str, object], detail: str
) -> None:
    work = sup.directory / "work"
    for name, content, mode in (
        ("text", "just text", 0o755),
        ("lost", "#!/no/such/interpreter\n", 0o755),
        ("locked", "#!/bin/sh\n", 0o644),
    ):
        (work / name).write_text(content)
        (work / name).chmod(mode)
    end = sup.run("k", *argv, **order)
    assert end["reason"] == "spawn_error"
    assert detail in end["detail"]
    assert "code" not in end


def test_a_command_that_is_not_executable_is_not_the_one_meant(
    sup: Supervised, tmp_path: Path
) -> None:
    """As a shell does, the search goes on behind a file without the x bit."""
    (tmp_path / "first").mkdir()
    (tmp_path / "second").mkdir()
    (tmp_path / "first" / "tool").write_text("")
    tool = tmp_path / "second" / "tool"
    tool.write_text("#!/bin/sh\nexit 5")
    tool.chmod(0o755)
    path = f"{tmp_path}/first:{tmp_path}/second"
    assert sup.run("a", "tool", env={"PATH": path})["code"] == 5
    tool.chmod(0o644)  # found before, and gone since
    assert "not executable" in sup.run("b", "tool", env={"PATH": path})["detail"]


def test_a_long_script_goes_through_a_private_file(sup: Supervised) -> None:
    script = f"echo begin\n# {'x' * 300_000}\necho end"
    sup.start("k", "sh", "-eu", script=script)
    assert sup.end("k")["code"] == 0
    assert sup.out("k") == b"begin\nend\n"
    file = sup.directory / "spool" / f"{sup.key('k')}.sh"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    sup.send(do="forget", k="k")
    until(lambda: not file.exists())


def test_a_key_is_executed_once_however_often_it_is_ordered(
    sup: Supervised, tmp_path: Path
) -> None:
    ledger = tmp_path / "ledger"
    for _ in range(3):
        sup.sh("k", f"echo ran >> {ledger}")
    sup.end("k")
    sup.sh("k", f"echo ran >> {ledger}")
    sup.kill()
    sup.revive()
    sup.sh("k", f"echo ran >> {ledger}")
    assert sup.end("k")["code"] == 0
    sup.run("after", "true")
    assert ledger.read_text() == "ran\n"


def test_a_stop_that_comes_before_its_start_prevents_it(sup: Supervised, tmp_path: Path) -> None:
    sup.stop("k")
    assert sup.wait("k", "void")["void"] == "cancelled"
    sup.kill()
    sup.revive()
    assert sup.snapshot["k"]["void"] == "cancelled"
    sup.sh("k", f"touch {tmp_path}/ran")
    sup.run("after", "true")
    assert not (tmp_path / "ran").exists()


def test_a_stale_order_is_not_started(sup: Supervised, tmp_path: Path) -> None:
    sup.sh("k", f"touch {tmp_path}/ran", until=proc.now() - 1)
    assert sup.wait("k", "void")["void"] == "stale_assign"
    assert not (tmp_path / "ran").exists()


def test_a_new_link_gets_all_that_is_held(sup: Supervised) -> None:
    sup.start("running", "sleep", "60", gpus=[2, 3])
    sup.wait("running", "pid")
    sup.run("ended", "false")
    sup.stop("void")
    sup.wait("void", "void")
    sup.drop()
    sup.connect()
    assert sup.snapshot["running"]["gpus"] == [2, 3]
    assert "exit" not in sup.snapshot["running"]
    assert sup.snapshot["ended"]["exit"]["code"] == 1
    assert sup.snapshot["void"]["void"] == "cancelled"


def test_a_task_that_ends_without_a_link_is_told_to_the_next(sup: Supervised) -> None:
    sup.sh("k", "sleep 0.2; exit 3")
    sup.wait("k", "pid")
    sup.drop()
    journal = sup.directory / "journal.jsonl"
    until(lambda: '"code":3' in journal.read_text())
    sup.connect()
    assert sup.snapshot["k"]["exit"]["code"] == 3


def test_the_newest_link_is_the_one_that_counts(sup: Supervised) -> None:
    sup.start("k", "sleep", "0.2")
    sup.wait("k", "pid")
    with sup._socket, sup._lines as older:
        sup.connect()
        assert older.readline() == b""
    assert sup.end("k")["code"] == 0


def test_nonsense_on_the_socket_only_costs_the_connection(sup: Supervised) -> None:
    sup.start("k", "sleep", "0.3")
    sup.wait("k", "pid")
    sup._socket.sendall(b"nonsense\n")
    assert sup._lines.readline() == b""
    sup.drop()
    sup.connect()
    assert sup.end("k")["code"] == 0


def test_forgetting_frees_the_record_and_the_spool(sup: Supervised) -> None:
    sup.sh("k", "echo out; echo err >&2")
    sup.end("k")
    sup.send(do="forget", k="k")
    until(lambda: not any((sup.directory / "spool").iterdir()))
    sup.drop()
    sup.connect()
    assert sup.snapshot == {}


def test_what_runs_is_not_forgotten(sup: Supervised) -> None:
    sup.start("k", "sleep", "0.2")
    sup.wait("k", "pid")
    sup.send(do="forget", k="k")
    assert sup.end("k")["code"] == 0


def test_two_hundred_short_tasks_pass_in_a_moment(sup: Supervised) -> None:
    began = time.monotonic()
    for number in range(200):
        sup.start(f"k{number}", "echo", str(number))
    for number in range(200):
        assert sup.end(f"k{number}")["code"] == 0
        assert sup.out(f"k{number}") == f"{number}\n".encode()
    assert time.monotonic() - began < 20  # a tenth of a second each would be a fault


def test_there_is_one_supervisor_to_a_home(sup: Supervised) -> None:
    first = sup.process
    sup.launch()
    second, sup.process = sup.process, first
    assert second.wait(30) == 0  # it waited for the lock, and left
    assert sup.run("k", "true")["code"] == 0


def test_without_link_and_task_it_does_not_stay(tmp_path: Path) -> None:
    impatient = "import sys; from styx.agent import supervisor as s; s.IDLE_EXIT_S = 0.2; s.main(sys.argv[1])"
    subprocess.run([sys.executable, "-c", impatient, str(tmp_path)], check=True, timeout=30)
    assert not (tmp_path / "supervisor.sock").exists()


def test_a_deep_home_has_a_socket_all_the_same(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    with supervised(deep) as sup:
        assert sup.run("k", "true")["code"] == 0


def test_nobody_else_may_enter_the_home(sup: Supervised) -> None:
    sup.run("k", "true")
    assert stat.S_IMODE(sup.directory.stat().st_mode) == 0o700
    for file in (sup.directory / "journal.jsonl", sup.directory / "spool" / f"{sup.key('k')}.out"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
