"""The check that turns what a user wrote (`core.model`) into a `JobSpec`.

`check_…` reads the fields one by one, so that an answer names every one that is wrong and what would be
right. Nothing here is slow enough to matter below some thousand tasks; callers give larger documents
to a thread.
"""

import graphlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, cast

from styx.core import cache, cron, feature, fields, hook, matrix, output, schedule, source, units
from styx.core.fields import Field, Wrong
from styx.core.resources import read as read_resources
from styx.core.schedule import Schedule
from styx.core.secret import given_twice, of_task
from styx.core.spec import (
    EMPTY,
    MAX_EDGES_PER_JOB,
    MAX_NODES,
    MAX_SPECS_PER_JOB,
    MAX_TASKS_PER_JOB,
    Delivery,
    JobSpec,
    Need,
    OnFailure,
    Priority,
    TaskSpec,
)
from styx.core.units import Expected
from styx.errors import FieldError, InvalidSpec

MAX_ERRORS: Final = 50  # of one answer
MAX_RETRIES: Final = 1_000

_TOO_MANY_EDGES: Final = (
    f"{{:,}} edges; a job has at most {MAX_EDGES_PER_JOB:,}, and an array that waits for an array "
    "counts one for every pair: put a task between the two"
)


class Scheduled(NamedTuple):
    """A job, and when it is due."""

    job: JobSpec
    schedule: Schedule


def check_alone(document: object) -> JobSpec:
    """One task that stands alone: a job of its own. Raises: InvalidSpec."""
    return _checked(_alone, document)


def check_batch(document: object) -> JobSpec:
    """A list of tasks, submitted as one job. Raises: InvalidSpec."""
    return _checked(_batch, document)


def check_job(document: object) -> JobSpec:
    """Raises: InvalidSpec."""
    return _checked(_job, document)


def check_scheduled(document: object) -> Scheduled:
    """A job with its `schedule`, which is known by the job's name. Raises: InvalidSpec."""
    return _checked(_scheduled, document)


# --- reading --------------------------------------------------------------------------------------


def _checked(reader: Callable[[object], Any], document: object) -> Any:
    try:
        return reader(document)
    except Wrong as wrong:
        errors = wrong.errors[:MAX_ERRORS]
    first = f"{errors[0].path}: {errors[0].message}" if errors[0].path else errors[0].message
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    raise InvalidSpec(first + more, *errors)


def _alone(document: object) -> JobSpec:
    given = _task(document, _ALONE)
    notify = given.pop("notify", ())
    given.setdefault("name", _default_name(given))
    if needs := given.get("needs"):
        missing = f"a task submitted alone has no other to wait for: {needs[0].task!r} is unknown"
        raise Wrong([FieldError("needs[0]", missing)])
    tasks = cache.keyed([_spec(given)])
    return JobSpec(name=tasks[0].name, tasks=tasks, notify=notify)


def _batch(document: object) -> JobSpec:
    tasks = _listed_tasks(document)
    return JobSpec(name=tasks[0].name, tasks=tasks)


def _job(document: object) -> JobSpec:
    errors: list[FieldError] = []
    return _made(_read_job(document, _JOB, errors), errors)


def _scheduled(document: object) -> Scheduled:
    errors: list[FieldError] = []
    given = _read_job(document, _SCHEDULED, errors)
    when: Schedule | None = given.pop("schedule", None)
    if isinstance(document, dict):
        named = cast("dict[str, object]", document)
        if named.get("name") is None:
            errors.append(FieldError("name", "missing: a schedule is known by its job's name"))
        if named.get("schedule") is None:
            errors.append(FieldError("schedule", f"missing: {cron.EXPECTED}"))
    job = _made(given, errors)
    assert when is not None, "or it is told as missing or wrong"
    return Scheduled(job, when)


def _read_job(
    document: object, readers: Mapping[str, Field], errors: list[FieldError]
) -> dict[str, Any]:
    given = fields.read(document, readers, errors)
    if isinstance(document, dict) and document.get("tasks") is None:  # pyright: ignore[reportUnknownMemberType]: JSON
        errors.append(FieldError("tasks", "missing: names with their tasks, or a list of tasks"))
    return given


def _made(given: dict[str, Any], errors: list[FieldError]) -> JobSpec:
    if errors:
        raise Wrong(errors)
    tasks: tuple[TaskSpec, ...] = given["tasks"]
    given.setdefault("name", tasks[0].name if len(tasks) == 1 else "job")
    return JobSpec(**given)


def _tasks(value: object) -> tuple[TaskSpec, ...]:
    if isinstance(value, dict):
        return _named_tasks(cast("dict[object, object]", value))
    return _listed_tasks(value)


def _named_tasks(value: dict[object, object]) -> tuple[TaskSpec, ...]:
    errors: list[FieldError] = []
    specs: list[TaskSpec] = []
    for key, document in value.items():
        try:
            given = _task(document)
            name = fields.name(key)
        except (Expected, Wrong) as error:
            errors += fields.below(key if isinstance(key, str) else fields.show(key), key, error)
            if len(errors) >= MAX_ERRORS:
                break
            continue
        if given.setdefault("name", name) != name:
            errors.append(FieldError(f"{key}.name", f"says otherwise than its key '{name}'"))
        specs.append(_spec(given))
    if errors:
        raise Wrong(errors)
    return _connected(specs, [spec.name for spec in specs])


def _listed_tasks(value: object) -> tuple[TaskSpec, ...]:
    """A task without a name gets one from its command, numbered if another task has it."""
    if not isinstance(value, list):
        raise Wrong([FieldError("", f"expected a list of tasks, not {fields.show(value)}")])
    errors: list[FieldError] = []
    givens: list[dict[str, Any]] = []
    taken: dict[str, int] = {}
    for index, document in enumerate(cast("list[object]", value)):
        given: dict[str, Any] = {}
        try:
            given = _task(document)
        except Wrong as wrong:
            errors += fields.below(f"[{index}]", document, wrong)
            if len(errors) >= MAX_ERRORS:
                break
        givens.append(given)
        name = given.get("name")
        if name is not None and taken.setdefault(name, index) != index:
            message = (
                f"the name '{name}' is taken by task [{taken[name]}]; names are unique in a job"
            )
            errors.append(FieldError(f"[{index}].name", message))
    if errors:
        raise Wrong(errors)
    _number_the_nameless(givens, set(taken))
    _share(givens)
    places = [f"[{index}]" for index in range(len(givens))]
    return _connected([_spec(given) for given in givens], places)


def _number_the_nameless(givens: list[dict[str, Any]], taken: set[str]) -> None:
    uses: dict[str, int] = {}
    for given in givens:
        if "name" in given:
            continue
        base = name = _default_name(given)
        while name in taken:
            uses[base] = uses.get(base, 1) + 1
            name = f"{base[:120]}-{uses[base]}"
        taken.add(name)
        given["name"] = name


def _task(document: object, known: Mapping[str, Field] | None = None) -> dict[str, Any]:
    """The fields of a `TaskSpec`, its name only if it is given. Raises: Wrong."""
    errors: list[FieldError] = []
    given = fields.read(document, known or TASK, errors)
    command, args = given.pop("command", ()), given.pop("args", ())
    if isinstance(document, dict):
        errors += _either_or(cast("dict[str, object]", document))
    if errors:
        raise Wrong(errors)
    if (workdir := given.get("workdir")) and "files" in given:
        inside = source.inside(given["files"])
        placed = {f"{workdir}/{to}": what for to, what in inside.items()}
        given["files"] = {to: w for to, w in given["files"].items() if to not in inside} | placed
    if command:
        given["argv"] = command + args
    if array := given.pop("array", None):
        given["array_count"], given["array_values"] = array
    if values := given.get("matrix"):
        given |= {"matrix": True, "array_count": len(values), "array_values": values}
    return given


def _spec(given: dict[str, Any]) -> TaskSpec:
    return feature.with_needs(TaskSpec(**{**EMPTY, **given}))


def _share(givens: Iterable[dict[str, Any]]) -> None:
    """Commands that are equal become one: of many tasks they mostly are."""
    known: dict[tuple[str, ...], tuple[str, ...]] = {}
    for given in givens:
        if argv := given.get("argv"):
            given["argv"] = known.setdefault(argv, argv)


def _either_or(document: dict[str, object]) -> Iterable[FieldError]:
    command, run = document.get("command") is not None, document.get("run") is not None
    if command and run:
        yield FieldError("run", "give either `command` or `run`, not both")
    elif not command and not run:
        yield FieldError("command", "missing: a program (with `args`), or a shell script in `run`")
    elif run and document.get("args"):
        yield FieldError("args", "belong to `command`; a `run` script holds its own words")
    many = document.get("array") is not None or document.get("matrix") is not None
    if document.get("parallel") is not None and not many:
        yield FieldError("parallel", "bounds an `array` or a `matrix`; one task alone needs none")
    if document.get("workdir") is not None and document.get("bundle") is not None:
        yield FieldError("bundle", "give either `workdir` or `bundle`, not both")
    laid = document.get("files")
    if document.get("image") is not None and isinstance(laid, dict):
        message = "in a container only the work directory and the home are seen: put it below these"
        for to in map(str, cast("dict[object, object]", laid)):
            if to.startswith("/"):
                yield FieldError(f"files.{to}", message)
    if document.get("array") is not None and document.get("matrix") is not None:
        yield FieldError("matrix", "give either `array` or `matrix`, not both")
    yield from given_twice(document)


def _default_name(given: dict[str, Any]) -> str:
    """The command's base name, made to fit the rule for names."""
    words = given.get("argv") or given["script"].split(maxsplit=1)
    base = words[0].rstrip("/").rsplit("/", 1)[-1]
    kept = "".join(c if fields.NAME.fullmatch(c) else "-" for c in base[:128])
    return kept.strip("-") or "task"


def _array(value: object) -> tuple[int, tuple[str, ...]]:
    if not isinstance(value, dict):
        return units.whole(value, 1, MAX_TASKS_PER_JOB), ()
    errors: list[FieldError] = []
    given = fields.read(cast("object", value), _ARRAY, errors)
    if not errors and len(given) != 1:
        errors.append(FieldError("", "expected exactly one of `count` and `over`"))
    if errors:
        raise Wrong(errors)
    values: tuple[str, ...] = given.get("over", ())
    return given.get("count", len(values)), values


# --- the graph ------------------------------------------------------------------------------------


def _connected(specs: Sequence[TaskSpec], places: Sequence[str]) -> tuple[TaskSpec, ...]:
    """The same specs, when they are a job: some, not too many, every need met, no cycle."""
    errors = list(_too_many(specs))
    at = {spec.name: index for index, spec in enumerate(specs)}
    edges = 0
    forward = True
    for index, spec in enumerate(specs):
        for nth, need in enumerate(spec.needs):
            needed = at.get(need.task)
            if needed is None or needed == index:
                if len(errors) < MAX_ERRORS:
                    message = _unmet(need, spec, at)
                    errors.append(FieldError(f"{places[index]}.needs[{nth}]", message))
                continue
            edges += spec.width * specs[needed].width
            forward = forward and needed < index
    if edges > MAX_EDGES_PER_JOB:
        errors.append(FieldError("", _TOO_MANY_EDGES.format(edges)))
    # Needs that all point backwards cannot close a circle: most jobs are written so.
    if not errors and not forward and (cycle := _cycle(specs)):
        where = f"{places[at[cycle[0]]]}.needs"
        errors.append(FieldError(where, f"the tasks wait for each other: {_arrows(cycle)}"))
    errors += cache.in_vain(specs, places)
    errors += output.too_many(specs, places)
    if errors:
        raise Wrong(errors)
    return cache.keyed(output.connected(specs))


def _too_many(specs: Sequence[TaskSpec]) -> Iterable[FieldError]:
    width = sum(spec.width for spec in specs)
    if not specs:
        yield FieldError("", "a job has at least one task")
    elif len(specs) > MAX_SPECS_PER_JOB:
        yield FieldError("", f"{len(specs):,} tasks; a job names at most {MAX_SPECS_PER_JOB:,}")
    elif width > MAX_TASKS_PER_JOB:
        yield FieldError("", f"{width:,} tasks; a job has at most {MAX_TASKS_PER_JOB:,}")


def _unmet(need: Need, spec: TaskSpec, at: dict[str, int]) -> str:
    if need.task == spec.name:
        return "a task cannot wait for itself"
    near = fields.did_you_mean(need.task, at) if len(at) <= 1_000 else ""
    return f"no task of this job is called '{need.task}'{near}"


def _cycle(specs: Sequence[TaskSpec]) -> list[str]:
    """One circle in the order of running, from its first task in the document and back; or nothing."""
    graph = {spec.name: [need.task for need in spec.needs] for spec in specs}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        circle: list[str] = error.args[1][:-1]
        members = set(circle)
        first = circle.index(next(spec.name for spec in specs if spec.name in members))
        return [*circle[first:], *circle[:first], circle[first]]
    return []


def _arrows(cycle: list[str]) -> str:
    shown = cycle if len(cycle) <= 20 else [*cycle[:10], "…", *cycle[-9:]]
    return " → ".join(shown)


_ARRAY: Final = {
    "count": Field("count", fields.whole(1, MAX_TASKS_PER_JOB)),
    "over": Field("over", fields.array_values),
}
TASK: Final = {
    "name": Field("name", fields.name),
    "command": Field("command", fields.command),
    "args": Field("args", fields.words),
    "run": Field("script", fields.script),
    "setup": Field("setup", fields.setup),
    "env": Field("env", fields.env),
    "resources": Field("requirements", read_resources),
    "num_nodes": Field("num_nodes", fields.whole(1, MAX_NODES)),
    "priority": Field("priority", fields.choice(Priority)),
    "needs": Field("needs", fields.needs),
    "parallel": Field("parallel", fields.whole(1, MAX_TASKS_PER_JOB)),
    "retries": Field("retries", fields.whole(0, MAX_RETRIES)),
    "infra_retries": Field("infra_retries", fields.whole(0, MAX_RETRIES)),
    "retry_on": Field("retry_on", fields.exit_codes),
    "timeout": Field("timeout_s", fields.positive_seconds),
    "queue_timeout": Field("queue_timeout_s", fields.positive_seconds),
    "grace": Field("grace_s", units.seconds),
    "delivery": Field("delivery", fields.choice(Delivery)),
    "exclusive": Field("exclusive", fields.boolean),
    "array": Field("array", _array),
    "matrix": Field("matrix", matrix.read),
    "workdir": Field("workdir", fields.directory),
    "cache": Field("cache", fields.boolean),
    "labels": Field("labels", fields.labels),
    "bundle": Field("bundle", fields.bundle_id),
    "files": Field("files", source.files),
    "image": Field("image", fields.image),
    "outputs": Field("outputs", output.read),
    "secrets": Field("secrets", of_task),
}
_ON: Final = {"on": Field("notify", hook.read)}
_ALONE: Final = TASK | _ON
_JOB: Final = _ON | {
    "name": Field("name", fields.name),
    "tasks": Field("tasks", _tasks),
    "on_failure": Field("on_failure", fields.choice(OnFailure)),
    "labels": Field("labels", fields.labels),
}
_SCHEDULED: Final = {**_JOB, fields.SCHEDULE: Field("schedule", schedule.read)}
