"""A file of SkyPilot's → a job of Styx: one task, a pipeline (each after the one before), or a group."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, cast

from styx.errors import FieldError, InvalidSpec
from styx.file.document import Document
from styx.file.job import Job
from styx.sky import fate, task
from styx.sky.notes import Note, Notes
from styx.sky.shape import HEADER, misfits
from styx.sky.task import Translated

GROUP_VARIABLE: Final = "SKYPILOT_JOBGROUP_NAME"
_PLACE: Final = re.compile(r"tasks\[(\d+)\]\.?(.*)")
_WRITTEN: Final = {
    "env": "envs",
    "files": "file_mounts",
    "labels": "resources.labels",
    "resources.gpus": "resources.accelerators",
    "resources.disk": "resources.disk_size",
}


class Pipeline(NamedTuple):
    name: str
    tasks: Sequence[Translated]
    notes: Sequence[Notes]

    @property
    def warnings(self) -> list[Note]:
        return [note for notes in self.notes for note in notes.warned]

    @property
    def needed(self) -> list[Note]:
        return [note for notes in self.notes for note in notes.needed]

    @property
    def refused(self) -> list[Note]:
        return [note for notes in self.notes for note in notes.refused]

    def body(self, *, later: bool = False) -> dict[str, Any]:
        """For `POST /api/v1/jobs`; with `later`, what Styx does not understand yet, too."""
        tasks = [made.fields | (made.later if later else {}) for made in self.tasks]
        return {"name": self.name or None, "tasks": tasks}

    def job(self, *, to_run: bool = True) -> Job:
        """`to_run`: with all that is needed for that. Raises: InvalidSpec, when it would not be what SkyPilot runs."""
        raise_for(self.refused + (self.needed if to_run else []))
        return Job(self.body(), self._find)

    def _find(self, path: str) -> tuple[Document, str]:
        match = _PLACE.fullmatch(path)
        if not match or int(match[1]) >= len(self.tasks):
            return self.tasks[0].document, path
        written = match[2]
        for ours, theirs in _WRITTEN.items():
            if written == ours or written.startswith(f"{ours}."):
                written = theirs + written.removeprefix(ours)
        return self.tasks[int(match[1])].document, written


def read(documents: Sequence[Document], env: Mapping[str, str]) -> Pipeline:
    """Raises: InvalidSpec, for what SkyPilot would not take either."""
    some = [document for document in documents if document.content is not None]
    for document in some or documents[:1]:
        if not isinstance(document.content, dict):
            where = document.where()
            raise InvalidSpec(f"{where}: expected a task of SkyPilot: an object with `run`")
    header, bodies = _split(some)
    tasks = [task.translate(document, env) for document in bodies]
    notes = [made.notes for made in tasks]
    name, group = "", False
    if header:
        of_header = Notes(header)
        notes.insert(0, of_header)
        name, group = _header(of_header, cast("dict[str, Any]", header.content))
    raise_for([note for each in notes for note in each.wrong])
    if len(tasks) == 1 and not group:
        name = name or tasks[0].fields.get("name") or "task"
        tasks[0].fields.setdefault("name", name)
    else:
        _connect(tasks, name, group=group)
    return Pipeline(name, tasks, notes)


def raise_for(notes: Sequence[Note]) -> None:
    """Raises: InvalidSpec, if there are any."""
    if notes:
        errors = [FieldError(note.where, note.message) for note in notes]
        raise InvalidSpec(f"{errors[0].path}: {errors[0].message}", *errors)


def _split(documents: Sequence[Document]) -> tuple[Document | None, Sequence[Document]]:
    """The header, if there is one, and the tasks."""
    first = set(cast("dict[str, Any]", documents[0].content))
    if len(documents) > 1 and "name" in first and first <= HEADER.keys():
        return documents[0], documents[1:]
    return None, documents


def _header(notes: Notes, given: dict[str, Any]) -> tuple[str, bool]:
    notes.are_wrong(misfits(HEADER, given))
    if notes.wrong:
        return "", False
    group = given.get("execution") == "parallel"
    for key, value in given.items():
        fated = fate.HEADER[key]
        if value and fated.kind is not fate.Kind.TAKEN:
            notes.befalls(key, fated)
    if group:
        notes.warn("execution", fate.GROUP)
    return str(given.get("name") or ""), group


def _connect(tasks: Sequence[Translated], job: str, *, group: bool) -> None:
    taken: set[str] = set()
    before = ""
    for index, made in enumerate(tasks):
        base = made.fields.get("name") or f"{job or 'task'}-{index}"
        name = next(word for word in _numbered(base) if word not in taken)
        taken.add(name)
        made.fields["name"] = name
        if group:
            made.fields["env"] = {**made.fields.get("env", {}), GROUP_VARIABLE: job}
        elif before:
            made.fields["needs"] = [before]
        before = name


def _numbered(base: str) -> Iterator[str]:
    yield base
    number = 1
    while True:
        number += 1
        yield f"{base[:120]}-{number}"
