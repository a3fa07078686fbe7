"""The supervisor on a system without pidfds, epoll, subreapers and /proc, as a Mac is one."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.supervised import Supervised, gone, until

POOR = """
import os, select, sys
for module, name in ((os, "pidfd_open"), (select, "epoll")):
    if hasattr(module, name):
        delattr(module, name)
from styx.agent import proc, supervisor
proc._PROC = False
proc._read = lambda path: b""
proc._listdir = lambda path: []
proc.become_subreaper = lambda: None
proc.children = lambda: None
supervisor.main(sys.argv[1])
"""


class Poor(Supervised):
    def launch(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", POOR, str(self.directory)],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
            start_new_session=True,
        )


@pytest.fixture
def sup(tmp_path: Path) -> Iterator[Supervised]:
    held = Poor(tmp_path / "home")
    yield held
    held.close()


def test_tasks_run_and_end(sup: Supervised) -> None:
    for code in range(20):
        sup.sh(f"k{code}", f"echo {code}; exit {code}")
    assert [sup.end(f"k{code}")["code"] for code in range(20)] == list(range(20))
    assert sup.out("k7") == b"7\n"


def test_a_stop_reaches_the_process_group(sup: Supervised) -> None:
    sup.sh(
        "k", "trap '' TERM; (trap '' TERM; sleep 1001) & echo ready; while :; do sleep 0.1; done"
    )
    until(lambda: sup.out("k") == b"ready\n")
    sup.stop("k", grace=0.2)
    end = sup.end("k")
    assert (end["signal"], end["signalled"]) == (signal.SIGKILL, True)
    until(lambda: not sup.processes("k"))


def test_what_is_left_in_the_group_ends_with_the_task(sup: Supervised) -> None:
    sup.sh("k", "sleep 1001 & exit 3")
    assert sup.end("k")["code"] == 3


def test_a_crash_of_the_supervisor_repeats_nothing(sup: Supervised, tmp_path: Path) -> None:
    sup.sh("k", f"echo ran >> {tmp_path}/ledger; sleep 0.5; echo done")
    pid = sup.wait("k", "pid")["pid"]
    sup.kill()
    sup.revive()
    sup.sh("k", f"echo ran >> {tmp_path}/ledger")
    assert sup.end("k")["reason"] == "exit_status_lost"
    assert sup.out("k") == b"done\n"
    assert gone(pid)
    assert (tmp_path / "ledger").read_text() == "ran\n"
