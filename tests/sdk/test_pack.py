"""Packing a directory: what is in, what is left out, what is refused, and that nothing is read twice."""

import os
import socket
import subprocess
import time
from pathlib import Path

import pytest

from styx.core import bundle
from styx.core.bundle import BLOB_BYTES, Directory, File, Link
from styx.errors import InvalidSpec
from styx.sdk import pack as packing
from styx.sdk.pack import Packed, Source

MOST = 1 << 30


@pytest.fixture
def top(tmp_path: Path) -> Path:
    made = tmp_path / "top"
    made.mkdir()
    return made


def write(top: Path, *paths: str) -> None:
    for path in paths:
        file = top / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(path)


def pack(top: Path, *more: Source, most_bytes: int = MOST) -> Packed:
    return packing.pack([Source(top), *more], top.parent / "caches", most_bytes=most_bytes)


def entries(packed: Packed) -> dict[str, bundle.Entry]:
    return {entry.path: entry for entry in bundle.decode(packed.manifest).entries}


def paths(top: Path) -> set[str]:
    return set(entries(pack(top)))


def test_the_same_content_is_the_same_bundle_wherever_and_whenever(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write(tmp_path / name, "b/c", "a", "b/a")
        (tmp_path / name / "run.sh").write_text("true")
        (tmp_path / name / "run.sh").chmod(0o755)
    os.utime(tmp_path / "two" / "a", (0, 0))
    one, two = pack(tmp_path / "one"), pack(tmp_path / "two")
    assert one.id == two.id
    assert list(entries(one)) == ["a", "b/a", "b/c", "run.sh"]
    assert entries(one)["run.sh"].executable
    assert not entries(one)["a"].executable
    (tmp_path / "two" / "run.sh").chmod(0o644)
    assert pack(tmp_path / "two").id != one.id


def test_a_large_file_goes_in_pieces(top: Path) -> None:
    (top / "large").write_bytes(b"x" * (2 * BLOB_BYTES + 1))
    packed = pack(top)
    file = entries(packed)["large"]
    assert isinstance(file, File)
    assert [size for _, size in file.pieces()] == [BLOB_BYTES, BLOB_BYTES, 1]
    assert len(packed.places) == 2, "two of the pieces are the same"


def test_empty_directories_are_kept(top: Path) -> None:
    (top / "a" / "b").mkdir(parents=True)
    write(top, "c/d")
    assert entries(pack(top)).keys() == {"a/b", "c/d"}
    assert entries(pack(top))["a/b"] == Directory("a/b")


def test_links_stay_links_while_they_stay_inside(top: Path) -> None:
    write(top, "a/x")
    (top / "plain").symlink_to("a/x")
    (top / "a" / "up").symlink_to("../plain")
    (top / "whole").symlink_to(top / "a" / "x")
    (top / "a" / "winding").symlink_to("../a/../plain")
    (top / "dangling").symlink_to("nothing")
    found = entries(pack(top))
    assert found["plain"] == Link("plain", "a/x")
    assert found["a/up"] == Link("a/up", "../plain")
    assert found["whole"] == Link("whole", "a/x")
    assert found["a/winding"] == Link("a/winding", "x")
    assert found["dangling"] == Link("dangling", "nothing")


@pytest.mark.parametrize("target", ["/etc/passwd", "../outside", "a/../../outside"])
def test_a_link_that_leaves_is_refused_by_name(top: Path, target: str) -> None:
    write(top, "a/x")
    (top / "leaves").symlink_to(target)
    with pytest.raises(InvalidSpec, match=r"leaves is a link to .*not sent along"):
        pack(top)
    write(top, ".styxignore")
    (top / ".styxignore").write_text("leaves\n")
    assert "leaves" not in paths(top)


def test_what_is_no_file_is_refused_by_name(top: Path) -> None:
    os.mkfifo(top / "queue")
    with pytest.raises(InvalidSpec, match="queue is a pipe"):
        pack(top)
    (top / "queue").unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(top / "door"))
        with pytest.raises(InvalidSpec, match="door is a socket"):
            pack(top)
    (top / "door").unlink()
    (top / os.fsdecode(b"caf\xe9")).write_text("")
    with pytest.raises(InvalidSpec, match="not UTF-8"):
        pack(top)


def test_what_is_not_there_is_said(top: Path) -> None:
    with pytest.raises(InvalidSpec, match="No such file"):
        pack(top / "nothing")
    write(top, "secret")
    if os.geteuid():
        (top / "secret").chmod(0)
        with pytest.raises(InvalidSpec, match="secret: Permission denied"):
            pack(top)


RULES = {
    ".gitignore": "*.log\n/build/\n!keep.log\n# a comment\nnotes.txt \n**/deep/*.o\n",
    "sub/.gitignore": "!sub.log\nlocal\n",
    ".styxignore": "data/\n!important.log\n",
}
FILES = [
    "a.log", "keep.log", "important.log", "build/x", "sub/build/x", "sub/sub.log", "sub/other.log",
    "sub/local", "local", "data/x", "sub/data/x", "notes.txt", "x/deep/a.o", "x/deep/a.c", "build.txt",
    ".git/config", "sub/.git/HEAD",
]  # fmt: skip


def test_rules_of_git_and_our_own(top: Path) -> None:
    write(top, *FILES)
    for name, text in RULES.items():
        (top / name).write_text(text)
    assert paths(top) == {
        *RULES, "keep.log", "important.log", "sub/build/x", "sub/sub.log", "local", "x/deep/a.c", "build.txt",
    }  # fmt: skip


def test_git_itself_agrees(top: Path) -> None:
    write(top, *(path for path in FILES if ".git/" not in path))
    for name, text in RULES.items():
        (top / name).write_text(text if name != ".styxignore" else "")
    git = ["git", "-c", "init.defaultBranch=main", "-C", str(top)]
    subprocess.run([*git, "init", "-q"], check=True)
    listed = subprocess.run(
        [*git, "ls-files", "-co", "--exclude-standard"], capture_output=True, check=True, text=True
    )
    assert paths(top) == set(listed.stdout.split())
    # The directory of a repository obeys the rules above it.
    below = subprocess.run(
        [*git, "ls-files", "-co", "--exclude-standard", "sub"],
        capture_output=True,
        check=True,
        text=True,
    )
    assert paths(top / "sub") == {path.removeprefix("sub/") for path in below.stdout.split()}


def test_skypilots_rules_stand_in_for_gits(top: Path) -> None:
    write(top, "a.log", "b.tmp", "sub/c.log")
    (top / ".gitignore").write_text("*.log\n")
    (top / ".skyignore").write_text("*.tmp\n")
    assert paths(top) == {".gitignore", ".skyignore", "a.log", "sub/c.log"}


def test_several_sources_are_one_bundle_and_the_later_counts(top: Path) -> None:
    write(top, "a", "data/x")
    other = top.parent / "other"
    write(other, "x", "y/z")
    single = top.parent / "single.txt"
    single.write_text("!")
    found = entries(pack(top, Source(other, "data"), Source(single, "a")))
    assert found.keys() == {"a", "data/x", "data/y/z"}
    assert found["a"] == entries(pack(other, Source(single, "a")))["a"]
    with pytest.raises(InvalidSpec, match="is no directory"):
        pack(top, Source(other, "a"))


def test_too_much_names_the_largest(top: Path) -> None:
    write(top, "small")
    (top / "large.bin").write_bytes(bytes(3 << 20))
    with pytest.raises(
        InvalidSpec, match=r"3\.0 MiB are too much .* largest: large\.bin \(3\.0 MiB\)"
    ):
        pack(top, most_bytes=1 << 20)


def test_too_many_names_the_fullest(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "MAX_ENTRIES", 10)
    write(top, "a", *(f"full/{i}" for i in range(10)))
    with pytest.raises(InvalidSpec, match=r"more than 10 files .* most are in: full \(10\)"):
        pack(top)


def test_what_has_not_changed_is_not_read_again(top: Path) -> None:
    write(top, "a", "b", "c")
    old = 1_000_000_000
    for name in "abc":
        os.utime(top / name, (old, old))
    before = pack(top)
    # Files that were touched a moment ago are not remembered yet.
    assert read_count(top) == 3
    settled(top)
    assert read_count(top) == 3
    assert read_count(top) == 0
    assert pack(top).id == before.id
    looks = (top / "b").stat()
    (top / "b").write_text("B")
    os.utime(top / "b", ns=(looks.st_atime_ns, looks.st_mtime_ns))
    assert read_count(top) == 1, "same size, same time, another content"
    assert pack(top).id != before.id


def read_count(top: Path) -> int:
    """How many files are read to pack it."""
    reads = 0
    read = packing._read

    def counted(file: str) -> object:
        nonlocal reads
        reads += 1
        return read(file)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packing, "_read", counted)
        pack(top)
    return reads


def settled(top: Path) -> None:
    """Wait until none of it is so fresh that it may change unseen."""
    newest = max(path.stat().st_ctime for path in top.iterdir())
    while time.time() - newest < 2 * packing.RACY_NS / 1e9:
        time.sleep(0.01)


def test_a_broken_cache_is_none(top: Path) -> None:
    write(top, "a")
    settled(top)
    id_ = pack(top).id
    for cache in (top.parent / "caches").iterdir():
        cache.write_bytes(b"junk")
    assert pack(top).id == id_
