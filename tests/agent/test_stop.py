"""Ending attempts: the ladder, the limits, and that nothing at all is left."""

import os
import signal
import sys
from pathlib import Path

import pytest

from styx.agent import proc
from tests.support.supervised import Supervised, gone, until

# Ignores the polite signal, and leaves the process group in every way there is: children in other
# sessions, a double fork, and a grandchild whose parents are gone.
STUBBORN = """
trap '' TERM HUP
(trap '' TERM; setsid sh -c 'setsid sleep 1001 & sleep 1002') &
(setsid setsid sleep 1003 &)
(sleep 1004 & sleep 1005 &)
sleep 1006 &
echo ready
while :; do sleep 1; done
"""
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")


def test_a_polite_stop_lets_the_task_say_goodbye(sup: Supervised) -> None:
    sup.sh("k", "trap 'echo bye; exit 4' TERM; echo ready; while :; do sleep 0.05; done")
    until(lambda: sup.out("k") == b"ready\n")
    sup.stop("k")
    end = sup.end("k")
    assert end["code"] == 4
    assert end["signalled"] is True
    assert sup.out("k") == b"ready\nbye\n"


def test_a_task_that_ended_before_the_stop_keeps_its_result(sup: Supervised) -> None:
    sup.sh("k", "exit 0")
    sup.end("k")
    sup.stop("k")
    sup.told.clear()
    assert sup.end("k") == {**sup.end("k"), "code": 0}
    assert "signalled" not in sup.end("k")


def test_a_stop_just_behind_the_end_does_not_count(sup: Supervised) -> None:
    """The process is a zombie that nobody has looked at yet when the stop is read."""
    sup.sh("k", "while [ ! -e go ]; do sleep 0.01; done")
    pid = sup.wait("k", "pid")["pid"]
    os.kill(sup.process.pid, signal.SIGSTOP)
    (sup.directory / "work" / "go").touch()
    until(lambda: gone(pid))
    sup.stop("k")
    os.kill(sup.process.pid, signal.SIGCONT)
    end = sup.end("k")
    assert end["code"] == 0
    assert "signalled" not in end


@linux_only
def test_after_its_grace_a_stubborn_tree_is_gone_to_the_last_process(sup: Supervised) -> None:
    sup.sh("k", STUBBORN)
    until(lambda: sup.out("k") == b"ready\n" and len(sup.processes("k")) >= 7)
    sup.stop("k", grace=0.2)
    end = sup.end("k")
    assert end["signal"] == signal.SIGKILL
    assert end["signalled"] is True
    assert end["ran_ms"] >= 200
    assert sup.processes("k") == []


@linux_only
def test_without_grace_a_tree_is_gone_at_once(sup: Supervised) -> None:
    sup.sh("k", STUBBORN)
    until(lambda: sup.out("k") == b"ready\n" and len(sup.processes("k")) >= 7)
    sup.stop("k", grace=0)
    assert sup.end("k")["signal"] == signal.SIGKILL
    assert sup.processes("k") == []


def test_a_task_that_is_suspended_hears_the_polite_signal(sup: Supervised) -> None:
    sup.sh("k", "trap 'exit 4' TERM; echo ready; kill -STOP $$; while :; do sleep 0.05; done")
    until(lambda: sup.out("k") == b"ready\n")
    sup.stop("k", grace=1000)
    assert sup.end("k")["code"] == 4


def test_a_second_stop_can_shorten_the_grace_but_not_lengthen_it(sup: Supervised) -> None:
    sup.sh("k", "trap '' TERM; echo ready; while :; do sleep 0.05; done")
    until(lambda: sup.out("k") == b"ready\n")
    sup.stop("k", grace=1000)
    sup.stop("k", grace=0.1)
    sup.stop("k", grace=1000)
    assert sup.end("k")["signal"] == signal.SIGKILL


@linux_only
@pytest.mark.parametrize(
    "script",
    [
        "sleep 1001 & exit 3",
        "setsid sleep 1001 & exit 3",
        "(setsid setsid sleep 1001 &) ; exit 3",
        "(setsid sh -c 'setsid sleep 1001 & sleep 1002 & wait' &) ; sleep 0.1; exit 3",
    ],
)
def test_what_a_task_leaves_behind_ends_with_it(sup: Supervised, script: str) -> None:
    sup.sh("k", script)
    end = sup.end("k")
    assert end["code"] == 3
    assert "signalled" not in end
    assert sup.processes("k") == []


@linux_only
def test_a_daemon_of_a_running_task_is_left_alone(sup: Supervised) -> None:
    sup.sh("long", "(setsid setsid sleep 1001 &) ; echo ready; sleep 1000")
    until(lambda: sup.out("long") == b"ready\n" and len(sup.processes("long")) >= 3)
    for number in range(20):
        sup.run(f"short{number}", "true")
    assert len(sup.processes("long")) >= 3
    sup.stop("long", grace=5)
    sup.end("long")
    assert sup.processes("long") == []


@linux_only
def test_a_daemon_that_hides_its_origin_ends_with_the_last_task(sup: Supervised) -> None:
    sup.sh(
        "k",
        "env -i $(command -v setsid) $(command -v setsid) sh -c 'echo $$ >hidden; exec sleep 1001' & sleep 0.2",
    )
    sup.end("k")
    hidden = sup.directory / "work" / "hidden"
    pid = int(until(lambda: hidden.exists() and hidden.read_text().strip()))
    until(lambda: not Path(f"/proc/{pid}").exists(), "the hidden daemon is gone")


@linux_only
def test_orphans_leave_no_zombies(sup: Supervised) -> None:
    for number in range(10):
        sup.sh(f"k{number}", "(true &) ; (setsid true &) ; true")
        sup.end(f"k{number}")
    sup.run("last", "sleep", "0.1")

    def zombies() -> list[str]:
        children = Path(f"/proc/{sup.process.pid}/task/{sup.process.pid}/children").read_text()
        return children.split()

    sup.run("more", "sleep", "0.1")
    assert zombies() == []


def test_a_timeout_stops_the_task_and_says_so(sup: Supervised) -> None:
    end = sup.run("k", "sleep", "1000", timeout=0.2)
    assert end["reason"] == "timeout"
    assert end["signalled"] is True
    assert 200 <= end["ran_ms"] < 20_000


def test_a_timeout_grants_its_grace_and_then_kills(sup: Supervised) -> None:
    sup.sh("k", "trap 'echo late' TERM; while :; do sleep 0.05; done", timeout=0.2, grace=0.3)
    end = sup.end("k")
    assert (end["reason"], end["signal"]) == ("timeout", signal.SIGKILL)
    assert sup.out("k") == b"late\n"


def test_a_stop_with_a_long_grace_does_not_outlast_the_timeout(sup: Supervised) -> None:
    stubborn = "trap '' TERM; echo ready; while :; do sleep 0.05; done"
    sup.sh("k", stubborn, timeout=0.6, grace=0.3)
    until(lambda: sup.out("k") == b"ready\n")
    sup.stop("k", grace=1000)
    end = sup.end("k")
    assert end["signal"] == signal.SIGKILL
    assert 800 <= end["ran_ms"] < 20_000


def test_a_stop_with_a_long_grace_does_not_outlast_the_lease(sup: Supervised) -> None:
    sup.send(do="lease", until=proc.now() + 1000)
    sup.sh("k", "trap '' TERM; echo ready; while :; do sleep 0.05; done", exclusive=True, grace=0.1)
    until(lambda: sup.out("k") == b"ready\n")
    sup.send(do="lease", until=proc.now() + 0.3)
    sup.stop("k", grace=1000)
    assert sup.end("k")["signal"] == signal.SIGKILL


def test_a_lease_that_is_renewed_grants_the_rest_of_a_grace(sup: Supervised) -> None:
    sup.send(do="lease", until=proc.now() + 1000)
    # A loop, not one long sleep: a TERM between the echo and the fork would leave that asleep.
    script = "trap 'sleep 2; exit 5' TERM; echo ready; while :; do sleep 0.05; done"
    sup.sh("k", script, exclusive=True, grace=0.1)
    until(lambda: sup.out("k") == b"ready\n")
    sup.send(do="lease", until=proc.now() + 1.5)
    sup.stop("k", grace=1000)
    sup.send(do="lease", until=proc.now() + 1000)
    assert sup.end("k")["code"] == 5


def test_an_exclusive_task_ends_before_its_lease_does(sup: Supervised) -> None:
    sup.send(do="lease", until=proc.now() + 1.0)
    sup.sh("k", "trap '' TERM; while :; do sleep 0.05; done", exclusive=True, grace=0.4)
    sup.start("free", "sleep", "1000")
    end = sup.end("k")
    assert end["reason"] == "agent_silent"
    assert end["signal"] == signal.SIGKILL
    assert 500 <= end["ran_ms"] < 20_000
    assert sup.processes("free")  # only exclusive ones depend on a lease
    sup.stop("free", grace=0)
    sup.end("free")


def test_a_lease_that_is_renewed_lets_an_exclusive_task_run(sup: Supervised) -> None:
    sup.send(do="lease", until=proc.now() + 0.3)
    sup.start("k", "sleep", "0.8", exclusive=True, grace=0.1)
    sup.send(do="lease", until=proc.now() + 1000)
    assert sup.end("k")["code"] == 0


def test_a_supervisor_that_is_told_to_go_stops_its_tasks_first(sup: Supervised) -> None:
    sup.sh("k", "trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.05; done", grace=10)
    until(lambda: sup.out("k") == b"ready\n")
    sup.process.terminate()
    end = sup.end("k")
    assert end["reason"] == "agent_rebooted"
    assert sup.process.wait(30) == 0
    assert sup.out("k") == b"ready\nbye\n"
