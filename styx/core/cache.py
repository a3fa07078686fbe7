"""`cache`: what succeeded before stands for the same work asked for again.

A task's key is made of everything that its result may depend on: what it runs, with which variables, where,
and the keys of what it needs. What it is called, how much room it gets and how often it is tried is left out.
An element of an array is told apart by its value, where it has none by its index.
"""

import graphlib
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import msgspec

from styx.core import secret
from styx.core.ids import TaskId
from styx.core.spec import JobSpec, TaskSpec
from styx.errors import FieldError

Key = tuple[str, str]  # of a spec, and which of its elements
Taken = Mapping[int, TaskId]  # place among the tasks of the job → the earlier task

VERSION: Final = "1"  # of the way in which keys are made
_IRRELEVANT: Final = frozenset(
    {
        *("name", "labels", "priority", "requirements", "delivery", "exclusive", "needs", "inputs"),
        *("retries", "infra_retries", "retry_on", "timeout_s", "queue_timeout_s", "grace_s"),
        *("array_count", "array_values", "parallel", "parallel_of", "cache", "cache_key"),
    }
)

# Left out while they are empty: so what succeeded before there were such fields still stands.
_NEWER: Final = ("setup", "image", "outputs", "secrets")


def keyed(specs: Sequence[TaskSpec]) -> tuple[TaskSpec, ...]:
    """The same acyclic specs; those with `cache` know their keys."""
    if not any(spec.cache for spec in specs):
        return tuple(specs)
    by_name = {spec.name: spec for spec in specs}
    keys: dict[str, str] = {}
    for name in _needed_first(specs):
        spec = by_name[name]
        keys[name] = _key(spec, keys) if spec.cache else ""
    return tuple(msgspec.structs.replace(spec, cache_key=keys[spec.name]) for spec in specs)


def in_vain(specs: Sequence[TaskSpec], places: Sequence[str]) -> Iterator[FieldError]:
    """What could never be taken from an earlier task, as something that it needs runs anew each time."""
    cached = {spec.name for spec in specs if spec.cache}
    for spec, place in zip(specs, places, strict=True):
        anew = [need.task for need in spec.needs if need.task not in cached] if spec.cache else []
        if anew:
            message = f"needs {anew[0]}, which runs anew each time: give that `cache: true`, too"
            yield FieldError(f"{place}.cache", message)


def wanted(job: JobSpec) -> set[str]:
    """The keys worth looking for."""
    return {spec.cache_key for spec in job.tasks if spec.cache_key}


def key_of(spec: TaskSpec, index: int | None) -> Key:
    if index is None:
        return spec.cache_key, ""
    return spec.cache_key, spec.array_values[index] if spec.array_values else str(index)


def taken(job: JobSpec, known: Mapping[Key, TaskId]) -> Taken:
    """Which of the job's tasks need not run. What needs something that runs, runs as well: it may make
    something else this time.
    """
    if not known:
        return {}
    by_name = {spec.name: spec for spec in job.tasks}
    starts = _starts(job)
    found: dict[int, TaskId] = {}
    whole: set[str] = set()  # specs all of whose tasks are taken
    for name in _needed_first(job.tasks):
        spec = by_name[name]
        if not spec.cache_key or not all(need.task in whole for need in spec.needs):
            continue
        elements = [None] if spec.array_count is None else range(spec.array_count)
        earlier = {
            starts[name] + (index or 0): task_id
            for index in elements
            if (task_id := known.get(key_of(spec, index))) is not None
        }
        found |= earlier
        if len(earlier) == spec.width:
            whole.add(name)
    return found


def _starts(job: JobSpec) -> dict[str, int]:
    starts: dict[str, int] = {}
    start = 0
    for spec in job.tasks:
        starts[spec.name] = start
        start += spec.width
    return starts


def _needed_first(specs: Sequence[TaskSpec]) -> Iterator[str]:
    graph = {spec.name: [need.task for need in spec.needs] for spec in specs}
    yield from graphlib.TopologicalSorter(graph).static_order()


def _key(spec: TaskSpec, keys: Mapping[str, str]) -> str:
    fields: dict[str, object] = {
        name: getattr(spec, name) for name in spec.__struct_fields__ if name not in _IRRELEVANT
    }
    for name in _NEWER:
        if not fields[name]:
            del fields[name]
    if spec.secrets:  # what a value is called that was given for one job says nothing
        fields["secrets"] = {
            variable: secret.GIVEN if secret.is_given(name) else name
            for variable, name in spec.secrets.items()
        }
    fields["needs"] = sorted((keys[need.task], need.task, need.on) for need in spec.needs)
    text = msgspec.json.encode([VERSION, fields], order="deterministic")
    return hashlib.sha256(text).hexdigest()
