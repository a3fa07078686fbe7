"""load(): everything that is not over, as one moment of the database; and what never had a row."""

from collections.abc import AsyncIterable, Iterable, Sequence
from typing import Any, Final

import msgspec

from styx.core.block import Block, first_of, may_wait_as_one
from styx.core.ids import AttemptKey, JobId, SpecId, TaskId
from styx.core.task import Task, TaskState
from styx.store import rows
from styx.store.exchange import LiveRows
from styx.store.pool import Connection

STATEMENT_S: Final = 600.0  # once in a server's life, over all that is not over
PAGE: Final = (
    5_000  # rows on their way at a time: a million are never here as rows and structs both
)

_JOBS: Final = f"SELECT {rows.JOBS.names()} FROM jobs WHERE state = 'running'"
_AGENTS: Final = f"SELECT {rows.AGENTS.names()} FROM agents"
# Tasks are found through their jobs, which are few beside all that ever ran.
_RUNNING: Final = "SELECT id FROM jobs WHERE state = 'running'"
_UNTOUCHED: Final = "version = 1 AND state = 'ready'"  # as `core.block.untouched`
_TASKS: Final = f"""
SELECT {rows.TASKS.names()} FROM tasks WHERE job_id IN ({_RUNNING}) AND {rows.LIVE_TASKS}
AND NOT (spec_id = ANY($1::uuid[]) AND {_UNTOUCHED}) ORDER BY id
"""
_SPECS: Final = f"""
SELECT id, job_id, body, needs, needs_on FROM specs WHERE job_id IN ({_RUNNING})
"""
_TOUCHED: Final = f"""
SELECT spec_id, array_agg(array_index) AS touched FROM tasks
WHERE job_id IN ({_RUNNING}) AND spec_id = ANY($1::uuid[]) AND NOT ({_UNTOUCHED}) GROUP BY spec_id
"""
_PLACED: Final = "SELECT id, spec_id, array_index FROM tasks WHERE id = ANY($1::uuid[])"
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

    def each(query: str, *arguments: object) -> AsyncIterable[Any]:
        return connection.cursor(query, *arguments, prefetch=PAGE, timeout=STATEMENT_S)

    async with connection.transaction(isolation="repeatable_read", readonly=True):
        await connection.execute(f"SET LOCAL statement_timeout = '{STATEMENT_S:.0f} s'")
        jobs = [rows.job(row) async for row in each(_JOBS)]
        shared: dict[SpecId, rows.Shared] = {}
        created = {job.id: job.created_at for job in jobs}
        firsts: list[Task] = []
        async for row in each(_SPECS):
            shared[row["id"]] = of = rows.shared(row)
            if not of.needs and may_wait_as_one(of.spec):
                job_id = row["job_id"]
                firsts.append(first_of(job_id, row["id"], of.spec, created[job_id]))
        needed = {edge.task_id for of in shared.values() for edge in of.needs}
        firsts = await _in_a_row(connection, [task for task in firsts if task.id not in needed])
        as_one = [task.spec_id for task in firsts]
        touched = {row["spec_id"]: row["touched"] async for row in each(_TOUCHED, as_one)}
        blocks = [Block(task, touched.get(task.spec_id, ())) for task in firsts]
        tasks = [rows.task(row, shared[row["spec_id"]]) async for row in each(_TASKS, as_one)]
        attempts = [rows.attempt(row) async for row in each(_ATTEMPTS)]
        agents = [rows.agent(row) async for row in each(_AGENTS)]
        settled: dict[TaskId, TaskState] = {}
        async for row in each(_SETTLED):
            settled[row["id"]] = rows.task_state(row["state"])
        tallies: dict[JobId, dict[TaskState, int]] = {}
        async for row in each(_TALLIES):
            tallies.setdefault(row["job_id"], {})[rows.task_state(row["state"])] = row["tasks"]
    left = [block for block in blocks if block.left]
    return LiveRows(jobs, tasks, attempts, agents, settled, tallies, left)


async def _in_a_row(connection: Connection, firsts: Sequence[Task]) -> list[Task]:
    """Those of arrays whose ids count up: then the last id is where it must be."""
    ends = {Block(task).id_of(task.spec.width - 1): task for task in firsts}
    found = await connection.fetch(_PLACED, list(ends))
    placed = {row["id"]: (row["spec_id"], row["array_index"]) for row in found}
    return [
        task for end, task in ends.items() if placed.get(end) == (task.spec_id, task.spec.width - 1)
    ]


async def foreign(connection: Connection, keys: Iterable[AttemptKey]) -> list[AttemptKey]:
    """See `engine.ports.Store.foreign`. Raises: the driver's errors."""
    given = msgspec.json.encode([key._asdict() for key in keys]).decode()
    found = await connection.fetch(_FOREIGN, given)
    return [AttemptKey(row["task_id"], row["n"], row["rank"]) for row in found]
