"""Starts beyond the machine's room: they wait, in their turn, and never for good."""

import time
from pathlib import Path

from styx.agent import room
from tests.support.supervised import Supervised, until

WHOLE = {"cpus_milli": 2_000, "memory_bytes": 1 << 30}


def greet(sup: Supervised) -> None:
    """As a link that says how much room there is."""
    sup.send(do="hello", env={"PATH": "/usr/bin:/bin"}, room=WHOLE)


def test_what_does_not_fit_starts_when_there_is_room_and_nothing_overtakes_it(
    sup: Supervised, tmp_path: Path
) -> None:
    greet(sup)
    ledger, go = tmp_path / "ledger", tmp_path / "go"
    sup.sh("first", f"until [ -e {go} ]; do sleep 0.01; done; echo first >> {ledger}")
    sup.sh("big", f"echo big >> {ledger}", cpus_milli=2_000)
    sup.sh("small", f"echo small >> {ledger}")
    sup.sh("fat", f"echo fat >> {ledger}", cpus_milli=0, memory_bytes=2 << 30)  # fits nowhere
    sup.wait("first", "pid")
    go.touch()
    assert [sup.end(key)["code"] for key in ("first", "big", "small", "fat")] == [0, 0, 0, 0]
    assert ledger.read_text().split() == ["first", "big", "small", "fat"]


def test_who_waits_too_long_is_given_back(sup: Supervised) -> None:
    greet(sup)
    sup.start("long", "sleep", "1000", cpus_milli=2_000)
    sup.start("behind", "true")
    began = time.monotonic()
    void = sup.wait("behind", "void")
    assert (void["void"], void["detail"]) == (
        "agent_busy",
        "the room for it did not come free in time",
    )
    assert time.monotonic() - began >= room.PATIENCE_S - 0.1
    assert sup.out("behind") == b""


def test_who_is_stopped_while_it_waits_never_starts(sup: Supervised, tmp_path: Path) -> None:
    greet(sup)
    go = tmp_path / "go"
    sup.sh("first", f"until [ -e {go} ]; do sleep 0.01; done", cpus_milli=2_000)
    sup.start("second", "touch", str(tmp_path / "ran"))
    sup.stop("second")
    assert sup.wait("second", "void")["void"] == "cancelled"
    go.touch()
    assert sup.end("first")["code"] == 0
    assert sup.run("third", "true")["code"] == 0
    assert not (tmp_path / "ran").exists()


def test_a_new_link_is_told_that_what_waited_never_starts(sup: Supervised, tmp_path: Path) -> None:
    """Else its server would take it for lost: it waits at the supervisor alone."""
    greet(sup)
    go = tmp_path / "go"
    sup.sh("first", f"until [ -e {go} ]; do sleep 0.01; done", cpus_milli=2_000)
    sup.start("second", "touch", str(tmp_path / "ran"))
    sup.wait("first", "pid")
    sup.drop()
    sup.connect()
    assert sup.snapshot["second"]["void"] == "agent_busy"
    greet(sup)
    sup.start("second", "touch", str(tmp_path / "ran"))
    go.touch()
    assert sup.end("first")["code"] == 0
    assert sup.run("third", "true")["code"] == 0
    assert not (tmp_path / "ran").exists()


def test_an_adopted_attempt_has_its_part_of_the_room(sup: Supervised, tmp_path: Path) -> None:
    greet(sup)
    go = tmp_path / "go"
    sup.sh("first", f"until [ -e {go} ]; do sleep 0.01; done", cpus_milli=2_000)
    sup.wait("first", "pid")
    sup.kill()
    sup.revive()
    greet(sup)
    sup.start("second", "touch", str(tmp_path / "ran"))
    sup.send(do="stop", k="nobody", grace=0.0, why="cancelled")
    sup.wait("nobody", "void")  # it has read this far
    assert not (tmp_path / "ran").exists()
    go.touch()
    until((tmp_path / "ran").exists, "started")


def test_whoever_leaves_starts_nothing_more(sup: Supervised, tmp_path: Path) -> None:
    greet(sup)
    sup.start("first", "sleep", "1000", cpus_milli=2_000)
    sup.start("second", "touch", str(tmp_path / "ran"))
    sup.wait("first", "pid")
    sup.process.terminate()
    assert sup.wait("second", "void")["void"] == "stale_assign"
    assert sup.end("first")["reason"] == "agent_rebooted"
    assert not (tmp_path / "ran").exists()
