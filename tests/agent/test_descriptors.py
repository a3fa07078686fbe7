"""A supervisor that has few descriptors, or none left."""

import os
import resource
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from styx.agent import home
from styx.agent.system import HEADROOM
from tests.support.supervised import Supervised, until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs prlimit")
FEW = 256


@contextmanager
def none_left(pid: int) -> Iterator[None]:
    """As if every descriptor were in use: no new one fits under the limit."""
    _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    was = resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, hard))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, was)


def cpu_ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def descriptors(pid: int) -> dict[int, str]:
    found: dict[int, str] = {}
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            found[int(entry.name)] = str(entry.readlink())
    return found


def test_more_tasks_than_descriptors_all_end_and_a_new_link_is_heard(sup: Supervised) -> None:
    resource.prlimit(sup.process.pid, resource.RLIMIT_NOFILE, (FEW, FEW))
    for number in range(FEW + 20):
        sup.sh(f"k{number}", "while [ ! -e go ]; do sleep 1; done; exit 7")
    for number in range(FEW + 20):
        sup.wait(f"k{number}", "pid")
    held = descriptors(sup.process.pid)
    assert sum("pidfd" in target for target in held.values()) > FEW // 2
    assert max(held) < FEW - HEADROOM
    sup.drop()
    sup.connect()
    assert len(sup.snapshot) == FEW + 20
    (sup.directory / "work" / "go").touch()
    assert {sup.end(f"k{number}")["code"] for number in range(FEW + 20)} == {7}


def test_without_a_descriptor_the_link_stays_and_a_newcomer_waits(sup: Supervised) -> None:
    sup.start("long", "sleep", "1000")
    sup.wait("long", "pid")
    pid = sup.process.pid
    with socket.socket(socket.AF_UNIX) as newcomer:
        with none_left(pid):
            newcomer.connect(home.socket_address(str(sup.directory)))
            before, began = cpu_ticks(pid), time.monotonic()
            time.sleep(1.0)
            share = (cpu_ticks(pid) - before) / os.sysconf("SC_CLK_TCK")
            assert share < 0.3 * (time.monotonic() - began), "it spins"
            sup.start("k", "true")
            assert sup.wait("k", "void")["void"] == "agent_full"  # the link before still serves
        assert sup._lines.readline() == b""  # and makes room now
    sup.drop()
    sup.connect()
    assert sup.run("after", "true")["code"] == 0
    sup.stop("long", grace=0)
    assert sup.end("long")["signalled"]


def test_a_link_that_died_makes_room_for_the_next(sup: Supervised) -> None:
    """It holds the only descriptor that there is."""
    pid = sup.process.pid
    peer = max(fd for fd, target in descriptors(pid).items() if target.startswith("socket:"))
    _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (peer + 1, hard))
    sup.drop()
    until(lambda: peer not in descriptors(pid))
    sup.connect()
    assert sup.snapshot == {}
