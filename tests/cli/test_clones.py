"""The work directory of a task is a git repository's: fetched here, sent, and named by its commit."""

import subprocess
from pathlib import Path

import pytest

from tests.support.site import Site

TASK = """\
name: of-git
workdir: {{git: "file://{repository}", ref: {ref}}}
files: {{here.txt: ./here.txt}}
resources: {{cpus: 0.1}}
run: echo $(ls -A) $(cat kept/data.txt)
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """With a file that is tracked although it is ignored; the branch has gone on since the tag."""
    top = tmp_path / "tool"
    (top / "kept").mkdir(parents=True)
    (top / ".gitignore").write_text("kept/\n")
    (top / "kept/data.txt").write_text("first\n")
    git(top, "init", "--quiet")
    git(top, "add", "--force", ".")
    git(top, "commit", "--quiet", "--message=1")
    git(top, "tag", "v1")
    (top / "kept/data.txt").write_text("second\n")
    git(top, "commit", "--quiet", "--all", "--message=2")
    (tmp_path / "here.txt").write_text("here\n")
    return top


def git(top: Path, *words: str) -> str:
    who = ("-c", "user.name=x", "-c", "user.email=x@example.org")
    done = subprocess.run(["git", *who, *words], cwd=top, check=True, capture_output=True)
    return done.stdout.decode().strip()


def written(repository: Path, ref: str) -> Path:
    path = repository.parent / "task.yaml"
    path.write_text(TASK.format(repository=repository, ref=ref))
    return path


def test_what_a_tag_has_is_sent(site: Site, repository: Path) -> None:
    path = written(repository, "v1")
    done = site.cli("run", str(path))
    assert done.stdout == b"of-git | .gitignore here.txt kept first\n", done.stderr
    label = f"styx.git_commit={git(repository, 'rev-parse', 'v1')}"
    assert len(site.cli("tasks", "--label", label, "-o", "name").stdout.split()) == 1
    # A commit is fetched as well as what has a name.
    done = site.cli("run", str(written(repository, git(repository, "rev-parse", "HEAD"))))
    assert done.stdout == b"of-git | .gitignore here.txt kept second\n", done.stderr


def test_what_is_not_there_is_said(site: Site, repository: Path) -> None:
    path = written(repository, "v2")
    done = site.cli("submit", str(path))
    assert done.returncode == 2
    assert f"{path}:2:1: workdir: file://{repository} has no v2" in done.stderr.decode()
    path.write_text(path.read_text().replace("/tool", "/gone"))
    done = site.cli("submit", str(path))
    assert f"no git repository at file://{repository.parent}/gone" in done.stderr.decode()
    # Neither a check nor a plan looks for it.
    assert site.cli("validate", str(path)).returncode == 0
    done = site.cli("submit", "--plan", str(path))
    assert (done.returncode, done.stdout.split()[:1]) == (0, [b"TASK"])
    assert f"file://{repository.parent}/gone at v2 is not fetched now" in done.stderr.decode()
