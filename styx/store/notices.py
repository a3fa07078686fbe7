"""Notifications: what a job's end is to tell, as rows.

A job that ended and has told nobody yet is found by its row (`untold`); its notifications become rows in
the statement that says so. A try is claimed before it is made: its next one is due when this one can no
longer be under way, so that a crash in its middle is a try like any other.
"""

from collections.abc import Collection, Sequence
from typing import Final

import msgspec

from styx.core.ids import JobId, TaskId
from styx.core.job import JobState
from styx.core.spec import Hook
from styx.store import pool, rows
from styx.store.leader import FENCE
from styx.store.postgres import Database

BATCH: Final = 500  # jobs of one look

_UNTOLD: Final = f"""
SELECT id, state, notify FROM jobs WHERE untold AND state <> 'running' ORDER BY id LIMIT {BATCH}
"""
_OWE: Final = f"""
WITH fence AS MATERIALIZED ({FENCE}),
over AS (UPDATE jobs SET untold = false
    WHERE id = ANY($2::uuid[]) AND untold AND EXISTS (SELECT 1 FROM fence) RETURNING id),
owed AS (INSERT INTO notifications (job_id, n, event, url, host, state, tries, due_at, detail)
    SELECT g.job_id, g.n, g.event, g.url, g.host, 'waiting', 0, now(), ''
    FROM json_to_recordset($3::json) AS g (job_id uuid, n integer, event text, url text, host text)
    JOIN over ON over.id = g.job_id)
SELECT count(*) FROM over
"""
# Hosts are stepped through by the index: a hundred thousand notifications that wait for one cost no more
# to pass over than one does.
_HOSTS: Final = """
hosts AS (
    (SELECT host FROM notifications WHERE due_at IS NOT NULL ORDER BY host LIMIT 1)
    UNION ALL
    SELECT (SELECT n.host FROM notifications n WHERE n.due_at IS NOT NULL AND n.host > h.host
            ORDER BY n.host LIMIT 1)
    FROM hosts h WHERE h.host IS NOT NULL)
"""
_CLAIM: Final = f"""
WITH RECURSIVE {_HOSTS},
fence AS MATERIALIZED ({FENCE}),
due AS (SELECT d.job_id, d.n FROM hosts h CROSS JOIN LATERAL (
        SELECT job_id, n, due_at FROM notifications WHERE host = h.host AND due_at <= now()
        ORDER BY due_at LIMIT $3) AS d
    WHERE h.host <> ALL($2::text[]) ORDER BY d.due_at LIMIT $4)
UPDATE notifications AS x
SET tries = tries + 1, tried_at = now(), due_at = now() + make_interval(secs => $5)
FROM due WHERE (x.job_id, x.n) = (due.job_id, due.n) AND EXISTS (SELECT 1 FROM fence)
RETURNING x.job_id, x.n, x.event, x.url, x.host, x.tries
"""
# Only of the newest try: one that a later server has begun since is its to tell of.
_TRIED: Final = f"""
WITH fence AS MATERIALIZED ({FENCE})
UPDATE notifications
SET state = $5, due_at = now() + make_interval(secs => $6), status = $7, detail = $8
WHERE (job_id, n) = ($2, $3) AND tries = $4 AND state = 'waiting' AND EXISTS (SELECT 1 FROM fence)
"""
_NEXT: Final = f"""
WITH RECURSIVE {_HOSTS}
SELECT CASE WHEN EXISTS ({_UNTOLD}) THEN 0 ELSE extract(epoch FROM min(d.due_at) - now())::float8 END
FROM hosts h CROSS JOIN LATERAL (
    SELECT due_at FROM notifications WHERE host = h.host AND due_at IS NOT NULL
    ORDER BY due_at LIMIT 1) AS d
WHERE h.host <> ALL($1::text[])
"""
_FIRST_FAILED: Final = """
SELECT id FROM tasks WHERE job_id = $1 AND state IN ('failed', 'lost')
ORDER BY finished_at, id LIMIT 1
"""


class Ended(msgspec.Struct, frozen=True):
    """A job that is over, and whose end nobody has been told."""

    job_id: JobId
    state: JobState
    notify: tuple[Hook, ...]


class Owed(msgspec.Struct, frozen=True):
    """One notification to be made a row."""

    job_id: JobId
    n: int
    event: str
    url: str
    host: str


class Try(msgspec.Struct, frozen=True):
    """A claimed try, counted from 1."""

    job_id: JobId
    n: int
    event: str
    url: str
    host: str
    tries: int


class Notices:
    """A leader's. Every method raises StoreUnavailable; what writes does nothing once another leads."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def ended(self) -> list[Ended]:
        """The oldest of them."""
        async with pool.using(self._database.readers) as connection:
            found = await connection.fetch(_UNTOLD)
        return [Ended(r["id"], JobState(r["state"]), rows.hooks(r["notify"])) for r in found]

    async def owe(self, jobs: Collection[JobId], owed: Sequence[Owed]) -> bool:
        """All that these jobs' ends are to tell: due at once. False: nothing was written down."""
        async with pool.using(self._database.writers) as connection:
            document = msgspec.json.encode(owed).decode()
            return bool(await connection.fetchval(_OWE, self._database.term, list(jobs), document))

    async def claim(
        self, *, busy: Collection[str], of_a_host: int, limit: int, within_s: float
    ) -> list[Try]:
        """Begin what is due, at most so many tries, and none to the hosts that are `busy`. Each is due
        again `within_s` from now, unless `tried` says otherwise.
        """
        async with pool.using(self._database.writers) as connection:
            found = await connection.fetch(
                _CLAIM, self._database.term, list(busy), of_a_host, limit, within_s
            )
        return [Try(*row.values()) for row in found]

    async def tried(
        self, made: Try, state: str, *, again_s: float | None, status: int | None, detail: str
    ) -> None:
        """How a try went, and when the next is due, if there is to be one."""
        async with pool.using(self._database.writers) as connection:
            await connection.execute(
                _TRIED,
                self._database.term,
                *(made.job_id, made.n, made.tries, state, again_s, status, detail),
            )

    async def next_s(self, *, busy: Collection[str]) -> float | None:
        """Seconds until something is due to a host that is not `busy`; None is never, as things stand."""
        async with pool.using(self._database.readers) as connection:
            return await connection.fetchval(_NEXT, list(busy))

    async def first_failed(self, job_id: JobId) -> TaskId | None:
        """The first task of the job that failed or was lost."""
        async with pool.using(self._database.readers) as connection:
            return await connection.fetchval(_FIRST_FAILED, job_id)
