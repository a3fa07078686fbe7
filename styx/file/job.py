"""The document of a task file → the body of `POST /api/v1/jobs`, or, with `schedule`, of
`PUT /api/v1/schedules/NAME`.

One file is one job. Without `tasks` its keys are one task; with `tasks`, what is not the job's own is a
default of every task.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple, cast

from styx.core import fields, form, model, schedule
from styx.core.fields import SCHEDULE, Field
from styx.core.schedule import Schedule
from styx.core.spec import JobSpec
from styx.errors import FieldError, InvalidSpec
from styx.file.document import Document, refusal

OF_A_JOB: Final = frozenset(model.ScheduledJobForm.__struct_fields__)
OF_ITS_JOB: Final = frozenset({"on", SCHEDULE})  # of what a task that stands alone says
OF_A_TASK: Final = frozenset(model.TaskForm.__struct_fields__)
SCHEMA: Final = "$schema"  # a file of JSON names its schema so, for the editor
# A task that all others need cannot need itself; the bound of an array is of that array.
NO_DEFAULT: Final = frozenset({"needs", "parallel"})
MERGED: Final = frozenset(
    {"env", "resources"}
)  # key by key; of the rest the task's own value counts
_ALTERNATIVES: Final = (
    ("command", "run"),
    ("run", "command"),
    ("run", "args"),
    ("array", "matrix"),
    ("matrix", "array"),
)
_ALONE: Final = "tasks[0]"


class Job(NamedTuple):
    """`body` is what the server takes; `find` says where in the file a path of it was written."""

    body: dict[str, Any]
    find: Callable[[str], tuple[Document, str]]

    @property
    def is_scheduled(self) -> bool:
        return SCHEDULE in self.body

    @property
    def schedule(self) -> Schedule | None:
        """Of a body that was checked."""
        return schedule.read(self.body[SCHEDULE]) if self.is_scheduled else None

    def at_once(self, moment: str) -> "Job":
        """The same without its schedule, as if it were due then; one without a schedule is as it is."""
        if not self.is_scheduled:
            return self
        body = {key: value for key, value in self.body.items() if key != SCHEDULE}
        _set(body["tasks"], {schedule.DUE_VARIABLE: moment})
        return self._replace(body=body)

    def with_secrets(self, secrets: Mapping[str, str]) -> "Job":
        """The same, whose tasks all get these secrets, too, whatever the file says."""
        for task in _each(self.body["tasks"]):
            given: object = task.get("secrets") or []
            if isinstance(given, list):
                given = {str(name): name for name in cast("list[object]", given)}
            if isinstance(given, dict):  # else it is the check's to refuse
                task["secrets"] = {**cast("dict[str, object]", given), **secrets}
        return self

    def check(self) -> JobSpec:
        """Without a server. Raises: InvalidSpec, with line and column."""
        try:
            return (
                form.check_scheduled(self.body).job
                if self.is_scheduled
                else form.check_job(self.body)
            )
        except InvalidSpec as error:
            raise self.refused(error) from error

    def refused(self, error: InvalidSpec) -> InvalidSpec:
        """What is wrong with the body, as wrong in the file."""
        found = [(*self.find(field.path), field) for field in error.errors]
        return refusal(self.find("")[0].name, found, error)


def of(document: Document, *, env: Mapping[str, str] | None = None) -> Job:
    """`env` is set for every task, whatever the file says. Raises: InvalidSpec."""
    written = {key: value for key, value in _content(document).items() if key != SCHEMA}
    if "tasks" in written:
        body = _with_defaults(document, written)
    else:
        task = {key: value for key, value in written.items() if key not in OF_ITS_JOB}
        body = {key: value for key, value in written.items() if key in OF_ITS_JOB}
        body |= {"name": written.get("name"), "tasks": [task]}
    if body.get(SCHEDULE) is None:
        body.pop(SCHEDULE, None)
    if env:
        _set(body["tasks"], env)

    def find(path: str) -> tuple[Document, str]:
        return document, _written_at(document, path)

    return Job(body, find)


def _written_at(document: Document, path: str) -> str:
    """A default stands beside `tasks`, and a task alone has no `tasks` above it."""
    written = _content(document)
    if "tasks" not in written:
        return path.removeprefix(_ALONE).lstrip(".")
    if path in document.places:
        return path
    for key in _names(written["tasks"]):
        default = path.removeprefix(f"tasks.{key}.")
        if default != path and default.partition(".")[0].partition("[")[0] in written:
            return default
    return path


def _content(document: Document) -> dict[str, Any]:
    return cast("dict[str, Any]", document.content)


def _with_defaults(document: Document, written: dict[str, Any]) -> dict[str, Any]:
    defaults = {key: value for key, value in written.items() if key not in OF_A_JOB}
    job = {key: value for key, value in written.items() if key in OF_A_JOB}
    if wrong := list(_no_defaults(defaults)):
        error = InvalidSpec("", *wrong)
        raise document.located(error)
    tasks: Any = written["tasks"]
    if isinstance(tasks, dict):
        named = cast("dict[object, object]", tasks)
        job["tasks"] = {key: _filled(task, defaults) for key, task in named.items()}
    elif isinstance(tasks, list):
        job["tasks"] = [_filled(task, defaults) for task in cast("list[object]", tasks)]
    return job


def _no_defaults(defaults: dict[str, Any]) -> Iterable[FieldError]:
    """Of the keys beside `tasks`, what is neither a job's nor may be every task's."""
    known = {key: Field(key, _as_it_is) for key in (OF_A_TASK | OF_A_JOB) - NO_DEFAULT}
    for key in NO_DEFAULT & defaults.keys():
        yield FieldError(key, "belongs to one task: every other key beside `tasks` is for all")
    errors: list[FieldError] = []
    others = {key: value for key, value in defaults.items() if key not in NO_DEFAULT}
    fields.read(others, known, errors)
    yield from errors


def _as_it_is(value: object) -> object:
    return value


def _filled(task: object, defaults: dict[str, Any]) -> object:
    if not defaults:
        return dict(cast("dict[str, Any]", task)) if isinstance(task, dict) else task
    if task is not None and not isinstance(task, dict):
        return task
    own = cast("dict[str, Any]", task or {})
    filled = {**defaults, **{key: value for key, value in own.items() if value is not None}}
    for given, other in _ALTERNATIVES:
        if own.get(given) is not None and own.get(other) is None:
            filled.pop(other, None)
    for key in MERGED & own.keys() & defaults.keys():
        below, above = defaults[key], own[key]
        if isinstance(below, dict) and isinstance(above, dict):
            filled[key] = {**below, **above}
    return filled


def _each(tasks: object) -> Iterable[dict[str, Any]]:
    """The tasks that are objects: what is none is left for the check to refuse."""
    if isinstance(tasks, dict):
        tasks = list(cast("dict[object, object]", tasks).values())
    for task in cast("list[object]", tasks) if isinstance(tasks, list) else ():
        if isinstance(task, dict):
            yield cast("dict[str, Any]", task)


def _set(tasks: object, env: Mapping[str, str]) -> None:
    for task in _each(tasks):
        given: object = task.get("env") or {}
        if isinstance(given, dict):
            task["env"] = {**cast("dict[str, Any]", given), **env}


def _names(tasks: object) -> Iterable[object]:
    return cast("dict[object, object]", tasks) if isinstance(tasks, dict) else ()
