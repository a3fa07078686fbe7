"""`styx validate` and `styx schema`: about files of tasks, without a server."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click
import msgspec

from styx.cli import exits, files, options, parcels, render, schedules
from styx.errors import FieldError, InvalidSpec
from styx.file import read
from styx.file import schema as json_schema
from styx.file.document import ENDINGS

REFUSED: Final = exits.USAGE
SHOWN: Final = 3  # due times


class Verdict(msgspec.Struct, omit_defaults=True):
    """What became of one file; findings begin with `FILE:LINE:COLUMN`."""

    file: str
    verdict: str  # accepted, warned, refused; in a directory also other: no file of tasks
    kind: str = ""  # skypilot, when it is one of SkyPilot's
    job: str = ""
    tasks: int = 0
    warnings: list[str] = []
    errors: list[FieldError] = []
    upcoming: list[datetime] = []  # due times of a schedule

    @property
    def reason(self) -> str:
        """The first finding, and how many more there are."""
        found = [f"{error.path}: {error.message}" for error in self.errors] or self.warnings
        first = found[0].removeprefix(self.file).lstrip(":") if found else ""
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        return first.strip() + more


COLUMNS: Final = (
    render.Column("FILE", lambda v: v.file),
    render.Column("VERDICT", lambda v: v.verdict),
    render.Column("TASKS", lambda v: str(v.tasks or "–"), right=True),
    render.Column("REASON", lambda v: v.reason, elastic=True),
)


@click.command()
@click.argument("paths", metavar="FILE…", nargs=-1, required=True, type=click.Path(allow_dash=True))
@click.option("-e", "--env", type=options.PAIR, multiple=True, help="A variable of every task.")
@options.sky
@click.option("--table", is_flag=True, help="One line a file, and how many of each verdict.")
@options.output
def validate(
    paths: tuple[str, ...],
    env: tuple[tuple[str, str], ...],
    sky: bool,
    table: bool,
    output: str,
) -> int:
    """Say what is wrong with each FILE of tasks (- is standard input); of a directory, with all in it.

    Needs no server and runs nothing. Exit code 2 if a file is refused.
    """
    verdicts = [
        (path != given and _other(path)) or judge(path, dict(env), sky=sky)
        for given in paths
        for path in _files(given)
    ]
    if output != "table" or table:
        render.rows(verdicts, COLUMNS, output, name=lambda v: v.file)
    else:
        for line in (line for verdict in verdicts for line in _lines(verdict)):
            render.line(line)
    if table and output == "table":
        counts = {word: sum(v.verdict == word for v in verdicts) for word in _VERDICTS}
        render.line(", ".join(f"{count} {word}" for word, count in counts.items()))
    return REFUSED if any(verdict.errors for verdict in verdicts) else exits.FINE


@click.command()
def schema() -> None:
    """Print the JSON Schema of a task file, for editors and checks of your own."""
    render.value(json_schema.schema(), "json")


def judge(path: str, env: dict[str, str], *, sky: bool = False) -> Verdict:
    name = read.STDIN_NAME if path == read.STDIN else path
    try:
        loaded = files.load(path, env=env, sky=sky, to_run=False)
        parcels.check(loaded)
        spec = loaded.job.check()
    except InvalidSpec as error:
        return Verdict(name, "refused", errors=list(error.errors) or [_whole(error)])
    verdict = "warned" if loaded.warnings else "accepted"
    kind = "skypilot" if loaded.sky else ""
    when = loaded.job.schedule
    upcoming = when.upcoming(datetime.now(UTC), SHOWN) if when else []
    warnings = list(loaded.warnings)
    return Verdict(name, verdict, kind, spec.name, spec.width, warnings, upcoming=upcoming)


def _whole(error: InvalidSpec) -> FieldError:
    """Of a file that has no fields at all; its message begins with its name."""
    where, colon, message = error.message.partition(": ")
    return FieldError(where, message) if colon else FieldError("", where)


def _other(path: str) -> Verdict | None:
    """Only of what was found in a directory: nobody said that it is a file of tasks."""
    try:
        return None if files.is_of_tasks(path) else Verdict(path, "other")
    except InvalidSpec:
        return None


def _files(given: str) -> list[str]:
    if given == read.STDIN or not Path(given).is_dir():
        return [given]
    return sorted(str(path) for path in Path(given).rglob("*") if path.suffix in ENDINGS)


def _lines(verdict: Verdict) -> list[str]:
    lines = [f"{error.path}: error: {error.message}" for error in verdict.errors]
    lines += [f"{text} (warning)" for text in verdict.warnings]
    if not verdict.errors:
        tasks = "1 task" if verdict.tasks == 1 else f"{verdict.tasks:,} tasks"
        kind = " (SkyPilot's)" if verdict.kind else ""
        lines.append(f"{verdict.file}{kind}: {verdict.verdict}: job {verdict.job}, {tasks}")
        lines += schedules.upcoming(verdict.upcoming)
    return lines


_VERDICTS: Final = ("accepted", "warned", "refused", "other")
