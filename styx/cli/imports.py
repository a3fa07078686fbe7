"""`styx import`: files of other programs, rewritten as files of Styx. Nothing in them is run."""

from pathlib import Path

import click

from styx.cli import exits, files, options, render, talk
from styx.errors import InvalidSpec
from styx.file import read
from styx.sky import rewrite


@click.group("import")
def imports() -> None:
    """Rewrite files of other programs as files of Styx."""


@imports.command()
@click.argument("paths", metavar="FILE…", nargs=-1, required=True, type=click.Path(allow_dash=True))
@click.option("-e", "--env", type=options.PAIR, multiple=True, help="A variable of every task.")
@click.option(
    "--to",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write each into this directory, under its own name; else one is printed.",
)
def sky(paths: tuple[str, ...], env: tuple[tuple[str, str], ...], folder: Path | None) -> int:
    """Rewrite each FILE of SkyPilot's (- is standard input), and say what could not be.

    Exit code 1 if something was left out without which a task is not the same; 2 if a file is none of
    SkyPilot's: it is not written.
    """
    if folder is None and len(paths) > 1:
        raise click.UsageError("several files need a directory: --to DIR")
    if folder is not None and len({Path(path).name for path in paths}) < len(paths):
        raise click.UsageError("two of the files have the same name, and would be one in --to")
    return max(_rewritten(path, dict(env), folder) for path in paths)


def _rewritten(path: str, env: dict[str, str], folder: Path | None) -> int:
    try:
        found = files.skypilots(path, env)
    except InvalidSpec as error:
        talk.failure(error)
        return exits.USAGE
    for note in [*found.refused, *found.warnings]:
        talk.warn(f"{note.where}: {note.message}")
    text = rewrite.rewrite(found, read.STDIN_NAME if path == read.STDIN else path)
    if folder is None:
        render.line(text)
    else:
        _put(folder / Path(path).with_suffix(".yaml").name, text)
    return exits.NO if found.refused else exits.FINE


def _put(target: Path, text: str) -> None:
    """Never over a file that is there."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("x", encoding="utf-8") as file:
            file.write(text + "\n")
    except OSError as error:
        raise InvalidSpec(f"{target}: {error.strerror}") from error
    render.line(str(target))
