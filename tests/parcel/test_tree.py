"""Whatever a manifest says, nothing is written outside of the new directory, even if nobody has looked through it."""

import os
from pathlib import Path

import pytest

from styx.errors import InvalidSpec
from styx.parcel.tree import Tree

REFUSED = (InvalidSpec, OSError)


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """Everything but the tree: a victim, and links that lead to it lie about."""
    (tmp_path / "victim").write_text("untouched")
    return tmp_path


def write(tree: Tree, path: str, text: str = "evil") -> None:
    descriptor = tree.create(path, executable=False)
    os.write(descriptor, text.encode())
    os.close(descriptor)


def untouched(outside: Path) -> None:
    assert sorted(path.name for path in outside.iterdir()) == ["in", "victim"]
    assert (outside / "victim").read_text() == "untouched"
    assert sorted(path.name for path in (outside / "in").iterdir()) == ["tree"]


PATHS = [
    "../evil", "../../victim", "a/../../evil", "/tmp/styx-evil", "a//b", "./x", "a/./b", "..", ".", "",
    "a/..", "\0", "a\0/../../evil", "a/" * 250 + "x", "..\\..\\evil/../../../x",
]  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
def test_no_path_leads_out(outside: Path, path: str) -> None:
    tree = Tree(str(outside / "in" / "tree"))
    with pytest.raises(REFUSED):
        write(tree, path)
    with pytest.raises(REFUSED):
        tree.directory(path)
    with pytest.raises(REFUSED):
        tree.link(path, "x")
    tree.close()
    untouched(outside)


@pytest.mark.parametrize("target", ["..", "../../victim", "/etc", "a/../../..", "", "x/../.."])
def test_no_link_leads_out(outside: Path, target: str) -> None:
    tree = Tree(str(outside / "in" / "tree"))
    with pytest.raises(REFUSED):
        tree.link("link", target)
    tree.close()
    untouched(outside)


def test_nothing_is_written_through_a_link(outside: Path) -> None:
    """Not even through one that came from elsewhere."""
    top = outside / "in" / "tree"
    tree = Tree(str(top))
    (top / "up").symlink_to("../..")
    (top / "file").symlink_to("../../victim")
    for path in ("up/evil", "up/victim", "up/a/evil", "file", "file/x"):
        with pytest.raises(REFUSED):
            write(tree, path)
    with pytest.raises(REFUSED):
        tree.directory("up/evil")
    with pytest.raises(REFUSED):
        tree.link("up/evil", "x")
    tree.close()
    untouched(outside)


def test_what_is_there_is_not_written_to(outside: Path) -> None:
    """As when two names are one to the file system."""
    tree = Tree(str(outside / "in" / "tree"))
    write(tree, "a", "first")
    with pytest.raises(FileExistsError):
        write(tree, "a")
    with pytest.raises(FileExistsError):
        tree.link("a", "b")
    with pytest.raises(NotADirectoryError):
        write(tree, "a/b")
    tree.close()
    assert (outside / "in" / "tree" / "a").read_text() == "first"


def test_it_is_never_a_directory_that_is_there(outside: Path) -> None:
    (outside / "there").mkdir()
    (outside / "link").symlink_to(outside / "there")
    for name in ("there", "link"):
        with pytest.raises(FileExistsError):
            Tree(str(outside / name))


def test_odd_names_are_names(outside: Path) -> None:
    tree = Tree(str(outside / "in" / "tree"))
    names = [
        "-rf",
        "a b",
        "\n",
        "é",
        "e\u0301",
        "\u202egnp.exe",
        "..x",
        "...",
        "~",
        "$HOME",
        "CON",
        "a\\b",
    ]
    for name in names:
        write(tree, f"d/{name}", name)
    tree.link("d/l", "\u2025/x")
    tree.close()
    assert {path.name for path in (outside / "in" / "tree" / "d").iterdir()} == {*names, "l"}
