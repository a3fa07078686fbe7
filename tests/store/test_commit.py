"""What is particular to Postgres in a commit; the contract itself is in tests/conformance."""

from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from styx.core.agent import Agent, Capacity, Gpu
from styx.core.attempt import Attempt, AttemptState, Exit
from styx.core.ids import AttemptKey
from styx.core.job import Job, JobState
from styx.core.spec import On, TaskSpec
from styx.core.task import Task, TaskState
from styx.errors import StoreUnavailable, WriteRefused
from styx.store import commit
from styx.store.postgres import Database
from tests.support import made

# A database for all examples of a property: their ids are their own.
PROPERTY = settings(
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
MOMENTS = some.datetimes(timezones=some.just(made.NOW.tzinfo))
# Postgres's text has no NUL; what is only carried may have it, inside its JSON.
TEXT = some.text(some.characters(exclude_categories=["Cs"], exclude_characters="\0"))
ANY_TEXT = some.text(some.characters(exclude_categories=["Cs"]))
COUNT = some.integers(0, 2**31 - 1)


SIZES = some.integers(0, 2**53)
CAPACITIES = some.builds(
    Capacity,
    cpus_milli=COUNT,
    memory_bytes=SIZES,
    disk_bytes=SIZES,
    gpus=some.lists(some.builds(Gpu, ANY_TEXT, SIZES), max_size=3).map(tuple),
    arch=ANY_TEXT,
)


def anything(struct: type[Any], **given: some.SearchStrategy[Any]) -> some.SearchStrategy[Any]:
    """A value of the struct with something in every field, ids and version as for a new row."""
    by_type: dict[Any, some.SearchStrategy[Any]] = {
        Capacity: CAPACITIES,
        str: TEXT,
        int: COUNT,
        int | None: some.none() | COUNT,
        bool: some.booleans(),
        float: some.floats(0, 1e9),
        datetime: MOMENTS,
        datetime | None: some.none() | MOMENTS,
        dict[str, str]: some.dictionaries(TEXT, TEXT, max_size=3),
    }
    ids = {"id", "job_id", "agent_id"}
    fields = {
        field.name: some.builds(made.new_id)
        if field.name in ids
        else by_type.get(field.type, some.from_type(field.type))
        for field in msgspec.structs.fields(struct)
    }
    return some.builds(struct, **{**fields, "version": some.just(1), **given})


SPECS = some.builds(
    TaskSpec,
    name=TEXT,
    argv=some.lists(ANY_TEXT).map(tuple),
    script=ANY_TEXT,
    env=some.dictionaries(ANY_TEXT, ANY_TEXT, max_size=3),
    labels=some.dictionaries(TEXT, TEXT, max_size=3),
    timeout_s=some.none() | some.floats(0, 1e9),
    array_count=some.none() | COUNT,
)
EDGES = some.lists(some.tuples(some.builds(made.new_id), some.sampled_from(On)), max_size=4)
KEYS = some.builds(AttemptKey, some.builds(made.new_id), some.just(1), COUNT)
EXITS = some.builds(
    Exit, code=some.none() | COUNT, signal=some.none(), detail=ANY_TEXT, cpu_ms=some.none() | COUNT
)


@PROPERTY
@given(job=anything(Job, idem_key=some.builds(made.new_id)))
async def test_a_job_comes_back_as_it_was(database: Database, job: Job):
    await database.commit(made.delta(job))
    assert await database.query.job(job.id) == job


@PROPERTY
@given(
    task=anything(
        Task,
        spec=SPECS,
        spec_id=some.just(""),
        needs=some.just(()),
        taken_from=some.none() | some.builds(made.new_id),
    ),
    edges=EDGES,
)
async def test_a_task_comes_back_as_it_was(database: Database, task: Task, edges: Any):
    needs = tuple(made.Edge(task_id, on) for task_id, on in edges)
    task = msgspec.structs.replace(task, spec_id=task.id, needs=needs)
    await database.commit(made.delta(task))
    assert await database.query.task(task.id) == (task, [])


@PROPERTY
@given(attempt=anything(Attempt, key=KEYS, exit=some.none() | EXITS))
async def test_an_attempt_comes_back_as_it_was(database: Database, attempt: Attempt):
    await database.commit(made.delta(attempt))
    assert await database.query.attempts(attempt.task_id) == [attempt]


@PROPERTY
@given(agent=anything(Agent))
async def test_an_agent_comes_back_as_it_was(database: Database, agent: Agent):
    await database.commit(made.delta(agent))
    assert agent in (await database.load()).agents


def over(row: Any, **fields: Any) -> Any:
    return made.next_version(row, **fields)


@pytest.mark.parametrize("end", [JobState.SUCCEEDED, JobState.FAILED])
async def test_the_database_itself_keeps_a_job_s_end(database: Database, end: JobState):
    job = made.job()
    await database.commit(made.delta(job))
    done = over(job, state=end)
    await database.commit(made.delta(done))
    with pytest.raises(WriteRefused, match="must not be"):
        await database.commit(made.delta(over(done, state=JobState.RUNNING)))
    await database.commit(made.delta(over(done, finished_at=made.NOW)))


async def test_the_database_itself_keeps_a_task_s_and_an_attempt_s_end(database: Database):
    job = made.job()
    task = made.task(job)
    attempt = made.attempt(task)
    await database.commit(made.delta(job, task, attempt))
    task_over = over(task, state=TaskState.CANCELLED)
    attempt_over = over(attempt, state=AttemptState.REJECTED)
    await database.commit(made.delta(task_over, attempt_over))
    for risen in (
        over(task_over, state=TaskState.READY),
        over(attempt_over, state=AttemptState.RUNNING),
    ):
        with pytest.raises(WriteRefused, match="must not be"):
            await database.commit(made.delta(risen))


@pytest.mark.parametrize(
    "row", [made.agent(id="agent-001"), made.agent(name="a\0b"), made.job(labels={"a": "\0"})]
)
async def test_a_value_that_postgres_cannot_hold_is_refused(database: Database, row: Any):
    with pytest.raises(WriteRefused):
        await database.commit(made.delta(row))


async def test_columns_that_never_change_are_not_written_again(database: Database):
    """A bug that changed them would be written nowhere, and show at the next load."""
    job = made.job()
    task = made.task(job)
    await database.commit(made.delta(job, task))
    await database.commit(made.delta(over(task, created_at=task.created_at + timedelta(1))))
    found = await database.query.task(task.id)
    assert found is not None
    assert found[0] == over(task)


async def test_a_turn_is_one_round_trip_and_by_index(database: Database):
    """However big the tables are, and whatever they were when the statement was planned."""
    job, agent = made.job(), made.agent()
    tasks = made.array(job, 3_000)
    attempts = [made.attempt(task) for task in tasks]
    await database.commit(made.delta(job, tasks, agent, *attempts))
    task, attempt = tasks[1_500], attempts[1_500]
    delta = made.delta(
        over(job), over(task), over(agent), over(attempt), made.job(), made.attempt(task, rank=1)
    )
    batches = commit._batches(delta)
    async with database.writers.acquire() as connection:
        statement = commit._statement(tuple(write for write, _ in batches), audited=False)
        values: list[object] = [database.term]
        for write, rows in batches:
            values += [commit._document(write, rows), len(rows)]
        plan = await connection.fetch(f"EXPLAIN (ANALYZE) {statement}", *values)
    text = "\n".join(row[0] for row in plan)
    for table in ("jobs", "tasks", "attempts", "agents"):
        assert f"Seq Scan on {table}" not in text, text
        assert f"Index Scan using {table}_pkey on {table}" in text, text


async def test_a_database_that_is_gone_is_unavailable(database: Database):
    async with database.readers.acquire() as connection:
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    try:
        await database.commit(made.delta(made.agent()))
    except StoreUnavailable:
        await database.load()
        await database.commit(made.delta(made.agent()))
    assert len((await database.load()).agents) == 1


def test_one_statement_for_each_set_of_tables():
    job = made.job()
    deltas = [made.delta(job, made.task(job)), made.delta(job, made.task(job))]
    shapes = {tuple(write for write, _ in commit._batches(delta)) for delta in deltas}
    assert len(shapes) == 1
