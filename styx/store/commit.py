"""commit(delta): one statement, one round trip, all or nothing.

Each set of touched tables has one prepared statement, built of data-modifying CTEs. It holds the
leader's fence in share mode until it ends, guards each changed row by the version before, and raises
when the fence has another term or a count does not match: a statement of its own is a transaction of
its own. Rows cross as JSON, one document for each table: msgspec writes a row in 3 µs, where the
driver's arrays, one for each column, cost 14.

A submission too big for one statement goes in slices, in a transaction: it never is in memory as
rows and as text at once. The rows of a block are made by Postgres, from one of them.
"""

import asyncio
import functools
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import msgspec

from styx.core.audit import Entry
from styx.core.block import HEAD, Block
from styx.core.delta import Delta
from styx.core.ids import TaskId
from styx.store import rows
from styx.store.pool import Connection

SLICE: Final = 10_000  # rows of one statement
BLOCK_SLICE: Final = 50_000  # rows of one statement that Postgres makes by itself
LARGE: Final = 2_000  # rows; more would hold the event loop for too long, and are a thread's

_FENCE: Final = "SELECT 1 FROM leader_fence WHERE id = 1 AND term = $1 FOR SHARE"
_encode: Final = msgspec.json.Encoder().encode


class Write(NamedTuple):
    """Rows of one table that are all new, or all replace the version before."""

    table: rows.Table
    new: bool


Batch = tuple[Write, Sequence[Any]]


async def commit(connection: Connection, term: int, delta: Delta) -> None:
    """Raises: the driver's errors; `pool.STALE` for another term or a version that is not there."""
    large = len(delta.tasks) > LARGE
    batches = await asyncio.to_thread(_batches, delta) if large else _batches(delta)
    if not delta.blocks and sum(len(values) for _, values in batches) <= SLICE:
        await _run(connection, term, batches, delta.audit)
        return
    async with connection.transaction():
        for write, values in batches:
            for start in range(0, len(values), SLICE):
                await _run(connection, term, [(write, values[start : start + SLICE])])
        for block in delta.blocks:
            for start in range(0, block.width, BLOCK_SLICE):
                await _fill(connection, term, block, start, min(BLOCK_SLICE, block.width - start))
        await _run(connection, term, [], delta.audit)


async def _fill(connection: Connection, term: int, block: Block, start: int, count: int) -> None:
    document = _document(Write(rows.TASKS, new=True), [block.row(start)])
    await connection.fetchrow(_FILL, term, document, count)


async def _run(
    connection: Connection, term: int, batches: Sequence[Batch], told: Sequence[Entry] = ()
) -> None:
    statement = _statement(tuple(write for write, _ in batches), audited=bool(told))
    arguments: list[object] = []
    for write, values in batches:
        if len(values) > LARGE:
            document = await asyncio.to_thread(_document, write, values)
        else:
            document = _document(write, values)
        arguments += [document, len(values)]
    if told:
        arguments.append([_encode(entry).decode() for entry in told])
    await connection.fetchrow(statement, term, *arguments)


def _document(write: Write, values: Sequence[Any]) -> str:
    document, new = write.table.document, write.new
    return _encode([document(value, new) for value in values]).decode()


def _batches(delta: Delta) -> list[Batch]:
    """Changed rows before new ones: the end of one attempt makes room for the next in `one_live`."""
    tables: list[tuple[rows.Table, Sequence[Any]]] = [
        (rows.JOBS, list(delta.jobs.values())),
        (rows.TASKS, list(delta.tasks.values())),
        (rows.ATTEMPTS, list(delta.attempts.values())),
        (rows.AGENTS, list(delta.agents.values())),
    ]
    changed: list[Batch] = [
        (Write(table, new=False), [value for value in values if value.version != 1])
        for table, values in tables
    ]
    specs = [(Write(rows.SPECS, new=True), _specs(delta))]
    new: list[Batch] = [
        (Write(table, new=True), [value for value in values if value.version == 1])
        for table, values in tables
    ]
    return [batch for batch in (*changed, *specs, *new) if batch[1]]


def _specs(delta: Delta) -> list[rows.NewSpec]:
    firsts = {block.first.spec_id: block.first for block in delta.blocks}
    return [
        rows.NewSpec(id_, spec, firsts.get(id_) or delta.tasks[TaskId(id_)])
        for id_, spec in delta.specs.items()
    ]


@functools.cache
def _statement(writes: tuple[Write, ...], *, audited: bool) -> str:
    """At most 2 to the 10 of them: nine kinds of write, and the audit trail."""
    parts = [f"fence AS MATERIALIZED ({_FENCE})"]
    checks = ["styx_expect('the leader''s fence', 1, (SELECT count(*) FROM fence))"]
    for number, write in enumerate(writes):
        document, count = f"${2 * number + 2}", f"${2 * number + 3}"
        parts.append(
            f"w{number} AS ({_insert(write.table, document) if write.new else _update(write.table, document)})"
        )
        checks.append(
            f"styx_expect('{write.table.name}', {count}, (SELECT count(*) FROM w{number}))"
        )
    if audited:
        checks.append(f"styx_audit(${2 * len(writes) + 2}::text[])")
    # The order of the checks is the order in which the writes happen.
    return f"WITH {', '.join(parts)} SELECT {', '.join(checks)}"


def _given(document: str, types: dict[str, str]) -> str:
    columns = ", ".join(f"{name} {kind}" for name, kind in types.items())
    return f"json_to_recordset({document}::json) AS given ({columns})"


def _insert(table: rows.Table, document: str) -> str:
    return (
        f"INSERT INTO {table.name} ({table.names()}) "
        f"SELECT {', '.join(map(table.given, table.types))}"
        f" FROM {_given(document, dict(table.types))} RETURNING 1"
    )


def _update(table: rows.Table, document: str) -> str:
    types = {name: kind for name, kind in table.types.items() if name not in table.fixed}
    sets = ", ".join(f"{name} = {table.given(name)}" for name in types if name not in table.key)
    same = " AND ".join(f"old.{name} = given.{name}" for name in table.key)
    return (
        f"UPDATE {table.name} AS old SET {sets} FROM {_given(document, types)} "
        f"WHERE {same} AND old.version = given.version - 1 RETURNING 1"
    )


def _filled() -> str:
    """`count` rows from the one given on, whose ids and indexes count up."""
    last = f"('x' || lpad(right(given.id::text, -{HEAD}), 16, '0'))::bit(64)::bigint"
    made = {
        "id": f"(left(given.id::text, {HEAD}) || lpad(to_hex({last} + i), 12, '0'))::uuid",
        "array_index": "given.array_index + i",
    }
    columns = ", ".join(made.get(name) or rows.TASKS.given(name) for name in rows.TASKS.types)
    return (
        f"WITH fence AS MATERIALIZED ({_FENCE}), filled AS (INSERT INTO tasks ({rows.TASKS.names()})"
        f" SELECT {columns} FROM {_given('$2', dict(rows.TASKS.types))},"
        " generate_series(0, $3::integer - 1) AS i RETURNING 1)"
        " SELECT styx_expect('the leader''s fence', 1, (SELECT count(*) FROM fence)),"
        " styx_expect('tasks', $3, (SELECT count(*) FROM filled))"
    )


_FILL: Final = _filled()
