"""What a file of tasks sends along: what its tasks name is packed, sent, and replaced by the bundles' ids."""

import posixpath
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from styx import config
from styx.cli import commands, main, talk
from styx.core import fields
from styx.errors import FieldError, InvalidSpec
from styx.sdk.client import Styx
from styx.sdk.fields import has_directory

if TYPE_CHECKING:  # `run` of a command reads no file
    from styx.cli.files import Loaded

STAND_IN: Final = "0" * 64  # for a bundle, where nothing is sent
INSIDE: Final = ""  # the work directory of the task; else `fields.PLACES`


class Wish(NamedTuple):
    """A file or directory of this machine, where it goes, and the field that says so."""

    source: Path
    to: str
    field: str


Pack = Callable[[tuple[tuple[Path, str], ...]], str]


def fill(styx: Styx, loaded: "Loaded", *, sent: bool) -> None:
    """Put bundles in the place of what is this machine's, relative to the file. They are `sent` unless
    nobody is going to run it. Raises: InvalidSpec, with the place in the file.
    """
    _fill(loaded, lambda sources: of(styx, *sources, sent=sent))


def check(loaded: "Loaded") -> None:
    """As `fill`, without a server: what is named is there. Raises: InvalidSpec."""

    def look(sources: tuple[tuple[Path, str], ...]) -> str:
        for source, _ in sources:
            if not source.exists():
                raise InvalidSpec(f"{source}: No such file or directory")
        return STAND_IN

    _fill(loaded, look)


def stand_here(loaded: "Loaded") -> None:
    """On this machine's own server tasks run where the user stands, as a shell's commands do, unless they
    say where.
    """
    for _, task in _tasks(loaded.job.body):
        if task.get("workdir") is None and not has_directory(task):
            task["workdir"] = str(Path.cwd())


def of(styx: Styx, *sources: tuple[Path, str], sent: bool) -> str:
    """The id of a bundle of these, each with where in it it goes; `sent`, once the server has it."""
    sending = main.load(commands.SEND if sent else commands.IDENTIFY)
    source = main.load(commands.SOURCE)
    caches = config.load().config.home_path / "cache" / "files"
    with talk.passing(f"reading {sources[0][0]} …"):
        progress = {"tell": talk.status_line} if talk.interactive() else {}
        return sending(styx, [source(path, to) for path, to in sources], caches, **progress)


def _fill(loaded: "Loaded", pack: Pack) -> None:
    ids: dict[tuple[tuple[Path, str], ...], str] = {}
    for place, task in _tasks(loaded.job.body):
        try:
            wishes = _wishes(task, loaded.base)
        except InvalidSpec as error:
            raise loaded.job.refused(_at(place, error)) from error
        made: dict[str, str] = {}
        for anchor, wanted in wishes.items():
            sources = tuple((wish.source, wish.to) for wish in wanted)
            if sources not in ids:
                try:
                    ids[sources] = pack(sources)
                except InvalidSpec as error:
                    wrong = FieldError(wanted[-1].field, error.message)
                    found = InvalidSpec(error.message, wrong, hint=error.hint)
                    raise loaded.job.refused(_at(place, found)) from error
            made[anchor] = ids[sources]
        if wishes:
            _replace(task, {wish.field for each in wishes.values() for wish in each}, made)


def _wishes(task: Mapping[str, Any], base: Path) -> dict[str, list[Wish]]:
    """By what they are laid over. Raises: InvalidSpec; what is of no use is left for the check to refuse."""
    wishes: dict[str, list[Wish]] = {}
    workdir: object = task.get("workdir")
    if isinstance(workdir, str) and workdir and not fields.is_of_agent(workdir):
        wishes[INSIDE] = [Wish(_local(base, workdir), "", "workdir")]
        workdir = None
    given: object = task.get("files")
    for to, source in cast(
        "dict[object, object]", given if isinstance(given, dict) else {}
    ).items():
        if not isinstance(to, str) or not isinstance(source, str) or to in fields.PLACES:
            continue
        if "://" in source:
            continue  # the agent fetches it
        path = _local(base, source)
        full = f"{to}{path.name}" if to.endswith("/") and path.is_file() else to
        if isinstance(workdir, str) and not fields.is_of_agent(full):
            full = f"{workdir}/{full}"
        anchor, inside = _split(full, f"files.{to}")
        wishes.setdefault(anchor, []).append(Wish(path, inside, f"files.{to}"))
    return wishes


def _split(destination: str, field: str) -> tuple[str, str]:
    """What it is laid over, and where. Raises: InvalidSpec."""
    anchor = destination[0] if fields.is_of_agent(destination) else INSIDE
    inside = posixpath.normpath(destination[len(anchor) :].lstrip("/") or ".")
    if inside == ".." or inside.startswith("../"):
        wrong = FieldError(
            field, "a destination lies in the work directory, or begins with / or ~/"
        )
        raise InvalidSpec(wrong.message, wrong)
    return anchor, "" if inside == "." else inside


def _local(base: Path, path: str) -> Path:
    return (base / Path(path).expanduser()).resolve()


def _replace(task: dict[str, Any], met: set[str], made: dict[str, str]) -> None:
    """The fields that are met make room for the bundles."""
    if "workdir" in met:
        del task["workdir"]
    if INSIDE in made:
        task["bundle"] = made.pop(INSIDE)
    given: object = task.pop("files", None)
    files = cast("dict[str, Any]", given if isinstance(given, dict) else {})
    left = {to: source for to, source in files.items() if f"files.{to}" not in met}
    if left or made:
        task["files"] = left | made


def _tasks(body: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Those that are objects, each with its path: what is none is left for the check to refuse."""
    given = body.get("tasks")
    if isinstance(given, dict):
        named = [(f"tasks.{name}", task) for name, task in cast("dict[Any, object]", given).items()]
    elif isinstance(given, list):
        named = [(f"tasks[{n}]", task) for n, task in enumerate(cast("list[object]", given))]
    else:
        named = []
    for path, task in named:
        if isinstance(task, dict):
            yield path, cast("dict[str, Any]", task)


def _at(place: str, error: InvalidSpec) -> InvalidSpec:
    """The same of one task, seen from its job."""
    errors = [FieldError(f"{place}.{e.path}", e.message) for e in error.errors]
    return InvalidSpec(error.message, *errors, hint=error.hint)
