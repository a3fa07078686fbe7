"""commit(delta): one statement, one round trip, all or nothing.

Each set of touched tables has one prepared statement, built of data-modifying CTEs. It holds the
leader's fence in share mode until it ends, guards each changed row by the version before, and raises
when the fence has another term or a count does not match: a statement of its own is a transaction of
its own. (One row: half the time of BEGIN, four statements, COMMIT.)
"""

import functools
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from styx.core.delta import Delta
from styx.core.ids import TaskId
from styx.store import rows
from styx.store.pool import Connection

_FENCE: Final = "SELECT 1 FROM leader_fence WHERE id = 1 AND term = $1 FOR SHARE"


class Write(NamedTuple):
    """Rows of one table that are all new, or all replace the version before."""

    table: rows.Table
    new: bool


async def commit(connection: Connection, term: int, delta: Delta) -> None:
    """Raises: the driver's errors; `ST001` for another term or a version that is not there."""
    batches = list(_batches(delta))
    statement = _statement(tuple(write for write, _ in batches))
    arguments = [
        [column.read(value) for value in values]
        for write, values in batches
        for column in _columns(write)
    ]
    await connection.fetchrow(statement, term, *arguments)


def _batches(delta: Delta) -> list[tuple[Write, Sequence[Any]]]:
    """Changed rows before new ones: the end of one attempt makes room for the next in `one_live`."""
    new: list[tuple[Write, Sequence[Any]]] = []
    changed: list[tuple[Write, Sequence[Any]]] = []
    if delta.specs:
        specs = [
            rows.NewSpec(spec_id, spec, delta.tasks[TaskId(spec_id)])
            for spec_id, spec in delta.specs.items()
        ]
        new.append((Write(rows.SPECS, new=True), specs))
    for table, values in (
        (rows.JOBS, delta.jobs.values()),
        (rows.TASKS, delta.tasks.values()),
        (rows.ATTEMPTS, delta.attempts.values()),
        (rows.AGENTS, delta.agents.values()),
    ):
        fresh = [value for value in values if value.version == 1]
        if fresh:
            new.append((Write(table, new=True), fresh))
        if len(fresh) < len(values):
            replaced = [value for value in values if value.version != 1]
            changed.append((Write(table, new=False), replaced))
    return changed + new


def _columns(write: Write) -> list[rows.Column]:
    if write.new:
        return list(write.table.columns)
    return [c for c in write.table.columns if not c.fixed or c.name in write.table.key]


@functools.cache
def _statement(writes: tuple[Write, ...]) -> str:
    """At most 2 to the 9 of them: nine kinds of write."""
    parts = [f"fence AS MATERIALIZED ({_FENCE})"]
    checks = ["styx_expect('leader_fence at this term', 1, (SELECT count(*) FROM fence))"]
    first = 2
    for number, write in enumerate(writes):
        columns = _columns(write)
        arrays = ", ".join(
            f"${first + i}::{column.sent or column.type}[]" for i, column in enumerate(columns)
        )
        names = ", ".join(column.name for column in columns)
        given = f"unnest({arrays}) AS given ({names})"
        parts.append(
            f"w{number} AS ({_insert(write, given) if write.new else _update(write, given)})"
        )
        checks.append(
            f"styx_expect('{write.table.name}', cardinality(${first}), "
            f"(SELECT count(*) FROM w{number}))"
        )
        first += len(columns)
    # The order of the checks is the order in which the writes happen.
    return f"WITH {', '.join(parts)} SELECT {', '.join(checks)}"


def _insert(write: Write, given: str) -> str:
    values = ", ".join(
        f"given.{c.name}::{c.type}" if c.sent else f"given.{c.name}" for c in write.table.columns
    )
    return (
        f"INSERT INTO {write.table.name} ({write.table.names()}) "
        f"SELECT {values} FROM {given} RETURNING 1"
    )


def _update(write: Write, given: str) -> str:
    table = write.table
    sets = ", ".join(f"{c.name} = given.{c.name}" for c in table.columns if not c.fixed)
    same = " AND ".join(f"old.{name} = given.{name}" for name in table.key)
    return (
        f"UPDATE {table.name} AS old SET {sets} FROM {given} "
        f"WHERE {same} AND old.version = given.version - 1 RETURNING 1"
    )
