"""Schedules: put, list, look, pause, resume, run, delete."""

from datetime import datetime
from typing import Any, Final, NamedTuple, cast

import msgspec
from litestar import Response

from styx.api import page, route, secrets, submit
from styx.api.backend import Backend
from styx.api.route import CHANGING, FINDING, MAKING, UNCHANGED, Call, read_query, reply, visit
from styx.core import form, model
from styx.core.fields import SCHEDULE
from styx.core.job import Job
from styx.core.schedule import LABEL, Schedule
from styx.core.spec import JobSpec
from styx.errors import FieldError, InvalidSpec, LimitReached
from styx.store.exchange import ScheduleRow
from styx.wire import http

PATH: Final = "/api/v1/schedules"
NAMED: Final = f"{PATH}/{{name}}"
SHOWN: Final = 3  # due times to come
SHOWN_JOBS: Final = 10  # the last ones
EXAMPLE: Final = {
    "name": "nightly",
    "schedule": {"cron": "0 2 * * *", "timezone": "Europe/Berlin"},
    "tasks": {"backup": {"run": "./backup.sh"}},
}


class Put(NamedTuple):
    job: JobSpec
    document: str
    schedule: Schedule


class Schedules:
    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._schedules = backend.schedules

    @route.put(
        NAMED,
        "putSchedule",
        http.ScheduleDetail,
        status=201,
        also={200: "Replaced, or the same as before"},
        body=model.ScheduledJobForm,
        example=EXAMPLE,
        refuses=(InvalidSpec, LimitReached),
    )
    async def put(self, call: Call) -> Response[bytes]:
        """Create or replace a schedule.

        Its due times begin anew from now; the jobs that it made stay. The same document again changes
        nothing.
        """
        name = _name(call)
        given = await submit.checked(await call.body(), lambda document: _checked(document, name))
        submit.judge_hooks(self._backend, given.job)
        await submit.require_bundles(self._backend, given.job)
        await secrets.require(self._backend, given.job, None)
        row, new = await self._schedules.put(
            name, given.document, given.schedule, visit(call).actor
        )
        return reply(await self._detail(row), 201 if new else 200)

    @route.get(PATH, "listSchedules", list[http.ScheduleView], also=UNCHANGED, query=page.PageQuery)
    async def browse(self, call: Call) -> Response[bytes]:
        """List schedules.

        In the order in which they were created.
        """
        asked = read_query(call, page.PageQuery)
        after = page.after(asked) if asked.after else ""
        found = await self._schedules.page(after, asked.limit + 1)
        shown = [http.ScheduleView(**_fields(row)) for row in found[: asked.limit]]
        return page.answer(call, shown, more=len(found) > asked.limit)

    @route.get(NAMED, "getSchedule", http.ScheduleDetail, refuses=FINDING)
    async def get(self, call: Call) -> Response[bytes]:
        """One schedule, its next due times and its last jobs."""
        return reply(await self._detail(await self._schedules.find(_name(call))))

    @route.post(f"{NAMED}/pause", "pauseSchedule", http.ScheduleView, refuses=CHANGING)
    async def pause(self, call: Call) -> Response[bytes]:
        """Make no jobs until it is resumed.

        Those that run, run on.
        """
        row = await self._schedules.pause(_name(call), visit(call).actor)
        return reply(http.ScheduleView(**_fields(row)))

    @route.post(f"{NAMED}/resume", "resumeSchedule", http.ScheduleView, refuses=CHANGING)
    async def resume(self, call: Call) -> Response[bytes]:
        """Go on with the next due time."""
        row = await self._schedules.resume(_name(call), visit(call).actor)
        return reply(http.ScheduleView(**_fields(row)))

    @route.post(
        f"{NAMED}/run",
        "runSchedule",
        http.ScheduleRun,
        status=201,
        headers=MAKING,
        refuses=(*CHANGING, InvalidSpec),
    )
    async def run(self, call: Call) -> Response[bytes]:
        """Make a job of it now.

        Beside its due times, which stay as they are; also while it is paused or an earlier job runs.
        """
        key = submit.key_of(call, b"")
        asked = submit.asked_by(call)
        job_id = await self._schedules.start(_name(call), key.text, asked.actor, asked.traceparent)
        return reply(http.ScheduleRun(job_id), 201)

    @route.delete(NAMED, "deleteSchedule", http.ScheduleView, refuses=CHANGING)
    async def delete(self, call: Call) -> Response[bytes]:
        """Forget it.

        The jobs that it made stay, and run on.
        """
        row = await self._schedules.delete(_name(call), visit(call).actor)
        return reply(http.ScheduleView(**_fields(row)))

    async def _detail(self, row: ScheduleRow) -> http.ScheduleDetail:
        job = cast("dict[str, Any]", msgspec.json.decode(row.document))
        jobs = await self._backend.query.jobs(
            name=row.name, labels={LABEL: row.name}, limit=SHOWN_JOBS
        )
        begin = self._schedules.now()
        upcoming = [] if row.paused else row.schedule.upcoming(begin, SHOWN)
        return http.ScheduleDetail(
            **_fields(row), upcoming=upcoming, jobs=[_job(made) for made in jobs], job=job
        )


def _name(call: Call) -> str:
    return call.path_params["name"]


def _checked(document: object, name: str) -> Put:
    """Raises: InvalidSpec."""
    if isinstance(document, dict):
        given = cast("dict[str, object]", document)
        if (said := given.get("name")) is not None and said != name:
            wrong = FieldError("name", f"says otherwise than the path, which has '{name}'")
            raise InvalidSpec(f"{wrong.path}: {wrong.message}", wrong)
        document = {**given, "name": name}
    job, schedule = form.check_scheduled(document)
    kept = {
        key: value for key, value in cast("dict[str, object]", document).items() if key != SCHEDULE
    }
    return Put(job, msgspec.json.encode(kept).decode(), schedule)


def _fields(row: ScheduleRow) -> dict[str, Any]:
    """Of a `ScheduleView`."""
    return {
        "id": row.id,
        "name": row.name,
        "status": "paused" if row.paused else "active" if row.due_at else "over",
        "cron": row.schedule.cron,
        "timezone": row.schedule.timezone,
        "missed": str(row.schedule.missed),
        "overlap": str(row.schedule.overlap),
        "due_at": None if row.paused else row.due_at,
        "last_due_at": row.last_due_at,
        "last_job_id": row.last_job_id,
        "passed_at": row.passed_at,
        "passed_why": row.passed_why,
        "created_at": row.created_at,
    }


def _job(job: Job) -> http.ScheduledJob:
    return http.ScheduledJob(
        id=job.id,
        status=str(job.state),
        due_at=_due_of(job),
        created_at=job.created_at,
        finished_at=job.finished_at,
    )


def _due_of(job: Job) -> datetime | None:
    """It stands in its key; a job that somebody asked for has none."""
    try:
        return datetime.fromisoformat(job.idem_key.split(":", 2)[-1])
    except ValueError:
        return None
