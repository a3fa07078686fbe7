"""What a file of tasks sends along: the directories of its tasks are packed, sent, and named by their ids."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from styx import config
from styx.cli import commands, main, talk
from styx.cli.files import Loaded
from styx.core import fields
from styx.errors import FieldError, InvalidSpec
from styx.sdk.client import Styx

STAND_IN = "0" * 64  # for a bundle, where nothing is sent


def send(styx: Styx, loaded: Loaded) -> None:
    """Put a bundle in the place of each directory that is this machine's, relative to the file.

    Raises: InvalidSpec, with the place in the file.
    """
    ids: dict[Path, str] = {}
    for place, task in tasks(loaded.job.body):
        if directory := _directory(task, loaded.base):
            if directory not in ids:
                try:
                    ids[directory] = of_directory(styx, directory)
                except InvalidSpec as error:
                    raise loaded.job.refused(_at(f"{place}.workdir", error)) from error
            _replace(task, ids[directory])


def check(loaded: Loaded) -> None:
    """As `send`, without a server: the directories are there. Raises: InvalidSpec."""
    for place, task in tasks(loaded.job.body):
        if directory := _directory(task, loaded.base):
            if not directory.is_dir():
                missing = InvalidSpec(f"no such directory: {directory}")
                raise loaded.job.refused(_at(f"{place}.workdir", missing))
            _replace(task, STAND_IN)


def stand_here(loaded: Loaded) -> None:
    """On this machine's own server tasks run where the user stands, as a shell's commands do, unless they
    say where.
    """
    for _, task in tasks(loaded.job.body):
        if task.get("workdir") is None and task.get("bundle") is None:
            task["workdir"] = str(Path.cwd())


def of_directory(styx: Styx, directory: Path) -> str:
    """The id of its bundle, once the server has it."""
    send, source = main.load(commands.SEND), main.load(commands.SOURCE)
    caches = config.load().config.home_path / "cache" / "files"
    with talk.passing(f"reading {directory} …"):
        tell = talk.status_line if talk.interactive() else str
        return send(styx, [source(directory)], caches, tell=tell)


def tasks(body: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
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


def _directory(task: dict[str, Any], base: Path) -> Path | None:
    workdir: object = task.get("workdir")
    if not isinstance(workdir, str) or not workdir or fields.is_of_agent(workdir):
        return None
    return (base / workdir).resolve()


def _replace(task: dict[str, Any], id_: str) -> None:
    del task["workdir"]
    task["bundle"] = id_


def _at(path: str, error: InvalidSpec) -> InvalidSpec:
    return InvalidSpec(error.message, FieldError(path, error.message), hint=error.hint)
