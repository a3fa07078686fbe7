"""What a file of tasks sends along: what its tasks name is packed, sent, and replaced by the bundles' ids."""

import contextlib
import posixpath
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from styx import config
from styx.cli import commands, main, talk
from styx.core import fields, repository
from styx.core.repository import Repository
from styx.core.units import Expected
from styx.errors import FieldError, InvalidSpec
from styx.sdk.client import Styx
from styx.sdk.fields import has_directory

if TYPE_CHECKING:  # `run` of a command reads no file
    from styx.cli.clones import Clones
    from styx.cli.files import Loaded

STAND_IN: Final = "0" * 64  # for a bundle, where nothing is sent
NOWHERE: Final = Path()  # a repository that is not fetched, where nothing is sent
INSIDE: Final = ""  # the work directory of the task; else `fields.PLACES`


class Wish(NamedTuple):
    """A file or directory of this machine, where it goes, and the field that says so; the `commit` that it is
    of, if it was fetched for this.
    """

    source: Path
    to: str
    field: str
    commit: str = ""


Sources = tuple[tuple[Path, str, bool], ...]  # as `sdk.pack.Source` has them
Pack = Callable[[Sources], str]
Fetch = Callable[[Repository], tuple[Path, str]]  # where it is by now, and its commit


def fill(styx: Styx, loaded: "Loaded", *, sent: bool) -> None:
    """Put bundles in the place of what is this machine's, relative to the file. They are `sent` unless
    nobody is going to run it. Raises: InvalidSpec, with the place in the file.
    """
    with contextlib.ExitStack() as until_sent:
        made: list[Clones] = []

        def fetch(wanted: Repository) -> tuple[Path, str]:
            if not sent:
                talk.say(f"{wanted} is not fetched now: `submit` does, and sends its files")
                return NOWHERE, ""
            if not made:
                made.append(until_sent.enter_context(main.load(commands.CLONES)()))
            return made[0].of(wanted)

        def pack(sources: Sources) -> str:
            if any(path == NOWHERE for path, _, _ in sources):
                return STAND_IN
            fetched = any(tracked for _, _, tracked in sources)
            return of(styx, *sources, sent=sent, caches=made[0].caches if fetched else None)

        _fill(loaded, fetch, pack)


def check(loaded: "Loaded") -> None:
    """As `fill`, without a server: what is named is there. Raises: InvalidSpec."""

    def look(sources: Sources) -> str:
        for source, _, _ in sources:
            if not source.exists():
                raise InvalidSpec(f"{source}: No such file or directory")
        return STAND_IN

    _fill(loaded, lambda _: (NOWHERE, ""), look)


def stand_here(loaded: "Loaded") -> None:
    """On this machine's own server tasks run where the user stands, as a shell's commands do, unless they
    say where.
    """
    for _, task in _tasks(loaded.job.body):
        if task.get("workdir") is None and not has_directory(task):
            task["workdir"] = str(Path.cwd())


def of(styx: Styx, *sources: tuple[Path, str, bool], sent: bool, caches: Path | None = None) -> str:
    """The id of a bundle of these, each with where in it it goes; `sent`, once the server has it."""
    sending = main.load(commands.SEND if sent else commands.IDENTIFY)
    source = main.load(commands.SOURCE)
    caches = caches or config.load().config.home_path / "cache" / "files"
    with talk.passing(f"reading {sources[0][0]} …"):
        progress = {"tell": talk.status_line} if talk.interactive() else {}
        return sending(styx, [source(*each) for each in sources], caches, **progress)


def _fill(loaded: "Loaded", fetch: Fetch, pack: Pack) -> None:
    ids: dict[Sources, str] = {}
    for place, task in _tasks(loaded.job.body):
        try:
            wishes = _wishes(task, loaded.base, fetch)
        except InvalidSpec as error:
            raise loaded.job.refused(_at(place, error)) from error
        made: dict[str, str] = {}
        for anchor, wanted in wishes.items():
            sources = tuple((wish.source, wish.to, bool(wish.commit)) for wish in wanted)
            if sources not in ids:
                try:
                    ids[sources] = pack(sources)
                except InvalidSpec as error:
                    wrong = FieldError(wanted[-1].field, error.message)
                    found = InvalidSpec(error.message, wrong, hint=error.hint)
                    raise loaded.job.refused(_at(place, found)) from error
            made[anchor] = ids[sources]
        if wishes:
            met = [wish for each in wishes.values() for wish in each]
            _replace(task, {wish.field for wish in met}, made)
            _label(task, next((wish.commit for wish in met if wish.commit), ""))


def _wishes(task: Mapping[str, Any], base: Path, fetch: Fetch) -> dict[str, list[Wish]]:
    """By what they are laid over. Raises: InvalidSpec; what is of no use is left for the check to refuse."""
    wishes: dict[str, list[Wish]] = {}
    workdir: object = task.get("workdir")
    if isinstance(workdir, str) and workdir and not fields.is_of_agent(workdir):
        wishes[INSIDE] = [Wish(_local(base, workdir), "", "workdir")]
        workdir = None
    elif isinstance(workdir, dict):
        wishes[INSIDE] = [_fetched(cast("object", workdir), fetch)]
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


def _fetched(given: object, fetch: Fetch) -> Wish:
    """Raises: InvalidSpec."""
    try:
        path, commit = fetch(repository.read(given))
    except Expected as error:
        wrong = fields.below("workdir", given, error)
        raise InvalidSpec(wrong[0].message, *wrong) from error
    except InvalidSpec as error:
        wrong = FieldError("workdir", error.message)
        raise InvalidSpec(error.message, wrong, hint=error.hint) from error
    return Wish(path, "", "workdir", commit)


def _label(task: dict[str, Any], commit: str) -> None:
    given: object = task.get("labels") or {}
    if commit and isinstance(given, dict):
        labels = cast("dict[str, Any]", given)
        task["labels"] = {**labels, repository.COMMIT_LABEL: commit}


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
