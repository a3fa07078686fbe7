"""Once more: new specs from old ones. What is over stays over; of a job only what did not succeed is
made again.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from msgspec.structs import replace

from styx.core import output
from styx.core.job import Job
from styx.core.spec import Hook, Input, JobSpec, Need, On, TaskSpec
from styx.core.task import TERMINAL, Task
from styx.errors import Conflict
from styx.store.query import SpecRows

LABEL: Final = "styx.retry_of"


class Left(NamedTuple):
    """A spec of the old job, and which elements of it did not succeed (of a lone task: 0)."""

    row: SpecRows
    elements: Sequence[int]


def of_task(task: Task, job: Job) -> JobSpec:
    """A task that was a job of its own tells who that told. Raises: Conflict, while it is not over."""
    if task.state not in TERMINAL:
        raise Conflict(f"{task.name} is not over", hint=f"cancel it first: styx cancel {task.id}")
    spec = task.spec if task.array_index is None else _element(task.spec, task.array_index, set())
    labels = {**spec.labels, LABEL: task.id}
    alone = replace(spec, needs=(), inputs=output.again(spec, job.id, ()), labels=labels)
    notify = _notify(job) if job.total == 1 else ()
    return JobSpec(spec.name, (alone,), notify=notify)


def of_job(job: Job, left: Sequence[Left]) -> JobSpec:
    """`left` holds every spec of the job. Raises: Conflict, when nothing is to be done again."""
    again = _again(left)
    if not again:
        raise Conflict(f"every task of {job.name} succeeded", hint="submit it anew to run it again")
    taken = set(again)
    made = {name: list(_specs(entry, taken)) for name, entry in again.items()}
    new = [(name, _input(spec, name)) for name, specs in made.items() for spec in specs]
    tasks = [
        replace(
            spec,
            needs=tuple(_needs(spec.needs, made)),
            inputs=output.again(spec, job.id, new),
        )
        for specs in made.values()
        for spec in specs
    ]
    return JobSpec(
        name=job.name,
        tasks=tuple(tasks),
        on_failure=job.on_failure,
        labels={**job.labels, LABEL: job.id},
        notify=_notify(job),
    )


def _notify(job: Job) -> tuple[Hook, ...]:
    """Whom it named itself: who is configured is added to every job."""
    return tuple(hook for hook in job.notify if hook.url)


def _again(left: Sequence[Left]) -> Mapping[str, Left]:
    """All that did not succeed, but for what waited in vain for a failure: its need has succeeded."""
    again = {entry.row.spec.name: entry for entry in left if entry.elements}
    settled = False
    while not settled:
        vain = [name for name, entry in again.items() if _in_vain(entry.row.spec.needs, again)]
        for name in vain:
            del again[name]
        settled = not vain
    return again


def _in_vain(needs: Sequence[Need], again: Mapping[str, Left]) -> bool:
    return any(need.on is On.FAILURE and need.task not in again for need in needs)


def _specs(left: Left, taken: set[str]) -> Iterator[TaskSpec]:
    """The whole array if all of it is left, else one task for each element that is."""
    spec = left.row.spec
    if spec.array_count is None or len(left.elements) == spec.array_count:
        yield spec
    else:
        yield from (_element(spec, index, taken) for index in left.elements)


def _element(spec: TaskSpec, index: int, taken: set[str]) -> TaskSpec:
    """One element of an array as a task of its own, which still sees its place in it."""
    env = {**spec.env, "STYX_ARRAY_INDEX": str(index)}
    if spec.array_values:
        value = spec.array_values[index]
        env |= {**spec.variables(value), "STYX_ARRAY_VALUE": value}
    name = f"{spec.name[:110]}-{index}"
    while name in taken:
        name += "-again"
    taken.add(name)
    bound = spec.parallel_of or spec.name if spec.parallel else ""
    return replace(
        spec,
        name=name,
        env=env,
        array_count=None,
        array_values=(),
        matrix=False,
        parallel_of=bound,
        cache=False,  # as an element of its array it may be found; as itself it is asked for once
        cache_key="",
    )


def _input(spec: TaskSpec, old: str) -> Input:
    """Whose outputs others get, who knew it by the `old` name: of an element, in its place."""
    index = int(spec.env["STYX_ARRAY_INDEX"]) if spec.name != old else None
    return Input("", spec.name, index=index)


def _needs(needs: Sequence[Need], made: Mapping[str, Sequence[TaskSpec]]) -> Iterator[Need]:
    """Only of what is made again: the rest has ended as it should."""
    for need in needs:
        for spec in made.get(need.task, ()):
            yield Need(spec.name, need.on)
