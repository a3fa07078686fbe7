"""Git repositories that a file names as work directories: fetched here, by the user's own git, to be sent.

Only the one commit, without its history, its submodules and what git LFS keeps elsewhere.
"""

import contextlib
import os
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Final, NamedTuple, Self

from styx.cli import talk
from styx.core.repository import REF, Repository
from styx.errors import InvalidSpec

MOST_S: Final = 600.0
MOST_BYTES: Final = 4 << 30  # on this disk; what is sent has the server's own bound
LOOK_S: Final = 0.5
# Of whoever calls us, a hook of git perhaps: they would lead into another repository.
_OTHERS: Final = frozenset(
    f"GIT_{name}"
    for name in (
        *("DIR", "WORK_TREE", "INDEX_FILE", "OBJECT_DIRECTORY", "COMMON_DIR", "NAMESPACE"),
        *("PREFIX", "ALTERNATE_OBJECT_DIRECTORIES"),
    )
)
_OURS: Final = {
    "GIT_TERMINAL_PROMPT": "0",  # nobody may be there to answer
    "GIT_ALLOW_PROTOCOL": "https:ssh:file",  # wherever a redirection leads
    "GIT_LFS_SKIP_SMUDGE": "1",
    "LC_ALL": "C",  # its errors are read here
}
_SETTINGS: Final = ("-c", "core.hooksPath=/dev/null", "-c", "submodule.recurse=false")
_NO_REF: Final = ("couldn't find remote ref", "not our ref", "unadvertised object")
_NO_REPOSITORY: Final = ("not found", "does not exist", "not appear to be a git repository")


class Clone(NamedTuple):
    path: Path
    commit: str


class Clones:
    """Each repository once; they are gone at the exit."""

    def __init__(self) -> None:
        self._made: dict[Repository, Clone] = {}
        self._directory = tempfile.TemporaryDirectory(prefix="styx-git-")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._directory.cleanup()

    @property
    def caches(self) -> Path:
        """Of what was read of them: of no use to another submit."""
        return Path(self._directory.name) / "cache"

    def of(self, repository: Repository) -> Clone:
        """Raises: InvalidSpec."""
        if repository not in self._made:
            path = Path(self._directory.name) / str(len(self._made))
            with talk.passing(f"fetching {repository} …"):
                self._made[repository] = _fetch(repository, path)
        return self._made[repository]


def _fetch(repository: Repository, path: Path) -> Clone:
    until = time.monotonic() + MOST_S
    path.mkdir()
    for words in (
        ("init", "--quiet", "--template="),
        (
            *("fetch", "--quiet", "--depth=1", "--no-tags", "--no-recurse-submodules"),
            *("--", repository.url, repository.ref or "HEAD"),
        ),
        ("checkout", "--quiet", "--detach", "FETCH_HEAD"),
    ):
        _git(repository, path, words, until)
    return Clone(path, _git(repository, path, ("rev-parse", "HEAD"), until).strip())


def _git(repository: Repository, path: Path, words: tuple[str, ...], until: float) -> str:
    """What it prints. In a session of its own it has no terminal to ask, and ends with all its children.

    Raises: InvalidSpec.
    """
    env = {key: value for key, value in os.environ.items() if key not in _OTHERS} | _OURS
    try:
        process = subprocess.Popen(
            ["git", *_SETTINGS, *words],
            cwd=path, env=env, start_new_session=True, text=True, errors="replace",
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
    except OSError as error:
        raise InvalidSpec(
            f"git cannot be run here ({error.strerror}), and has to fetch {repository}",
            hint="install git, or name a directory of this machine",
        ) from error
    try:
        printed, said = _ended(process, repository, path, until)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if process.returncode:
        raise _failure(repository, said)
    return printed


def _ended(
    process: "subprocess.Popen[str]", repository: Repository, path: Path, until: float
) -> tuple[str, str]:
    """Its stdout and stderr. Raises: InvalidSpec, when it takes too long or too much."""
    while True:
        try:
            return process.communicate(timeout=LOOK_S)
        except subprocess.TimeoutExpired:
            if time.monotonic() > until:
                raise InvalidSpec(f"{repository} is not fetched after {MOST_S:.0f} s") from None
            if _size(path) > MOST_BYTES:
                raise InvalidSpec(
                    f"{repository} takes more than {MOST_BYTES >> 30} GiB",
                    hint="clone it in `run`, on the agent's machine",
                ) from None


def _size(top: Path) -> int:
    """Of files that come and go."""
    size = 0
    for directory, _, names in os.walk(top):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                size += (Path(directory) / name).lstat().st_size
    return size


def _failure(repository: Repository, said: str) -> InvalidSpec:
    lines = said.strip().splitlines()
    if any(words in said for words in _NO_REF):
        return InvalidSpec(
            f"{repository.url} has no {repository.ref or 'default branch'}", hint=f"`ref` is {REF}"
        )
    last = next((line for line in lines if line.startswith("fatal: ")), "fatal: it says nothing")
    hint = "can `git ls-remote` of the same address read it here?"
    if any(words in said for words in _NO_REPOSITORY):
        return InvalidSpec(f"no git repository at {repository.url}, or none to you", hint=hint)
    return InvalidSpec(f"{repository} is not fetched: {last.removeprefix('fatal: ')}", hint=hint)
