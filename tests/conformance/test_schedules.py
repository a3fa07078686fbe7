"""The contract of `engine.ports.ScheduleStore`, for the one on Postgres and its twin in memory."""

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from styx.core.audit import Entry
from styx.core.ids import JobId
from styx.core.schedule import Missed, Overlap, Schedule
from styx.engine.ports import ScheduleRow, ScheduleStore, Store
from styx.errors import StaleWrite
from styx.store.postgres import Database
from styx.store.schedules import ScheduleRows
from tests.sim.schedules import MemorySchedules
from tests.sim.store import Direct, MemoryStore, Tables
from tests.support import made

TOLD = [Entry(made.NOW, "user:é", "schedule.create", "x", "«»")]
WHEN = Schedule("0 2 * * *", "Europe/Berlin", Missed.ALL, Overlap.ALLOW)


class Kept:
    """A leader's store; `depose` begins another term, `audit` counts the trail."""

    def __init__(
        self,
        rows: ScheduleStore,
        store: Store,
        depose: Callable[[], Awaitable[Any]],
        audit: Callable[[], Awaitable[int]],
    ) -> None:
        self.rows = rows
        self.store = store
        self.depose = depose
        self.audit = audit


def on_postgres(database: Database) -> Kept:
    async def depose() -> None:
        async with database.writers.acquire() as connection:
            await connection.execute("UPDATE leader_fence SET term = term + 1")

    async def audit() -> int:
        return len(await database.query.audit(after=0, limit=10))

    return Kept(ScheduleRows(database), database, depose, audit)


def in_memory() -> Kept:
    tables = Tables(lambda: 0.0)
    term = tables.take("a:1")
    assert term is not None
    store = MemoryStore(tables, Direct(), term)

    async def depose() -> None:
        tables.term += 1

    async def audit() -> int:
        return len(tables.audit)

    return Kept(MemorySchedules(store), store, depose, audit)


@pytest.fixture(params=["postgres", "memory"])
def kept(request: pytest.FixtureRequest, database: Database) -> Kept:
    return on_postgres(database) if request.param == "postgres" else in_memory()


def row(name: str = "nightly", **fields: Any) -> ScheduleRow:
    base = {"id": made.new_id(), "name": name, "project": "default", "schedule": WHEN}
    more = {"document": '{"a":"\\u0000é"}', "due_at": made.later(60), "created_at": made.NOW}
    return ScheduleRow(**{**base, **more, **fields})


def following(old: ScheduleRow, **changes: Any) -> ScheduleRow:
    return msgspec.structs.replace(old, version=old.version + 1, **changes)


async def test_what_is_put_is_found(kept: Kept):
    first = row()
    assert await kept.rows.find("default", "nightly") is None
    assert await kept.rows.put(first, TOLD)
    assert await kept.rows.find("default", "nightly") == first
    assert await kept.rows.find("other", "nightly") is None
    changed = following(
        first,
        document="{}",
        schedule=Schedule("@daily"),
        paused=True,
        due_at=None,
        last_due_at=made.later(1),
        last_job_id=JobId(made.new_id()),
        passed_at=made.later(2),
        passed_why="why",
    )
    assert await kept.rows.put(changed)
    assert await kept.rows.find("default", "nightly") == changed
    assert await kept.audit() == 1


async def test_what_is_not_at_the_version_before_is_left_alone(kept: Kept):
    first = row()
    assert not await kept.rows.put(following(first), TOLD)
    assert await kept.rows.put(first)
    assert not await kept.rows.put(row(), TOLD)  # its name is taken
    assert not await kept.rows.put(first, TOLD)
    assert not await kept.rows.put(following(following(first)), TOLD)
    assert not await kept.rows.delete(following(first), TOLD)
    assert await kept.rows.find("default", "nightly") == first
    assert await kept.audit() == 0
    assert await kept.rows.delete(first, TOLD)
    assert not await kept.rows.delete(first, TOLD)
    assert await kept.rows.find("default", "nightly") is None
    assert await kept.audit() == 1


async def test_the_earliest_is_due_first(kept: Kept):
    assert await kept.rows.earliest(5) == []
    late, soon = row("late", due_at=made.later(90)), row("soon", due_at=made.later(30))
    for one in (late, soon, row("paused", paused=True), row("never", due_at=None)):
        assert await kept.rows.put(one)
    assert await kept.rows.earliest(5) == [soon, late]
    assert await kept.rows.earliest(1) == [soon]
    assert await kept.rows.put(following(soon, due_at=made.later(120)))
    assert [one.name for one in await kept.rows.earliest(5)] == ["late", "soon"]


async def test_pages_are_by_id_and_light(kept: Kept):
    rows = [row(name) for name in "abc"]
    for one in rows:
        assert await kept.rows.put(one)
    light = [msgspec.structs.replace(one, document="") for one in rows]
    assert await kept.rows.page("", 2) == light[:2]
    assert await kept.rows.page(rows[1].id, 2) == light[2:]


async def test_who_is_deposed_writes_nothing(kept: Kept):
    first = row()
    assert await kept.rows.put(first)
    await kept.depose()
    for write in (
        kept.rows.put(following(first), TOLD),
        kept.rows.put(row("new"), TOLD),
        kept.rows.delete(first, TOLD),
    ):
        with pytest.raises(StaleWrite):
            await write
    assert await kept.rows.page("", 10) == [msgspec.structs.replace(first, document="")]
    assert await kept.audit() == 0


async def test_the_job_of_a_key(kept: Kept):
    job = made.job(idem_key="schedule:x")
    await kept.store.commit(made.delta(job, made.task(job)))
    assert await kept.rows.job_of_key("default", "schedule:x") == job.id
    assert await kept.rows.job_of_key("default", "schedule:y") is None
    assert await kept.rows.job_of_key("other", "schedule:x") is None
