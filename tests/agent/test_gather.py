"""What is brought of what a task has left: never more than it left, whatever links it made."""

import os
from pathlib import Path

import pytest

from styx.agent.errand import Failed
from styx.agent.gather import gather
from styx.core import bundle
from styx.core.bundle import Directory, File, Link
from styx.errors import InvalidSpec


@pytest.fixture
def left(tmp_path: Path) -> Path:
    for name in ("left", "work/results", "work/.hidden"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "secret").write_text("s")
    return tmp_path


def gathered(top: Path, *patterns: str) -> dict[str, bundle.Entry]:
    found = gather(f"{top}/left", f"{top}/work", patterns)
    return {entry.path: entry for entry in bundle.decode(found.manifest).entries}


def test_a_tree_as_it_is(left: Path) -> None:
    (left / "left" / "empty").mkdir()
    (left / "left" / "go").write_bytes(b"x" * ((1 << 20) + 1))
    (left / "left" / "go").chmod(0o755)
    (left / "left" / "near").symlink_to("go")
    (left / "left" / "whole").symlink_to(left / "left" / "go")
    os.mkfifo(left / "left" / "pipe")
    found = gathered(left, "")
    assert found.keys() == {"empty", "go", "near", "whole"}
    assert isinstance(found["empty"], Directory)
    assert isinstance(found["go"], File)
    assert (found["go"].size, len(found["go"].blobs), found["go"].executable) == (
        (1 << 20) + 1,
        2,
        True,
    )
    assert found["near"] == Link("near", "go")
    assert found["whole"] == Link("whole", "go"), "a whole path is shortened, while it stays inside"


def test_paths_and_patterns_of_the_work_directory(left: Path) -> None:
    for name in ("results/a.csv", "results/b.txt", ".hidden/c.csv"):
        (left / "work" / name).write_text("x")
    assert gathered(left, "results/*.csv").keys() == {"results/a.csv"}
    assert gathered(left, "**/*.csv").keys() == {"results/a.csv", ".hidden/c.csv"}
    assert gathered(left, "results").keys() == {"results/a.csv", "results/b.txt"}
    assert gathered(left, "*.nothing") == {}
    with pytest.raises(Failed, match="there is no nothing"):
        gathered(left, "nothing")


def test_no_link_leads_out(left: Path) -> None:
    (left / "work" / "out").symlink_to(left)
    assert gathered(left, "out/secret", "out/*") == {}, "not through one"
    for pattern in ("out", "o*"):
        with pytest.raises(InvalidSpec, match="is a link to"):
            gathered(left, pattern)
