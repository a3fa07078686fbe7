"""The database's own guards, against the tables of the core: they cannot drift apart unseen."""

import itertools
from collections.abc import Mapping
from typing import Any

import asyncpg
import pytest

from styx.core import attempt, job, task
from styx.errors import WriteRefused
from styx.store import pool
from styx.store.postgres import Database
from tests.support import made

States = Mapping[Any, frozenset[Any]]


def reached(table: States, state: Any) -> set[Any]:
    """By one step or more: a turn may take several, and the database sees where it ends."""
    found: set[Any] = set()
    todo = [state]
    while todo:
        new = table[todo.pop()] - found
        found |= new
        todo += new
    return found


@pytest.mark.parametrize(
    ("name", "states"),
    [("jobs", job.NEXT), ("tasks", task.NEXT), ("attempts", attempt.NEXT)],
)
async def test_every_move_is_allowed_or_refused_as_the_core_s_table_says(
    database: Database, name: str, states: States
):
    a_job = made.job()
    a_task = made.task(a_job)
    await database.commit(made.delta(a_job, a_task, made.attempt(a_task)))
    async with database.writers.acquire() as connection:
        for before, after in itertools.product(states, states):
            transaction = connection.transaction()
            await transaction.start()
            await connection.execute("SET LOCAL session_replication_role = replica")
            await connection.execute(f"UPDATE {name} SET state = $1", before)
            await connection.execute("SET LOCAL session_replication_role = origin")
            refused = ""
            try:
                await connection.execute(f"UPDATE {name} SET state = $1", after)
            except asyncpg.PostgresError as error:
                refused = error.sqlstate
            await transaction.rollback()
            allowed = after is before or after in reached(states, before)
            assert refused == ("" if allowed else pool.GUARD), (name, before, after)


async def test_attempts_are_counted_one_by_one(database: Database):
    a_job = made.job()
    a_task = made.task(a_job)
    await database.commit(made.delta(a_job, a_task))
    counted = pool.Violations.count
    for number in (2, 3):
        with pytest.raises(WriteRefused):
            await database.commit(made.delta(made.next_version(a_task, attempt=number)))
        with pytest.raises(WriteRefused):
            await database.commit(made.delta(made.attempt(a_task, number)))
    first = made.active(a_task)
    await database.commit(made.delta(first, made.attempt(a_task, 1)))
    with pytest.raises(WriteRefused):  # back again
        await database.commit(made.delta(made.next_version(first, attempt=0)))
    assert pool.Violations.count == counted + 5
    await database.commit(
        made.delta(
            made.ended(made.attempt(a_task, 1), attempt.AttemptState.LOST),
            made.active(first),
            made.attempt(a_task, 2),
        )
    )
