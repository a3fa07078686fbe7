"""A submit, whatever route it comes by: read, check, post once, answer the same again.

A large document is read and checked by a thread, piece by piece, so that the loop goes on meanwhile.
"""

import asyncio
import hashlib
import time
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, TypeVar, cast

import msgspec
from litestar import Response

from styx.api import document, problems, route, secrets, taking
from styx.api.backend import Backend
from styx.api.route import Call
from styx.config import Webhooks
from styx.core import event
from styx.core.ids import JobId, TaskId
from styx.core.job import PROJECT
from styx.core.schedule import KEY
from styx.core.spec import Ending, Hook, JobSpec
from styx.errors import Conflict, FieldError, InvalidSpec, WriteRefused
from styx.kit import traceparent, uuid7

LARGE_BYTES: Final = 64 << 10  # a millisecond or two of checking
KEY_LENGTH: Final = 200
PAGE: Final = 1_000
MANY: Final = 5_000  # ids: a millisecond or two to make and to word

T = TypeVar("T")


class Key(NamedTuple):
    """What makes a repeated submit the same one. Without a key each is its own."""

    text: str
    sha256: str


class Asked(NamedTuple):
    """By whom, in which trace, how and when."""

    actor: str
    traceparent: str = ""
    route: str = ""
    came_s: float = 0.0


class Group(NamedTuple):
    """The tasks of one spec."""

    name: str
    is_array: bool
    ids: Sequence[TaskId]


class Made(NamedTuple):
    job_id: JobId
    groups: list[Group]
    warnings: list[str]
    repeated: bool = False

    @property
    def status(self) -> int:
        return 200 if self.repeated else 201


def asked_by(call: Call) -> Asked:
    visit = route.visit(call)
    given = traceparent.cleaned(call.headers.get("traceparent", ""))
    return Asked(visit.actor, given, visit.route, visit.came_s)


def key_of(call: Call, body: bytes) -> Key:
    """Raises: HttpRefusal."""
    text = call.headers.get("idempotency-key", "")
    if not text:
        return Key("", "")
    if len(text) > KEY_LENGTH or not (text.isascii() and text.isprintable()):
        raise problems.HttpRefusal(f"Idempotency-Key is at most {KEY_LENGTH} printable characters")
    if text.startswith(KEY):
        raise problems.HttpRefusal(
            f"Idempotency-Keys that begin with {KEY!r} are the schedules' own"
        )
    # The path too: the same body means another thing elsewhere.
    path: str = call.scope["path"]
    return Key(text, hashlib.sha256(path.encode() + b"\0" + body).hexdigest())


async def checked(body: bytes, check: Callable[[object], T]) -> T:
    """Read a document and check it. Raises: HttpRefusal, InvalidSpec."""
    if len(body) < LARGE_BYTES:
        return check(document.read(body))
    return await asyncio.to_thread(lambda: check(document.read(body)))


async def _earlier(backend: Backend, key: Key) -> Made | None:
    """What the key made before. Raises: Conflict, if it came with another document."""
    job = await backend.query.job_by_key(PROJECT, key.text)
    if job is None:
        return None
    if job.body_sha256 != key.sha256:
        raise Conflict(
            f"the Idempotency-Key {key.text!r} was used for another request",
            hint="a key stands for one request; take a new one",
        )
    return Made(job.id, await _groups(backend, job.id), [], repeated=True)


async def submit(
    backend: Backend,
    spec: JobSpec,
    key: Key,
    asked: Asked,
    *,
    retry_of: str = "",
    anew: bool = False,
) -> Made:
    """Return once the job is durable. A key is not looked up first: that it was used is seen by the
    scheduler while its job lives, and by the database ever after, and most keys are new. `anew`: nothing
    is taken from earlier tasks. The end of the job is also told to whoever is configured.

    Raises: StoreUnavailable (outcome unknown: repeat with the key), LimitReached, Conflict, InvalidSpec.
    """
    if not retry_of:
        judge_hooks(backend, spec)
    spec = told(backend.webhooks, spec)
    await require_bundles(backend, spec)
    job_id = JobId(uuid7.new())
    try:
        await secrets.require(backend, spec, job_id)
    except InvalidSpec:  # what was given for the job that the key made is that one's
        if not key.text or (made := await _earlier(backend, key)) is None:
            raise
        return made
    ids = _new_ids(spec.width)
    submitted = event.JobSubmitted(
        job_id=job_id,
        task_ids=ids,
        spec=spec,
        project=PROJECT,
        idem_key=key.text,
        body_sha256=key.sha256,
        actor=asked.actor,
        retry_of=retry_of,
        traceparent=asked.traceparent,
        taken=await taking.lookup(backend, PROJECT, spec, anew=anew),
    )
    try:
        answer = await backend.engine.post(submitted)
    except WriteRefused:
        if not key.text or (made := await _earlier(backend, key)) is None:
            raise
        return made
    if isinstance(answer, event.AlreadySubmitted):
        made = await _earlier(backend, key)
        assert made is not None, "a live job is in the database"
        return made
    assert isinstance(answer, event.Accepted), answer
    took_s = time.monotonic() - asked.came_s
    backend.engine.tracer.submitted(submitted, asked.route, took_s, backend.engine.clock)
    few = len(spec.tasks) < MANY
    groups = _grouped(spec, ids) if few else await asyncio.to_thread(_grouped, spec, ids)
    return Made(answer.job_id, groups, list(answer.warnings))


async def answered(made: Made, word: Callable[[Made], Response[bytes]]) -> Response[bytes]:
    """A thread's work, where there are many ids to tell."""
    if sum(len(group.ids) for group in made.groups if group.is_array) < MANY:
        return word(made)
    return await asyncio.to_thread(word, made)


def judge_hooks(backend: Backend, spec: JobSpec) -> None:
    """Raises: InvalidSpec, for who may never be told of its end."""
    wrong = [
        FieldError(f"on.{hook.on}", why)
        for hook in spec.notify
        if (why := backend.reach.hinders_url(hook.url))
    ]
    if wrong:
        hint = "webhooks.allow_hosts names the hosts and networks that may be reached all the same"
        raise InvalidSpec(f"{wrong[0].path}: {wrong[0].message}", *wrong, hint=hint)


def told(webhooks: Webhooks, spec: JobSpec) -> JobSpec:
    """With who is configured to be told of its end, beside whom it names itself."""
    if not webhooks.urls:
        return spec
    return msgspec.structs.replace(spec, notify=(*spec.notify, Hook(Ending.DONE)))


async def require_bundles(backend: Backend, spec: JobSpec) -> None:
    """Raises: InvalidSpec, if one is not here; who would fetch it later could only fail."""
    wanted = {id_ for task in spec.tasks if task.bundle or task.files for id_ in task.bundles}
    if not wanted:
        return
    absent = wanted - await backend.files.use(wanted)
    errors = [
        FieldError(
            key if len(spec.tasks) == 1 else f"tasks.{task.name}.{key}",
            f"the bundle {id_[:16]}… is not here: send its directory again",
        )
        for task in spec.tasks
        for key, id_ in (
            ("bundle", task.bundle),
            *((f"files.{p}", i) for p, i in task.files.items()),
        )
        if id_ in absent
    ]
    if errors:
        raise InvalidSpec(f"{errors[0].path}: {errors[0].message}", *errors)


def _grouped(spec: JobSpec, ids: Sequence[TaskId]) -> list[Group]:
    groups: list[Group] = []
    start = 0
    for task in spec.tasks:
        end = start + task.width
        groups.append(Group(task.name, task.array_count is not None, ids[start:end]))
        start = end
    return groups


def _new_ids(n: int) -> Sequence[TaskId]:
    return cast("Sequence[TaskId]", uuid7.many(n) if n < MANY else uuid7.run(n))


async def _groups(backend: Backend, job_id: JobId) -> list[Group]:
    """From the rows of a job. Of a large array they hold the first elements: the rest is fetched."""
    groups: list[Group] = []
    for row in await backend.query.job_specs(job_id):
        ids: list[TaskId] = row.task_ids
        if len(ids) < row.spec.width:
            ids = await _elements(backend, job_id, row.spec.name)
        groups.append(Group(row.spec.name, row.spec.array_count is not None, ids))
    return groups


async def _elements(backend: Backend, job_id: JobId, name: str) -> list[TaskId]:
    found: list[TaskId] = []
    while True:
        last = found[-1] if found else None
        page = await backend.query.tasks(job_id=job_id, name=name, limit=PAGE, after=last)
        found += (task.id for task, _ in page)
        if len(page) < PAGE:
            return found[::-1]  # pages are newest first
