"""What a user writes for an object: its id, a unique prefix of it, its name (the newest), or `last`."""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, TypeVar

from styx.api.backend import Backend
from styx.core.fields import did_you_mean
from styx.core.ids import JobId, TaskId
from styx.errors import Conflict, NotFound

LONGEST: Final = 140  # a name of 128, a slash and an element's number
PREFIX_LEAST: Final = 4
_ID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_PREFIX: Final = re.compile(r"[0-9a-f-]{4,36}")

ObjectId = TypeVar("ObjectId", bound=str)


def is_id(text: str) -> bool:
    return _ID.fullmatch(text) is not None


async def task_id(backend: Backend, reference: str) -> TaskId:
    """Raises: NotFound, Conflict (naming candidates), StoreUnavailable. An id is taken at its word."""
    if is_id(reference):
        return TaskId(reference)
    return await _one(reference, "task", backend.query.resolve_task, lambda i: _name(backend, i))


async def job_id(backend: Backend, reference: str) -> JobId:
    """As `task_id`."""
    if is_id(reference):
        return JobId(reference)

    async def name(found: JobId) -> str:
        job = await backend.query.job(found)
        return job.name if job else ""

    return await _one(reference, "job", backend.query.resolve_job, name)


def by_reference(reference: str, noun: str, names: Mapping[str, str]) -> str:
    """The one id that is meant, of those whose names are given. Raises: NotFound, Conflict."""
    if reference in names:
        return reference
    if reference == "last" and names:
        return max(names)
    named = [object_id for object_id, name in names.items() if name == reference]
    if named:
        return max(named)
    begun = [i for i in names if i.startswith(reference)] if _PREFIX.fullmatch(reference) else []
    if len(begun) > 1:
        raise ambiguous(reference, noun, [(i, names[i]) for i in sorted(begun)[:2]])
    if not begun:
        raise unknown(reference, noun, did_you_mean(reference, names.values()))
    return begun[0]


def ambiguous(reference: str, noun: str, candidates: Sequence[tuple[str, str]]) -> Conflict:
    shown = ", ".join(f"{object_id} ({name})" for object_id, name in candidates)
    return Conflict(
        f"{reference!r} means several {noun}s, among them {shown}",
        hint="give more of the id; an element of an array is NAME/INDEX",
    )


def unknown(reference: str, noun: str, near: str = "") -> NotFound:
    return NotFound(
        f"there is no {noun} {reference[:LONGEST]!r}{near}",
        hint=f"an id, at least {PREFIX_LEAST} characters of one, a name, or 'last'; see: styx {noun}s",
    )


async def _one(
    reference: str,
    noun: str,
    resolve: Callable[[str], Awaitable[list[ObjectId]]],
    name: Callable[[ObjectId], Awaitable[str]],
) -> ObjectId:
    if len(reference) > LONGEST or not reference.isprintable():
        raise unknown(reference, noun)
    found = await resolve(reference)
    if len(found) > 1:
        raise ambiguous(reference, noun, [(i, await name(i)) for i in found])
    if not found:
        raise unknown(reference, noun)
    return found[0]


async def _name(backend: Backend, found: TaskId) -> str:
    detailed = await backend.query.task(found)
    return detailed[0].name if detailed else ""
