"""Schedules, kept by the leader beside its turns: at each due time one job, and then the next due time.

The two are two transactions, and the server may fall between them. The job comes first, under a key made of
the schedule and the due time, which the database keeps unique for ever: so whoever decides again, now or as
the next leader, decides the same. Both are fenced by the term.

Time here is the machine's time of day, as people mean it: `due_at` only moves forward, so a clock that is set
back runs nothing twice.
"""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final

import msgspec
import structlog

from styx.core import event, fields, form
from styx.core.audit import Entry
from styx.core.ids import JobId, TaskId
from styx.core.job import PROJECT
from styx.core.schedule import DUE_VARIABLE, KEY, LABEL, Overlap, Schedule, stamp
from styx.core.spec import JobSpec
from styx.engine.loop import Engine
from styx.engine.ports import ScheduleRow, ScheduleStore
from styx.errors import InvalidSpec, LimitReached, NotFound, StoreUnavailable, WriteRefused
from styx.kit import uuid7

LOOK_S: Final = 5.0  # how soon a step of the clock is seen
LEAST_S: Final = 0.001
RETRY_S: Final = 1.0
ROUND: Final = 50  # schedules
PART: Final = 25  # due times of one of them
LARGE: Final = 64 << 10  # characters of a document; more is checked by a thread
MISSED: Final = "missed: no server ran"

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


class Schedules:
    """Of one term. `run` it beside its engine; whoever changes a schedule does it here. `told` names in a
    job who is told of the end of every one.
    """

    def __init__(
        self,
        engine: Engine,
        rows: ScheduleStore,
        *,
        clock: Callable[[], datetime],
        told: Callable[[JobSpec], JobSpec] = lambda spec: spec,
    ) -> None:
        self._engine = engine
        self._rows = rows
        self._clock = clock
        self._told_of = told
        self._changed = asyncio.Event()
        self._lock = asyncio.Lock()  # a schedule is not changed while a due time of it is settled

    async def run(self) -> None:
        """Raises: StaleWrite (deposed)."""
        waits = False
        while True:
            self._changed.clear()
            try:
                await self._round()
                waits = False
            except (StoreUnavailable, LimitReached) as error:
                if not waits:
                    log.warning("schedules wait", error=error.message)
                waits = True
                await asyncio.sleep(RETRY_S)

    # --- what people ask for ----------------------------------------------------------------------

    async def find(self, name: str) -> ScheduleRow:
        """Raises: NotFound, StoreUnavailable."""
        known = fields.NAME.fullmatch(name)  # nothing else has a row, nor may it reach the database
        row = await self._rows.find(PROJECT, name) if known else None
        if row is None:
            raise NotFound(f"there is no schedule {name[:128]!r}", hint="see: styx schedules")
        return row

    def now(self) -> datetime:
        return self._clock()

    async def page(self, after: str, limit: int) -> list[ScheduleRow]:
        return await self._rows.page(after, limit)

    async def put(
        self, name: str, document: str, schedule: Schedule, actor: str
    ) -> tuple[ScheduleRow, bool]:
        """Create or replace; also say whether it is new. Its due times begin anew, unless it is the same.

        Raises: StoreUnavailable (outcome unknown), StaleWrite; so do the others that change something.
        """
        async with self._lock:
            old = await self._rows.find(PROJECT, name)
            if old and (old.document, old.schedule) == (document, schedule):
                return old, False
            due_at = schedule.after(self._clock())
            if old:
                changes = {"document": document, "schedule": schedule, "due_at": due_at}
                row, action = _next(old, **changes), "schedule.replace"
            else:
                row = ScheduleRow(
                    id=uuid7.new(),
                    name=name,
                    project=PROJECT,
                    document=document,
                    schedule=schedule,
                    due_at=due_at,
                    created_at=self._engine.clock(),
                )
                action = "schedule.create"
            detail = f"{name}: {schedule.cron} {schedule.timezone}"
            await self._write(row, self._told(actor, action, row, detail))
            return row, old is None

    async def pause(self, name: str, actor: str) -> ScheduleRow:
        async with self._lock:
            row = await self.find(name)
            if row.paused:
                return row
            told = self._told(actor, "schedule.pause", row, name)
            return await self._write(_next(row, paused=True), told)

    async def resume(self, name: str, actor: str) -> ScheduleRow:
        """What was due meanwhile was not missed: it goes on with the next due time."""
        async with self._lock:
            row = await self.find(name)
            if not row.paused:
                return row
            due_at = row.schedule.after(self._clock())
            told = self._told(actor, "schedule.resume", row, name)
            return await self._write(_next(row, paused=False, due_at=due_at), told)

    async def delete(self, name: str, actor: str) -> ScheduleRow:
        """Its jobs stay."""
        async with self._lock:
            row = await self.find(name)
            told = self._told(actor, "schedule.delete", row, name)
            if not await self._rows.delete(row, told):
                raise _changed_meanwhile()
            self._changed.set()
            return row

    async def start(self, name: str, key: str, actor: str, traceparent: str = "") -> JobId:
        """A job of it now, whatever its due times and its jobs that run. The same `key`: the same job.

        Raises: InvalidSpec, WriteRefused, LimitReached.
        """
        async with self._lock:
            row = await self.find(name)
            idem_key = f"{KEY}{row.id}:run:{key or uuid7.new()}"
            if job_id := await self._rows.job_of_key(row.project, idem_key):
                return job_id
            job_id = await self._submit(row, self._clock(), idem_key, actor, traceparent)
            told = self._told(actor, "schedule.run", row, f"{name}: {job_id}")
            await self._write(_next(row, last_job_id=job_id), told)
            return job_id

    # --- due times --------------------------------------------------------------------------------

    async def _round(self) -> None:
        """Wait until some are due, and settle a part of each: who has much to make up for lets others in."""
        rows = await self._rows.earliest(ROUND)
        if not rows:
            await self._changed.wait()
        elif (first := rows[0].due_at) and await self._until(first):
            for row in rows:
                if row.due_at and row.due_at <= self._clock():
                    await self._settle(row, row.due_at)

    async def _until(self, due: datetime) -> bool:
        """False: something has changed before."""
        while (left_s := (due - self._clock()).total_seconds()) > 0:
            try:
                async with asyncio.timeout(max(LEAST_S, min(left_s, LOOK_S))):
                    await self._changed.wait()
            except TimeoutError:
                continue
            return False
        return True

    async def _settle(self, row: ScheduleRow, due: datetime) -> None:
        """What is due of it by now, or a part; nothing, once it was changed."""
        now = self._clock()
        times, passed = row.schedule.settle(due, now)
        following = times[PART] if len(times) > PART else row.schedule.after(now)
        times = times[:PART]
        if passed:
            left_out = {"passed_at": passed, "passed_why": MISSED}
            row = _next(row, due_at=times[0] if times else following, **left_out)
            async with self._lock:
                if not await self._rows.put(row):
                    return
            log.warning("due times passed over", schedule=row.name, due=stamp(passed), why=MISSED)
        for nth, time in enumerate(times):
            then = times[nth + 1] if nth + 1 < len(times) else following
            async with self._lock:
                current = await self._rows.find(row.project, row.name)
                if current != row:
                    return
                row = _next(row, due_at=then, **await self._make(row, time))
                if not await self._rows.put(row):
                    return

    async def _make(self, row: ScheduleRow, due: datetime) -> dict[str, object]:
        """Its job, unless it is there or must not be; what of the row changes by that."""
        key = f"{KEY}{row.id}:{stamp(due)}"
        job_id = await self._rows.job_of_key(row.project, key)
        running = () if job_id else self._running(row, but=key)
        if running and row.schedule.overlap is Overlap.SKIP:
            return _passed(row, due, f"overlap: the job {running[0]} still ran")
        actor = f"{KEY}{row.name}"
        try:
            if running and row.schedule.overlap is Overlap.CANCEL:
                for earlier in running:
                    await self._engine.post(event.CancelRequested(job_id=earlier, actor=actor))
            job_id = job_id or await self._submit(row, due, key, actor)
        except (InvalidSpec, WriteRefused) as refused:
            return _passed(row, due, f"refused: {refused.message}")
        log.info("schedule", name=row.name, due=stamp(due), job=job_id)
        return {"last_due_at": due, "last_job_id": job_id}

    def _running(self, row: ScheduleRow, *, but: str) -> Sequence[JobId]:
        """Its jobs that are not over, the oldest first."""
        mine = f"{KEY}{row.id}:"
        live = self._engine.world.by_key.items()
        return sorted(
            job_id
            for (project, key), job_id in live
            if project == row.project and key.startswith(mine) and key != but
        )

    async def _submit(
        self, row: ScheduleRow, due: datetime, key: str, actor: str, traceparent: str = ""
    ) -> JobId:
        """Raises: StoreUnavailable (outcome unknown), LimitReached, InvalidSpec, WriteRefused."""
        if len(row.document) > LARGE:
            spec = await asyncio.to_thread(_spec, row, due)
        else:
            spec = _spec(row, due)
        submitted = event.JobSubmitted(
            job_id=JobId(uuid7.new()),
            task_ids=tuple(map(TaskId, uuid7.many(spec.width))),
            spec=self._told_of(spec),
            project=row.project,
            idem_key=key,
            actor=actor,
            traceparent=traceparent,
        )
        try:
            answer = await self._engine.post(submitted)
        except WriteRefused:
            # It was there, and not yet when we asked: a write whose outcome was unknown.
            if (job_id := await self._rows.job_of_key(row.project, key)) is None:
                raise
            return job_id
        assert isinstance(answer, event.Accepted | event.AlreadySubmitted), answer
        return answer.job_id

    async def _write(self, row: ScheduleRow, told: Sequence[Entry]) -> ScheduleRow:
        if not await self._rows.put(row, told):
            raise _changed_meanwhile()
        self._changed.set()
        return row

    def _told(self, actor: str, action: str, row: ScheduleRow, detail: str) -> Sequence[Entry]:
        return [Entry(self._engine.clock(), actor, action, row.id, detail)]


def _next(row: ScheduleRow, **changes: object) -> ScheduleRow:
    return msgspec.structs.replace(row, version=row.version + 1, **changes)


def _passed(row: ScheduleRow, due: datetime, why: str) -> dict[str, object]:
    log.warning("due time passed over", schedule=row.name, due=stamp(due), why=why)
    return {"passed_at": due, "passed_why": why}


def _changed_meanwhile() -> StoreUnavailable:
    """Only a write of ours, whose outcome was unknown, can have landed in between."""
    return StoreUnavailable("the schedule has changed meanwhile; repeat the request")


def _spec(row: ScheduleRow, due: datetime) -> JobSpec:
    """The job as it was given, with its mark; for another due time nothing stands that was done for this
    one. Raises: InvalidSpec.
    """
    spec = form.check_job(msgspec.json.decode(row.document))
    mark = {DUE_VARIABLE: stamp(due)}
    tasks = (
        msgspec.structs.replace(task, env={**task.env, **mark}, cache_key="") for task in spec.tasks
    )
    labels = {**spec.labels, LABEL: row.name}
    return msgspec.structs.replace(spec, labels=labels, tasks=tuple(tasks))
