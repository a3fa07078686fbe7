"""What tasks have left: the bundle that the end of an attempt names."""

from collections.abc import Collection
from typing import Final, NamedTuple

from styx.core.ids import JobId, TaskId
from styx.core.spec import Input
from styx.store import pool, rows

_LEFT: Final = """
JOIN attempts a ON a.task_id = coalesce(t.taken_from, t.id) AND a.rank = 0
    AND a.state = 'succeeded' AND a.exit LIKE '%"outputs":"%'
"""
_OF_TASKS: Final = f"""
SELECT t.id, (a.exit::json)->>'outputs' AS bundle FROM tasks t {_LEFT} WHERE t.id = ANY($1)
"""
_OF_SPEC: Final = f"""
SELECT t.array_index, (a.exit::json)->>'outputs' AS bundle
FROM specs s JOIN tasks t ON t.spec_id = s.id {_LEFT} WHERE s.job_id = $1 AND s.name = $2
"""
_OF_JOBS: Final = f"""
SELECT DISTINCT (a.exit::json)->>'outputs' AS bundle
FROM jobs j JOIN tasks t ON t.job_id = j.id {_LEFT} WHERE j.state = 'running' OR j.id = ANY($1)
"""


_INPUTS: Final = "SELECT body FROM specs WHERE job_id = $1 AND name = $2"


class Left(NamedTuple):
    array_index: int | None
    bundle: str


async def of_tasks(connection: pool.Connection, ids: Collection[TaskId]) -> dict[TaskId, str]:
    """Of those that have left any; of one that did not run, what the earlier one did."""
    found = await connection.fetch(_OF_TASKS, list(ids))
    return {row["id"]: row["bundle"] for row in found}


async def of_spec(connection: pool.Connection, job_id: JobId, name: str) -> list[Left]:
    found = await connection.fetch(_OF_SPEC, job_id, name)
    return [Left(row["array_index"], row["bundle"]) for row in found]


async def inputs(connection: pool.Connection, job_id: JobId, name: str) -> tuple[Input, ...] | None:
    """Of a spec of a job; None, where there is none of that name."""
    body = await connection.fetchval(_INPUTS, job_id, name)
    return None if body is None else rows.spec(body).inputs


async def of_live_jobs(connection: pool.Connection, others: Collection[str]) -> list[bytes]:
    """Bundles of all running jobs, and of others."""
    found = await connection.fetch(_OF_JOBS, list(others))
    return [bytes.fromhex(row["bundle"]) for row in found]
