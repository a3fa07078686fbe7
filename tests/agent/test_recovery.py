"""Whatever dies, no attempt is executed twice, and none is forgotten."""

import json
import os
import signal
import sys
from pathlib import Path

import pytest

from styx.agent import home
from tests.support.supervised import Supervised, gone, until

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")


def test_work_goes_on_while_the_supervisor_is_dead(sup: Supervised) -> None:
    """Its end is then nobody's to know: said as lost, with the output whole."""
    sup.sh("k", "echo one; sleep 0.5; echo two")
    sup.wait("k", "pid")
    until(lambda: sup.out("k") == b"one\n")
    sup.kill()
    sup.revive()
    assert "exit" not in sup.snapshot["k"]
    end = sup.end("k")
    assert end["reason"] == "exit_status_lost"
    assert "code" not in end
    assert end["out_bytes"] == len(b"one\ntwo\n")
    assert end["ran_ms"] >= 500
    assert sup.out("k") == b"one\ntwo\n"


def test_an_end_before_the_crash_is_still_known_after_it(sup: Supervised) -> None:
    sup.sh("k", "echo out; exit 7")
    sup.end("k")
    sup.kill()
    sup.revive()
    assert sup.snapshot["k"]["exit"]["code"] == 7


def test_what_ended_while_nobody_watched_is_lost_not_repeated(
    sup: Supervised, tmp_path: Path
) -> None:
    ledger = tmp_path / "ledger"
    sup.sh("k", f"echo ran >> {ledger}; sleep 0.1")
    pid = sup.wait("k", "pid")["pid"]
    sup.kill()
    until(lambda: gone(pid))
    sup.revive()
    assert sup.end("k")["reason"] == "exit_status_lost"
    sup.sh("k", f"echo ran >> {ledger}")
    sup.run("after", "true")
    assert ledger.read_text() == "ran\n"


def test_what_a_power_cut_took_from_the_journal_but_not_from_the_spool_is_lost_not_repeated(
    sup: Supervised, tmp_path: Path
) -> None:
    ledger = tmp_path / "ledger"
    journal = sup.directory / home.JOURNAL
    kept = journal.read_bytes()
    sup.sh("k", f"echo ran >> {ledger}; echo out")
    sup.end("k")
    sup.kill()
    journal.write_bytes(kept)
    sup.revive()
    assert sup.snapshot == {}
    sup.sh("k", f"echo ran >> {ledger}; echo out")
    end = sup.end("k")
    assert (end["reason"], end["out_bytes"]) == ("exit_status_lost", len(b"out\n"))
    assert ledger.read_text() == "ran\n"
    assert sup.run("after", "true")["code"] == 0


@linux_only
def test_a_readopted_task_can_be_stopped_with_all_its_tree(sup: Supervised) -> None:
    sup.sh(
        "k", "trap '' TERM; (setsid setsid sleep 1001 &) ; echo ready; while :; do sleep 0.1; done"
    )
    until(lambda: sup.out("k") == b"ready\n" and len(sup.processes("k")) >= 2)
    sup.kill()
    sup.revive()
    sup.stop("k", grace=0.1)
    end = sup.end("k")
    assert end["signalled"] is True
    assert end["reason"] == "exit_status_lost"
    assert sup.processes("k") == []


@linux_only
def test_what_a_lost_task_left_behind_is_hunted_down(sup: Supervised) -> None:
    sup.sh("k", "(setsid setsid sleep 1001 &) ; echo ready; exec sleep 1002")
    pid = sup.wait("k", "pid")["pid"]
    until(lambda: sup.out("k") == b"ready\n" and len(sup.processes("k")) >= 2)
    sup.kill()
    os.kill(pid, signal.SIGKILL)
    until(lambda: gone(pid))
    assert sup.processes("k")
    sup.revive()
    assert sup.end("k")["reason"] == "exit_status_lost"
    assert sup.processes("k") == []


def test_limits_hold_across_a_crash(sup: Supervised) -> None:
    sup.start("k", "sleep", "1000", timeout=1.0, grace=0.5)
    sup.wait("k", "pid")
    sup.kill()
    sup.revive()
    end = sup.end("k")
    assert end["reason"] == "timeout"
    assert end["ran_ms"] >= 1000


@linux_only
def test_of_a_claim_whose_process_is_not_on_record_nothing_is_kept(sup: Supervised) -> None:
    """As after a crash between exec and the record of the pid: what lives may be a daemon that the main
    process has left, and would keep the task for ever.
    """
    sup.start("k", "sleep", "1000")
    pid = sup.wait("k", "pid")["pid"]
    sup.kill()
    strip(sup.directory, "pid")
    sup.revive()
    assert sup.end("k")["reason"] == "exit_status_lost"
    assert gone(pid)


def test_a_claim_without_any_process_is_lost(sup: Supervised) -> None:
    """As after a crash between the claim and exec: it may have run, so it never will again."""
    sup.start("k", "true")
    sup.end("k")
    sup.kill()
    strip(sup.directory, "pid", "exit")
    sup.revive()
    assert sup.end("k")["reason"] == "exit_status_lost"


def test_a_pid_that_is_somebody_elses_by_now_is_left_alone(sup: Supervised) -> None:
    sup.start("other", "sleep", "1000")
    other = sup.wait("other", "pid")["pid"]
    sup.start("k", "true")
    sup.end("k")
    sup.kill()
    journal = sup.directory / home.JOURNAL
    with journal.open("a") as file:
        file.write(json.dumps({"k": sup.key("gone"), "at": 1.0, "gpus": [], "grace": 1.0}) + "\n")
        file.write(json.dumps({"k": sup.key("gone"), "pid": other}) + "\n")
    sup.revive()
    assert sup.end("gone")["reason"] == "exit_status_lost"
    assert Path(f"/proc/{other}").exists()
    sup.stop("other", grace=0)
    sup.end("other")


def test_after_a_reboot_what_ran_is_ended(sup: Supervised) -> None:
    sup.start("k", "sleep", "1000")
    pid = sup.wait("k", "pid")["pid"]
    sup.kill()
    journal = sup.directory / home.JOURNAL
    with journal.open("a") as file:
        file.write(json.dumps({"boot": "another"}) + "\n")
    sup.revive()
    assert sup.snapshot["k"]["exit"]["reason"] == "agent_rebooted"
    os.kill(pid, signal.SIGKILL)


def test_many_kills_of_the_supervisor_start_nothing_twice(sup: Supervised, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    ledger.touch()
    keys = [f"k{number}" for number in range(60)]
    for round_ in range(4):
        for key in keys:
            sup.sh(key, f"echo {key} >> {ledger}; exit 1")
        sup.wait(keys[15 * round_], "exit")
        sup.kill()
        sup.revive()
    for key in keys:
        sup.sh(key, f"echo {key} >> {ledger}; exit 1")
    ends = {key: (sup.snapshot.get(key, {}).get("exit") or sup.end(key)) for key in keys}
    assert all(end.get("code") == 1 or end["reason"] == "exit_status_lost" for end in ends.values())
    ran = ledger.read_text().split()
    assert len(ran) == len(set(ran))
    assert {key for key, end in ends.items() if end.get("code") == 1} <= set(ran)


@pytest.mark.parametrize("crash", [False, True])
def test_a_forgotten_attempt_is_not_started_again(
    sup: Supervised, tmp_path: Path, crash: bool
) -> None:
    ledger = tmp_path / "ledger"
    sup.sh("k", f"echo ran >> {ledger}")
    sup.end("k")
    sup.send(do="forget", k="k")
    sup.run("after", "true")
    if crash:
        sup.kill()
        sup.revive()
        assert "k" not in sup.snapshot
    sup.told.clear()
    sup.sh("k", f"echo ran >> {ledger}")
    assert sup.wait("k", "void")["void"] == "stale_assign"
    sup.run("later", "true")
    assert ledger.read_text() == "ran\n"


def strip(directory: Path, *fields: str) -> None:
    """Take records with these fields out of the journal, as if they had not been written."""
    journal = directory / home.JOURNAL
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    kept = [line for line in lines if not any(field in line for field in fields)]
    journal.write_text("".join(json.dumps(line) + "\n" for line in kept))
