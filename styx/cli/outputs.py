"""`styx outputs`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click
import msgspec

from styx.cli import names, options, render, session, talk
from styx.cli.render import Column
from styx.errors import InvalidSpec, NotFound
from styx.sdk.client import Styx
from styx.wire import http as wire
from styx.wire import parcel


class Row(msgspec.Struct, frozen=True):
    task: str
    path: str
    size: int


COLUMNS: Final = (
    Column("TASK", lambda row: row.task),
    Column("PATH", lambda row: row.path, elastic=True),
    Column("BYTES", lambda row: f"{row.size:,}", right=True),
)


@click.command()
@options.reference
@click.argument("directory", required=False, type=click.Path(path_type=Path, file_okay=False))
@click.option("--force", is_flag=True, help="Write over files that are there.")
@options.output
def outputs(reference: str, directory: Path | None, force: bool, output: str) -> None:
    """List what a task has left; with DIRECTORY, bring it there.

    A task leaves what it writes below $STYX_OUTPUT_DIR, and what its `outputs` name. Of a job, each task's is
    below its name.
    """
    with session.connect() as styx:
        found = names.find(styx, reference)
        if isinstance(found, wire.JobView):
            tasks = [row for row in styx.tasks(job=found.id) if row.status == "succeeded"]
            left = list(_left(styx, tasks[::-1]))  # the list has the newest first
            places = {task.id: task.name for task, _ in left}
        else:
            left = [(found, styx.outputs(found.id))]
            places = {found.id: ""}
        if directory is None:
            rows = [Row(task.name, *_file(each)) for task, what in left for each in what.files]
            render.rows(rows, COLUMNS, output, name=lambda row: row.path)
            return
        for task, what in left:
            _bring(styx, task, directory / places[task.id], force=force)
            said = f"{len(what.files):,} files, {what.size:,} bytes"
            talk.say(f"{task.name}: {said}, in {directory / places[task.id]}")


def _left(
    styx: Styx, tasks: list[wire.TaskView]
) -> Iterator[tuple[wire.TaskView, parcel.OutputsView]]:
    for task in tasks:
        try:
            yield task, styx.outputs(task.id)
        except NotFound:
            continue


def _file(view: parcel.OutputView) -> tuple[str, int]:
    return view.path, view.size


def _bring(styx: Styx, task: wire.TaskView, to: Path, *, force: bool) -> None:
    try:
        styx.download(task.id, to, force=force)
    except OSError as error:
        raise InvalidSpec(f"{error.filename or to}: {error.strerror}") from error
