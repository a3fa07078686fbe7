"""Reads for the API: what is asked for, newest first, page by page."""

import itertools
import random
from collections.abc import Sequence
from typing import Any

import pytest

from styx.core import status
from styx.core.attempt import Attempt, AttemptState
from styx.core.job import Job, JobState
from styx.core.task import Task, TaskState
from styx.store.postgres import Database
from styx.store.query import Detailed
from tests.support import made

EVERY_STATUS = {
    "blocked", "queued", "assigned", "running", "cancelling",
    "succeeded", "failed", "cancelled", "skipped", "lost",
}  # fmt: skip


async def commit(database: Database, *rows: Any) -> None:
    await database.commit(made.delta(*rows))


def ids(found: Sequence[Detailed]) -> list[str]:
    return [task.id for task, _ in found]


async def every_kind(database: Database) -> dict[str, list[tuple[Task, list[Attempt]]]]:
    """Two tasks in each state that there is, in jobs in each state that they can have."""
    expected: dict[str, list[tuple[Task, list[Attempt]]]] = {}
    rows: list[Any] = []
    for state, cancelling, attempt_state in itertools.product(
        TaskState, (False, True), AttemptState
    ):
        job_state = {
            TaskState.SUCCEEDED: JobState.SUCCEEDED,
            TaskState.SKIPPED: JobState.SUCCEEDED,
            TaskState.FAILED: JobState.FAILED,
            TaskState.CANCELLED: JobState.CANCELLED,
            TaskState.LOST: JobState.LOST,
        }.get(state, JobState.RUNNING)
        job = made.job(state=job_state)
        task = made.task(job, state=state, attempt=2, cancel_at=made.NOW if cancelling else None)
        before = made.attempt(task, 1, state=AttemptState.REJECTED)
        current = made.attempt(task, 2, state=attempt_state)
        rows += [job, task, before, current]
        expected.setdefault(status.of(task, [before, current]), []).append((task, [current]))
    await commit(database, *rows)
    return expected


async def test_tasks_are_found_by_their_public_status(database: Database):
    expected = await every_kind(database)
    assert expected.keys() == EVERY_STATUS
    for word, detailed in expected.items():
        found = await database.query.tasks(statuses=[word], limit=1_000)
        assert found == detailed[::-1], word
    for words in (["failed", "succeeded"], ["running", "queued", "lost"], sorted(EVERY_STATUS)):
        wanted = {task.id for word in words for task, _ in expected[word]}
        assert set(ids(await database.query.tasks(statuses=words, limit=1_000))) == wanted
    assert await database.query.tasks(statuses=["provisioning"]) == []
    assert await database.query.tasks(statuses=[]) == []


async def test_counts_use_the_same_words(database: Database):
    expected = await every_kind(database)
    for word, detailed in expected.items():
        job_ids = [task.job_id for task, _ in detailed]
        assert await database.query.job_counts(job_ids) == {id_: {word: 1} for id_ in job_ids}
    empty = made.job()
    await commit(database, empty)
    assert await database.query.job_counts([empty.id]) == {empty.id: {}}
    assert await database.query.job_counts([]) == {}


async def jobs_of(database: Database, *widths: int) -> list[Task]:
    """All tasks of some jobs, newest first: a job's tasks in the order of their ids."""
    tasks: list[Task] = []
    for width in widths:
        job = made.job(total=width)
        its = made.array(job, width)
        await commit(database, job, its)
        tasks += its
    return tasks[::-1]


async def test_pages_hold_every_task_once(database: Database):
    tasks = await jobs_of(database, 1, 7, 1, 1, 30, 2)
    for limit in (1, 4, 41, 42, 1_000):
        pages: list[str] = []
        after = None
        while page := await database.query.tasks(limit=limit, after=after):
            assert len(page) <= limit
            pages += ids(page)
            after = page[-1][0].id
        assert pages == [task.id for task in tasks]


async def test_a_page_is_not_moved_by_what_is_submitted_meanwhile(database: Database):
    tasks = await jobs_of(database, 3, 3)
    first = await database.query.tasks(limit=2)
    newer = await jobs_of(database, 2)
    second = await database.query.tasks(limit=10, after=first[-1][0].id)
    assert ids(first) + ids(second) == [task.id for task in tasks]
    assert ids(await database.query.tasks(limit=2)) == [task.id for task in newer]


async def test_tasks_of_one_job(database: Database):
    tasks = await jobs_of(database, 3, 5)
    job_id = tasks[-1].job_id
    expected = [task.id for task in tasks if task.job_id == job_id]
    assert ids(await database.query.tasks(job_id=job_id)) == expected
    assert (
        ids(await database.query.tasks(job_id=job_id, limit=2, after=expected[0])) == expected[1:3]
    )
    assert await database.query.tasks(job_id=made.new_id()) == []


async def test_tasks_by_name_and_label(database: Database):
    job = made.job(total=5)
    train = made.task(job, made.spec("train", labels={"team": "a", "gpu": "yes"}))
    other = made.task(job, made.spec("other", labels={"team": "a"}))
    plain = made.task(job, made.spec("plain"))
    sweep = made.array(job, 3, made.spec("sweep", array_count=3, labels={"team": "b"}))
    await commit(database, job, train, other, plain, sweep)
    again = made.job()
    newer = made.task(again, made.spec("train"))
    await commit(database, again, newer)
    query = database.query
    assert ids(await query.tasks(name="train")) == [newer.id, train.id]
    assert ids(await query.tasks(name="train", limit=1)) == [newer.id]
    assert ids(await query.tasks(name="train", after=newer.id)) == [train.id]
    assert ids(await query.tasks(name="sweep")) == [task.id for task in sweep[::-1]]
    assert ids(await query.tasks(name="sweep/1")) == [sweep[1].id]
    assert await query.tasks(name="trai") == await query.tasks(name="sweep/3") == []
    assert ids(await query.tasks(labels={"team": "a"})) == [other.id, train.id]
    assert ids(await query.tasks(labels={"team": "a", "gpu": "yes"})) == [train.id]
    assert await query.tasks(labels={"team": "a"}, name="plain") == []
    assert len(await query.tasks(labels={})) == 7


async def test_tasks_since(database: Database):
    old, new = made.job(created_at=made.later(-7_200)), made.job(created_at=made.NOW)
    for job in (old, new):
        await commit(database, job, made.task(job, created_at=job.created_at))
    assert len(await database.query.tasks(since=made.later(-9_000))) == 2
    (found,) = await database.query.tasks(since=made.later(-1))
    assert found[0].job_id == new.id
    assert [job.id for job in await database.query.jobs(since=made.later(-1))] == [new.id]


async def test_since_does_not_walk_past_the_ids_of_its_time(database: Database):
    """A row whose id says that it is older by more than clocks differ is not looked at."""
    job = made.job(created_at=made.later(10**6))  # its id is of `made.NOW`
    await commit(database, job)
    assert await database.query.jobs(since=made.later(10**6 - 1)) == []


async def test_a_task_has_all_its_attempts(database: Database):
    job = made.job()
    task = made.task(job, state=TaskState.ACTIVE, attempt=2)
    attempts = [
        made.attempt(task, 1, state=AttemptState.FAILED),
        made.attempt(task, 2, rank=0),
        made.attempt(task, 2, rank=1, state=AttemptState.RUNNING),
    ]
    shuffled = random.Random(1).sample(attempts, 3)
    await commit(database, job, task, *shuffled)
    assert await database.query.task(task.id) == (task, attempts)
    assert await database.query.attempts(task.id) == attempts
    assert await database.query.tasks() == [(task, attempts[1:])]
    assert await database.query.task(made.new_id()) is None
    assert await database.query.attempts(made.new_id()) == []


@pytest.mark.parametrize("text", ["", "no id", "nul\0", "0123", "z" * 32, "'; DROP TABLE jobs"])
async def test_a_text_that_is_no_id_finds_nothing(database: Database, text: str):
    await jobs_of(database, 1)
    query = database.query
    assert await query.task(text) is None
    assert await query.job(text) is None
    assert await query.tasks(after=text) == await query.tasks(job_id=text) == []
    assert await query.resolve_task(text) == await query.resolve_job(text) == []
    assert await query.tasks(name=text) == await query.jobs(name=text) == []
    assert len(await query.tasks()) == 1


async def test_what_a_user_writes_for_a_task(database: Database):
    job = made.job(total=5)
    names = [made.task(job, made.spec(name)) for name in ("a", "b", "abcd")]
    sweep = made.array(job, 12, made.spec("sweep", array_count=12))
    single = made.array(job, 1, made.spec("single", array_count=1))
    await commit(database, job, *names, sweep, single)
    again = made.job()
    newest = made.task(again, made.spec("a"))
    await commit(database, again, newest)
    resolve = database.query.resolve_task
    assert await resolve("last") == [newest.id]
    assert await resolve("a") == [newest.id]
    assert await resolve("b") == [names[1].id]
    assert await resolve(names[0].id) == [names[0].id]
    assert await resolve("sweep/11") == [sweep[11].id]
    assert await resolve("sweep") == [sweep[0].id, sweep[1].id]
    assert await resolve("single") == [single[0].id]
    assert await resolve("sweep/12") == await resolve("nosuch") == await resolve("b/0") == []
    # A name wins over a prefix; made ids share all but their last digits.
    assert await resolve("abcd") == [names[2].id]
    assert len(await resolve(newest.id[:12])) == 2
    assert await resolve(newest.id[:3]) == []
    assert await resolve(newest.id.replace("-", "")) == []  # not how an id is written
    assert await resolve(newest.id[:9].replace("-", "x")) == []


async def test_a_prefix_is_a_range(database: Database):
    first, second = "aaaa1111-0000-7000-8000-000000000000", "aaaa1111-ffff-7fff-bfff-ffffffffffff"
    other = "aaaa1112-0000-7000-8000-000000000000"
    for id_ in (first, second, other):
        job = made.job(id=id_)
        await commit(database, job, made.task(job, id=id_))
    for resolve in (database.query.resolve_task, database.query.resolve_job):
        assert await resolve("aaaa") == [first, second]
        assert await resolve("aaaa1111") == [first, second]
        assert await resolve("aaaa1111-") == [first, second]
        assert await resolve("aaaa1111-f") == [second]
        assert await resolve("aaaa1112") == [other]
        assert await resolve("aaa") == await resolve("aaaa1113") == []


async def test_jobs_are_found_and_paged(database: Database):
    jobs = [made.job(name=f"job-{i % 2}", labels={"n": str(i)}) for i in range(6)]
    jobs[3] = made.job(
        id=jobs[3].id, state=JobState.LOST, finished_at=made.NOW, name="job-1", labels={"n": "3"}
    )
    await commit(database, *jobs)
    query = database.query
    newest = jobs[::-1]
    assert await query.jobs() == newest
    assert await query.jobs(limit=2) == newest[:2]
    assert await query.jobs(limit=2, after=newest[1].id) == newest[2:4]
    assert await query.jobs(name="job-1") == [jobs[5], jobs[3], jobs[1]]
    assert await query.jobs(labels={"n": "4"}) == [jobs[4]]
    assert await query.jobs(states=[JobState.LOST, JobState.FAILED]) == [jobs[3]]
    assert await query.resolve_job("job-0") == [jobs[4].id]
    assert await query.resolve_job("last") == [jobs[5].id]
    assert await query.job(jobs[0].id) == jobs[0]


async def test_a_job_by_its_idempotency_key(database: Database):
    jobs = [made.job(idem_key="k"), made.job(idem_key="k", project="p"), made.job()]
    await commit(database, *jobs)
    assert await database.query.job_by_key("default", "k") == jobs[0]
    assert await database.query.job_by_key("p", "k") == jobs[1]
    assert await database.query.job_by_key("p", "other") is None
    assert await database.query.job_by_key("default", "") is None


async def test_the_graph_of_a_job(database: Database):
    job = made.job(total=1_203)
    fetch = made.task(job, made.spec("fetch"), state=TaskState.SUCCEEDED)
    sweep = made.array(
        job, 1_200, made.spec("sweep", array_count=1_200), needs=made.needs(fetch),
        state=TaskState.READY,
    )  # fmt: skip
    report = made.task(job, made.spec("report"), needs=made.needs(*sweep), state=TaskState.BLOCKED)
    await commit(database, job, fetch, sweep, report)
    await jobs_of(database, 2)
    specs = await database.query.job_specs(job.id)
    assert [(s.spec.name, s.needs, s.counts) for s in specs] == [
        ("fetch", (), {"succeeded": 1}),
        ("sweep", sweep[0].needs, {"queued": 1_200}),
        ("report", report.needs, {"blocked": 1}),
    ]
    assert [s.task_ids for s in specs] == [
        [fetch.id],
        [task.id for task in sweep[:1_000]],
        [report.id],
    ]
    assert await database.query.job_specs(made.new_id()) == []


async def test_a_page_does_not_cost_more_in_a_big_table(database: Database):
    """Rows that a page of 50 reads, among 20,000 tasks: a few times its own."""
    for _ in range(2):
        job = made.job(total=10_000, state=JobState.SUCCEEDED)
        await commit(database, job, made.array(job, 10_000, state=TaskState.SUCCEEDED))
    single: list[Job] = [made.job() for _ in range(3_000)]
    await commit(database, *single, *(made.task(job) for job in single))
    middle = (await database.query.tasks(limit=1_000, job_id=job.id))[-1][0].id
    async with database.readers.acquire() as connection:
        await connection.execute("ANALYZE")
        for filters in ({}, {"after": middle}, {"job_id": job.id}, {"statuses": ["failed"]}):
            read = await rows_read(database, connection, **filters)
            assert read < 10_000, filters


async def rows_read(database: Database, connection: Any, **filters: Any) -> int:
    count = (
        "SELECT sum(idx_tup_fetch + seq_tup_read) FROM pg_stat_user_tables"
        " WHERE relname IN ('tasks', 'specs', 'jobs', 'attempts')"
    )
    flush = "SELECT pg_stat_force_next_flush()"
    await connection.execute(flush)
    before = await connection.fetchval(count)
    await database.query.tasks(limit=50, **filters)
    async with database.readers.acquire() as reader:  # the one that has just read
        await reader.execute(flush)
    await connection.execute("SELECT pg_stat_clear_snapshot()")
    return int(await connection.fetchval(count) - before)
