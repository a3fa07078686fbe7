"""The rows of schedules. Every write is fenced by the leader's term, guarded by the version before, and told
in the audit trail, in one statement.
"""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from styx.core.audit import Entry
from styx.core.ids import JobId
from styx.core.schedule import Missed, Overlap, Schedule
from styx.errors import StaleWrite, StoreUnavailable
from styx.store import leader, pool
from styx.store.exchange import ScheduleRow
from styx.store.postgres import Database

TYPES: Final = {
    "id": "uuid",
    "name": "text",
    "project": "text",
    "document": "text",
    "cron": "text",
    "timezone": "text",
    "missed": "text",
    "overlap": "text",
    "paused": "boolean",
    "due_at": "timestamptz",
    "last_due_at": "timestamptz",
    "last_job_id": "uuid",
    "passed_at": "timestamptz",
    "passed_why": "text",
    "created_at": "timestamptz",
    "version": "integer",
}
FIXED: Final = frozenset({"id", "name", "project", "created_at"})

_NAMES: Final = ", ".join(TYPES)
_LISTED: Final = _NAMES.replace("document", "'' AS document")  # it may be large
_GIVEN: Final = f"""
json_to_recordset($3::json) AS given ({", ".join(f"{name} {kind}" for name, kind in TYPES.items())})
"""
_SETS: Final = ", ".join(f"{name} = given.{name}" for name in TYPES if name not in FIXED)
_encode: Final = msgspec.json.Encoder().encode


def _changing(change: str) -> str:
    return f"""
WITH fence AS MATERIALIZED ({leader.FENCE}), changed AS ({change} RETURNING 1)
SELECT styx_expect('the leader''s fence', 1, (SELECT count(*) FROM fence)),
    CASE WHEN EXISTS (SELECT 1 FROM changed) AND cardinality($2::text[]) > 0
         THEN styx_audit($2::text[]) END,
    EXISTS (SELECT 1 FROM changed) AS done
"""


_INSERT: Final = _changing(
    f"INSERT INTO schedules ({_NAMES}) SELECT {_NAMES} FROM {_GIVEN} ON CONFLICT DO NOTHING"
)
_UPDATE: Final = _changing(
    f"UPDATE schedules AS old SET {_SETS} FROM {_GIVEN} "
    "WHERE old.id = given.id AND old.version = given.version - 1"
)
_DELETE: Final = _changing("DELETE FROM schedules WHERE id = $3::uuid AND version = $4")


class ScheduleRows:
    """`engine.ports.ScheduleStore` on Postgres."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def earliest(self, most: int) -> list[ScheduleRow]:
        return await self._fetch(
            f"SELECT {_NAMES} FROM schedules WHERE NOT paused AND due_at IS NOT NULL"
            " ORDER BY due_at, id LIMIT $1",
            most,
        )

    async def find(self, project: str, name: str) -> ScheduleRow | None:
        found = await self._fetch(
            f"SELECT {_NAMES} FROM schedules WHERE project = $1 AND name = $2", project, name
        )
        return found[0] if found else None

    async def page(self, after: str, limit: int) -> list[ScheduleRow]:
        if after:
            return await self._fetch(
                f"SELECT {_LISTED} FROM schedules WHERE id > $1 ORDER BY id LIMIT $2", after, limit
            )
        return await self._fetch(f"SELECT {_LISTED} FROM schedules ORDER BY id LIMIT $1", limit)

    async def put(self, row: ScheduleRow, told: Sequence[Entry] = ()) -> bool:
        document = _encode([_document(row)]).decode()
        return await self._change(_INSERT if row.version == 1 else _UPDATE, told, document)

    async def delete(self, row: ScheduleRow, told: Sequence[Entry] = ()) -> bool:
        return await self._change(_DELETE, told, row.id, row.version)

    async def job_of_key(self, project: str, key: str) -> JobId | None:
        job = await self._database.query.job_by_key(project, key)
        return job.id if job else None

    async def _change(self, statement: str, told: Sequence[Entry], *values: object) -> bool:
        term = self._database.term
        entries = [_encode(entry).decode() for entry in told]
        try:
            async with pool.using(self._database.writers) as connection:
                row = await connection.fetchrow(statement, term, entries, *values)
        except StaleWrite:
            if self._database.term != term:  # it was ours, and has moved on
                raise StoreUnavailable("the term has changed meanwhile") from None
            raise
        return row["done"]

    async def _fetch(self, query: str, *values: object) -> list[ScheduleRow]:
        async with pool.using(self._database.readers) as connection:
            return [_row(row) for row in await connection.fetch(query, *values)]


def _document(row: ScheduleRow) -> dict[str, object]:
    return {
        "id": row.id,
        "name": row.name,
        "project": row.project,
        "document": row.document,
        "cron": row.schedule.cron,
        "timezone": row.schedule.timezone,
        "missed": row.schedule.missed,
        "overlap": row.schedule.overlap,
        "paused": row.paused,
        "due_at": row.due_at,
        "last_due_at": row.last_due_at,
        "last_job_id": row.last_job_id,
        "passed_at": row.passed_at,
        "passed_why": row.passed_why,
        "created_at": row.created_at,
        "version": row.version,
    }


def _row(row: Any) -> ScheduleRow:
    return ScheduleRow(
        id=row["id"],
        name=row["name"],
        project=row["project"],
        document=row["document"],
        schedule=Schedule(
            row["cron"], row["timezone"], Missed(row["missed"]), Overlap(row["overlap"])
        ),
        paused=row["paused"],
        due_at=row["due_at"],
        last_due_at=row["last_due_at"],
        last_job_id=row["last_job_id"],
        passed_at=row["passed_at"],
        passed_why=row["passed_why"],
        created_at=row["created_at"],
        version=row["version"],
    )
