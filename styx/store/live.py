"""load(): everything that is not over, as one moment of the database; and what never had a row."""

from collections.abc import AsyncIterable, Iterable
from typing import Any, Final

import msgspec

from styx.core.ids import AttemptKey, JobId, SpecId, TaskId
from styx.core.task import TaskState
from styx.store import rows
from styx.store.exchange import LiveRows
from styx.store.pool import Connection

STATEMENT_S: Final = 600.0  # once in a server's life, over all that is not over
BLOCK: Final = (
    5_000  # rows on their way at a time: a million are never here as rows and structs both
)

_JOBS: Final = f"SELECT {rows.JOBS.names()} FROM jobs WHERE state = 'running'"
_AGENTS: Final = f"SELECT {rows.AGENTS.names()} FROM agents"
# Tasks are found through their jobs, which are few beside all that ever ran.
_RUNNING: Final = "SELECT id FROM jobs WHERE state = 'running'"
_TASKS: Final = f"""
SELECT {rows.TASKS.names()} FROM tasks WHERE job_id IN ({_RUNNING}) AND {rows.LIVE_TASKS} ORDER BY id
"""
_SPECS: Final = f"""
SELECT id, body, needs, needs_on FROM specs WHERE job_id IN ({_RUNNING})
"""
_ATTEMPTS: Final = f"""
SELECT {rows.ATTEMPTS.names()} FROM attempts WHERE {rows.LIVE_ATTEMPTS} OR NOT logs_complete
UNION ALL
SELECT {rows.ATTEMPTS.names("a")} FROM tasks t JOIN attempts a ON a.task_id = t.id AND a.n = t.attempt
WHERE t.job_id IN ({_RUNNING}) AND t.state = 'active'
AND a.logs_complete AND NOT (a.{rows.LIVE_ATTEMPTS})
"""
_SETTLED: Final = f"""
SELECT id, state FROM tasks WHERE NOT ({rows.LIVE_TASKS}) AND id IN (
    SELECT DISTINCT unnest(needs) FROM specs WHERE id IN (
        SELECT spec_id FROM tasks WHERE job_id IN ({_RUNNING}) AND state = 'blocked'))
"""
_TALLIES: Final = f"""
SELECT job_id, state, count(*) AS tasks FROM tasks
WHERE job_id IN ({_RUNNING}) AND NOT ({rows.LIVE_TASKS}) GROUP BY job_id, state
"""

_FOREIGN: Final = """
SELECT g.task_id, g.n, g.rank
FROM json_to_recordset($1::json) AS g (task_id uuid, n integer, rank integer)
WHERE NOT EXISTS (
    SELECT 1 FROM attempts a WHERE (a.task_id, a.n, a.rank) = (g.task_id, g.n, g.rank))
"""


async def load(connection: Connection) -> LiveRows:
    """Raises: the driver's errors."""

    def each(query: str) -> AsyncIterable[Any]:
        return connection.cursor(query, prefetch=BLOCK, timeout=STATEMENT_S)

    async with connection.transaction(isolation="repeatable_read", readonly=True):
        await connection.execute(f"SET LOCAL statement_timeout = '{STATEMENT_S:.0f} s'")
        jobs = [rows.job(row) async for row in each(_JOBS)]
        shared: dict[SpecId, rows.Shared] = {}
        async for row in each(_SPECS):
            shared[row["id"]] = rows.shared(row)
        tasks = [rows.task(row, shared[row["spec_id"]]) async for row in each(_TASKS)]
        attempts = [rows.attempt(row) async for row in each(_ATTEMPTS)]
        agents = [rows.agent(row) async for row in each(_AGENTS)]
        settled: dict[TaskId, TaskState] = {}
        async for row in each(_SETTLED):
            settled[row["id"]] = rows.task_state(row["state"])
        tallies: dict[JobId, dict[TaskState, int]] = {}
        async for row in each(_TALLIES):
            tallies.setdefault(row["job_id"], {})[rows.task_state(row["state"])] = row["tasks"]
    return LiveRows(jobs, tasks, attempts, agents, settled, tallies)


async def foreign(connection: Connection, keys: Iterable[AttemptKey]) -> list[AttemptKey]:
    """See `engine.ports.Store.foreign`. Raises: the driver's errors."""
    given = msgspec.json.encode([key._asdict() for key in keys]).decode()
    found = await connection.fetch(_FOREIGN, given)
    return [AttemptKey(row["task_id"], row["n"], row["rank"]) for row in found]
