"""The journal as a file: what a crash, a full disk or a bad block can do to it."""

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from styx.agent import home, journal
from styx.agent.journal import Journal


def lines(directory: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (directory / home.JOURNAL).read_text().splitlines()]


def test_the_state_is_the_merge_of_the_lines(tmp_path: Path) -> None:
    written = Journal(str(tmp_path))
    written.write({"k": "a", "at": 1.5, "gpus": [0]})
    written.later({"k": "a", "pid": 7})
    written.later({"k": "b", "void": "cancelled", "detail": ""})
    written.later({"k": "a", "exit": {"code": 0}})
    written.flush()
    assert Journal(str(tmp_path)).attempts == {
        "a": {"k": "a", "at": 1.5, "gpus": [0], "pid": 7, "exit": {"code": 0}},
        "b": {"k": "b", "void": "cancelled", "detail": ""},
    }


def test_what_was_not_flushed_is_not_there(tmp_path: Path) -> None:
    written = Journal(str(tmp_path))
    written.later({"k": "a", "at": 1})
    assert Journal(str(tmp_path)).attempts == {}


@pytest.mark.parametrize("cut", range(1, 30, 4))
def test_a_torn_tail_never_happened(tmp_path: Path, cut: int) -> None:
    written = Journal(str(tmp_path))
    written.write({"k": "whole", "at": 1})
    written.write({"k": "torn", "at": 2, "gpus": []})
    file = tmp_path / home.JOURNAL
    os.truncate(file, file.stat().st_size - cut)
    again = Journal(str(tmp_path))
    assert list(again.attempts) == ["whole"]
    again.write({"k": "next", "at": 3})
    assert list(Journal(str(tmp_path)).attempts) == ["whole", "next"]


def test_a_damaged_line_costs_only_itself(tmp_path: Path) -> None:
    written = Journal(str(tmp_path))
    written.write({"k": "a", "at": 1})
    with (tmp_path / home.JOURNAL).open("ab") as file:
        file.write(b"\xff\x00 not json\n[1]\n")
    with (tmp_path / home.JOURNAL).open("a") as file:
        file.write(json.dumps({"k": "b", "at": 2}) + "\n")
    assert list(Journal(str(tmp_path)).attempts) == ["a", "b"]


def test_the_boot_and_the_lease_are_kept(tmp_path: Path) -> None:
    written = Journal(str(tmp_path))
    written.write({"boot": "x"})
    written.write({"lease": 5.5})
    again = Journal(str(tmp_path))
    assert (again.boot, again.lease) == ("x", 5.5)


def test_it_stays_small_however_much_passes_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "COMPACT_AFTER_LINES", 100)
    monkeypatch.setattr(journal, "FORGOTTEN_KEPT", 10)
    written = Journal(str(tmp_path))
    written.write({"k": "kept", "at": 0})
    for number in range(1000):
        written.write({"k": f"k{number}", "at": number})
        written.later({"k": f"k{number}", "forget": True})
    written.flush()
    assert len(lines(tmp_path)) < 250
    assert list(Journal(str(tmp_path)).attempts) == ["kept"]
    assert len(lines(tmp_path)) == 2 + 10  # every start begins with a short file


class Disk:
    """A disk that has room for so many bytes."""

    def __init__(self, room: int) -> None:
        self.room = room
        self._write = os.write

    def write(self, file: int, data: bytes) -> int:
        if self.room <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        taken = data[: self.room]
        self.room -= len(taken)
        return self._write(file, taken)


def test_a_full_disk_refuses_a_claim_and_leaves_no_half_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = Journal(str(tmp_path))
    (tmp_path / home.RESERVE).unlink()
    disk = Disk(room=10)
    monkeypatch.setattr(os, "write", disk.write)
    with pytest.raises(OSError, match="No space"):
        written.write({"k": "a", "at": 1})
    assert written.attempts == {}
    disk.room = 1000
    written.write({"k": "b", "at": 2})
    assert list(Journal(str(tmp_path)).attempts) == ["b"]


def test_on_a_full_disk_the_reserve_makes_room_for_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = Journal(str(tmp_path))
    reserve = tmp_path / home.RESERVE
    assert reserve.stat().st_size == journal.RESERVE_BYTES
    disk = Disk(room=0)
    unlink = os.unlink

    def free(path: str) -> None:
        unlink(path)
        disk.room = journal.RESERVE_BYTES

    monkeypatch.setattr(os, "write", disk.write)
    monkeypatch.setattr(os, "unlink", free)
    written.later({"k": "a", "exit": {"code": 0}})
    written.flush()
    assert not reserve.exists()
    assert Journal(str(tmp_path)).attempts["a"]["exit"] == {"code": 0}


def test_what_a_full_disk_did_not_take_is_written_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = Journal(str(tmp_path))
    (tmp_path / home.RESERVE).unlink()
    disk = Disk(room=0)
    monkeypatch.setattr(os, "write", disk.write)
    written.later({"k": "a", "exit": {"code": 0}})
    with pytest.raises(OSError, match="No space"):
        written.flush()
    disk.room = 1000
    written.flush()
    assert list(Journal(str(tmp_path)).attempts) == ["a"]


def test_that_the_journal_was_replaced_is_synced_before_anything_is_claimed_in_it(
    tmp_path: Path,
) -> None:
    synced: list[tuple[bool, list[str]]] = []

    def sync(descriptor: int) -> None:
        is_directory = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        synced.append((is_directory, [path.name for path in tmp_path.iterdir()]))

    Journal(str(tmp_path), sync)
    assert [is_directory for is_directory, _ in synced] == [False, True]
    assert home.JOURNAL + ".new" not in synced[1][1]
