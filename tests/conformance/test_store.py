"""The contract of `engine.ports.Store` and `LogStore`, for every implementation.

An implementation is a `Truth`: what outlives a server. `open()` is a server that takes it over, so a
second one deposes the first.
"""

import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Protocol

import msgspec
import pytest

from styx.core.attempt import AttemptState, Exit
from styx.core.block import Block
from styx.core.delta import Delta
from styx.core.ids import AttemptKey, TaskId
from styx.core.job import JobState
from styx.core.spec import On
from styx.core.task import Reason, TaskState
from styx.engine.ports import Chunk, LiveRows, LogStore, Store
from styx.errors import StaleWrite, WriteRefused
from styx.store.logs import LogFiles
from styx.store.postgres import Database
from tests.support import made


class Truth(Protocol):
    async def open(self) -> tuple[Store, LogStore]: ...
    async def close(self) -> None: ...


class PostgresTruth:
    def __init__(self, url: str, directory: Path) -> None:
        self._url = url
        self._directory = directory
        self._opened = AsyncExitStack()

    async def open(self) -> tuple[Store, LogStore]:
        database = await Database.open(self._url)
        # As if it had been silent for longer than its lease: the next may take over.
        async with database.writers.acquire() as connection:
            await connection.execute("UPDATE leader_lease SET expires_at = now()")
        logs = LogFiles(database, self._directory)
        self._opened.push_async_callback(database.close)
        self._opened.callback(logs.close)
        return database, logs

    async def close(self) -> None:
        await self._opened.aclose()


@pytest.fixture(params=["postgres"])
async def truth(
    request: pytest.FixtureRequest, database_url: str, tmp_path: Path
) -> AsyncIterator[Truth]:
    implementations = {"postgres": PostgresTruth}
    truth: Truth = implementations[request.param](database_url, tmp_path)
    yield truth
    await truth.close()


@pytest.fixture
async def store(truth: Truth) -> Store:
    return (await truth.open())[0]


@pytest.fixture
async def logs(truth: Truth) -> LogStore:
    return (await truth.open())[1]


def by_id(rows: LiveRows) -> dict[Any, Any]:
    live = [*rows.jobs, *rows.tasks, *rows.agents]
    return {row.id: row for row in live} | {attempt.key: attempt for attempt in rows.attempts}


async def test_an_empty_store_holds_nothing(store: Store):
    assert await store.load() == LiveRows([], [], [], [], {}, {})


async def test_an_empty_delta_is_a_commit_too(store: Store):
    await store.commit(Delta(made.NOW))


async def test_what_is_committed_is_loaded(store: Store):
    job = made.job(labels={"a": "b"}, idem_key="once", body_sha256="00", total=4)
    first = made.task(job, made.spec("first", env={"K": "V"}, labels={"x": "y"}))
    second = made.task(job, needs=made.needs(first, on=On.DONE), state=TaskState.BLOCKED)
    elements = made.array(job, 2, needs=made.needs(first, second), state=TaskState.BLOCKED)
    attempt, agent = made.attempt(first, rank=1, choice=2), made.agent()
    await store.commit(made.delta(job, first, second, elements, attempt, agent))
    loaded = by_id(await store.load())
    assert loaded == {row.id: row for row in (job, first, second, *elements, agent)} | {
        attempt.key: attempt
    }


async def test_a_change_replaces_the_row(store: Store):
    job = made.job()
    task = made.task(job)
    await store.commit(made.delta(job, task))
    changed = made.next_version(
        task,
        state=TaskState.ACTIVE,
        attempt=1,
        user_failures=2,
        infra_failures=3,
        not_before=made.later(1),
        cancel_at=made.later(2),
    )
    attempt = made.attempt(task)
    await store.commit(made.delta(changed, attempt))
    running = made.next_version(
        attempt, state=AttemptState.RUNNING, accepted_at=made.later(3), started_at=made.later(4)
    )
    await store.commit(made.delta(running))
    assert by_id(await store.load()) == {
        job.id: job,
        task.id: changed,
        attempt.key: running,
    }


async def test_what_is_over_is_not_loaded_but_counted(store: Store):
    job = made.job(total=3)
    needed, other, waiting = made.task(job), made.task(job), made.task(job)
    waiting = msgspec.structs.replace(
        waiting, state=TaskState.BLOCKED, needs=made.needs(needed, other)
    )
    await store.commit(made.delta(job, needed, other, waiting))
    done = made.next_version(needed, state=TaskState.FAILED, finished_at=made.NOW)
    await store.commit(made.delta(done))
    rows = await store.load()
    assert {task.id for task in rows.tasks} == {other.id, waiting.id}
    assert rows.settled == {needed.id: TaskState.FAILED}
    assert rows.tallies == {job.id: {TaskState.FAILED: 1}}

    await store.commit(
        made.delta(
            made.next_version(job, state=JobState.FAILED, finished_at=made.NOW),
            made.next_version(other, state=TaskState.CANCELLED, finished_at=made.NOW),
            made.next_version(waiting, state=TaskState.SKIPPED, finished_at=made.NOW),
        )
    )
    assert await store.load() == LiveRows([], [], [], [], {}, {})


async def test_attempts_are_loaded_while_anybody_waits_for_them(store: Store):
    job = made.job(total=2)
    gang, other = made.task(job, made.spec(num_nodes=2)), made.task(job)
    done, running = made.attempt(gang), made.attempt(gang, rank=1)
    unread, read = made.attempt(other), made.attempt(other, rank=1)
    await store.commit(made.delta(job, gang, other))
    await store.commit(made.delta(made.active(gang), done, running, unread, read))
    await store.commit(
        made.delta(
            made.next_version(other, state=TaskState.FAILED),
            made.ended(done, logs_complete=True),
            made.ended(unread, AttemptState.FAILED),
            made.ended(read, AttemptState.FAILED, logs_complete=True),
        )
    )
    rows = await store.load()
    # `done` is over, but the try that it is a member of is not.
    assert {attempt.key for attempt in rows.attempts} == {done.key, running.key, unread.key}


async def test_a_stale_version_is_refused_and_nothing_is_written(store: Store):
    job, agent = made.job(), made.agent()
    task = made.task(job)
    await store.commit(made.delta(job, task, agent))
    twice = made.next_version(made.next_version(task))
    with pytest.raises(StaleWrite):
        await store.commit(made.delta(twice, made.next_version(agent, name="other"), made.job()))
    assert by_id(await store.load()) == {job.id: job, task.id: task, agent.id: agent}


async def test_a_new_row_that_exists_is_refused_and_nothing_is_written(store: Store):
    job = made.job(idem_key="k")
    await store.commit(made.delta(job, made.task(job)))
    before = by_id(await store.load())
    for refused in (job, made.job(idem_key="k")):
        with pytest.raises(WriteRefused):
            await store.commit(made.delta(refused, made.task(refused), made.agent()))
    assert by_id(await store.load()) == before
    same_key_elsewhere, no_key = made.job(idem_key="k", project="p"), made.job(idem_key="")
    await store.commit(made.delta(same_key_elsewhere, no_key, made.job(idem_key="")))


async def test_a_task_has_one_live_attempt_for_each_member(store: Store):
    job = made.job()
    task = made.task(job, state=TaskState.ACTIVE, attempt=1)
    first = made.attempt(task, 1)
    await store.commit(made.delta(job, task, first, made.attempt(task, 1, rank=1)))
    again = made.next_version(task, attempt=2)
    with pytest.raises(WriteRefused):
        await store.commit(made.delta(again, made.attempt(task, 2)))
    # The end of one makes room for the next in the same turn.
    await store.commit(
        made.delta(made.ended(first, AttemptState.PREEMPTED), again, made.attempt(task, 2))
    )


async def test_a_late_exit_is_recorded_beside_a_final_state(store: Store):
    job = made.job()
    task = made.task(job)
    attempt = made.attempt(task)
    lost = made.ended(attempt, AttemptState.LOST, reason=Reason.AGENT_SILENT)
    late = made.next_version(lost, exit=Exit(code=3, detail="\x00é", cpu_ms=4))
    for rows in ((job, task, attempt), (lost,), (late,)):
        await store.commit(made.delta(*rows))
    assert by_id(await store.load())[late.key] == late


async def test_a_deposed_server_writes_nothing(truth: Truth):
    old, _ = await truth.open()
    new, _ = await truth.open()
    job = made.job()
    with pytest.raises(StaleWrite):
        await old.commit(made.delta(job, made.task(job)))
    with pytest.raises(StaleWrite):
        await old.renew_lease()
    await new.commit(made.delta(job, made.task(job)))
    await new.renew_lease()
    assert [loaded.id for loaded in (await new.load()).jobs] == [job.id]


async def test_a_big_submission_is_whole_or_not_at_all(store: Store):
    job = made.job(total=25_000)
    tasks = made.array(job, 25_000)
    with pytest.raises(WriteRefused):  # the last row of all
        await store.commit(made.delta(job, tasks, made.agent(id="not an id")))
    assert not (await store.load()).jobs
    await store.commit(made.delta(job, tasks))
    rows = await store.load()
    (of,) = rows.blocks
    assert [*rows.tasks, *of.rows()] == tasks


async def test_a_block_is_written_and_read_as_its_rows(store: Store):
    job = made.job(total=1_200)
    tasks = made.array(job, 1_200)
    delta = made.delta(job)
    delta.specs[tasks[0].spec_id] = tasks[0].spec
    delta.blocks.append(Block(tasks[0]))
    await store.commit(delta)
    changed = made.next_version(
        tasks[7], state=TaskState.CANCELLED, finished_at=tasks[7].created_at
    )
    await store.commit(made.delta(changed))
    rows = await store.load()
    (of,) = rows.blocks
    assert not rows.tasks
    assert list(of.rows()) == [task for task in tasks if task.id != changed.id]
    assert rows.tallies == {job.id: {TaskState.CANCELLED: 1}}


# --- logs -----------------------------------------------------------------------------------------


def key() -> AttemptKey:
    return AttemptKey(TaskId(made.new_id()), 1, 0)


async def test_appended_bytes_move_the_head(logs: LogStore):
    one, two = key(), key()
    assert await logs.heads([one, two, one]) == {}
    assert await logs.append([Chunk(one, 1, 0, b"abc"), Chunk(two, 2, 0, b"x" * 9_000)]) == [
        3,
        9_000,
    ]
    assert await logs.append([Chunk(one, 1, 3, b"d"), Chunk(one, 1, 4, b"ef")]) == [4, 6]
    assert await logs.heads([one, two]) == {(one, 1): 6, (two, 2): 9_000}
    assert await logs.append([]) == []


async def test_what_was_seen_is_not_stored_twice(logs: LogStore):
    stream = key()
    assert await logs.append([Chunk(stream, 1, 0, b"abc")] * 2) == [3, 3]
    assert await logs.append([Chunk(stream, 1, 1, b"bc")]) == [3]
    assert await logs.append([Chunk(stream, 1, 1, b"bcde")]) == [5]
    assert await logs.append([Chunk(stream, 1, 5, b"")]) == [5]


async def test_a_chunk_past_the_end_is_refused_whole(logs: LogStore):
    stream = key()
    assert await logs.append([Chunk(stream, 1, 1, b"b")]) == [0]
    assert await logs.append([Chunk(stream, 1, 0, b"a"), Chunk(stream, 1, 2, b"c")]) == [1, 1]
    assert await logs.gap(stream, 1, 5, 9, "spool_cap") == 1


async def test_a_gap_moves_the_head(logs: LogStore):
    stream = key()
    await logs.append([Chunk(stream, 1, 0, b"ab")])
    assert await logs.gap(stream, 1, 1, 10, "spool_cap") == 10
    assert await logs.gap(stream, 1, 2, 10, "spool_cap") == 10
    assert await logs.append([Chunk(stream, 1, 8, b"89ab")]) == [12]
    assert await logs.gap(stream, 2, 0, 5, "disk_full") == 5


async def test_heads_outlive_the_server(truth: Truth):
    _, old = await truth.open()
    small, big, broken = key(), key(), key()
    await old.append([Chunk(small, 1, 0, b"abc"), Chunk(big, 2, 0, bytes(5_000))])
    await old.gap(broken, 1, 0, 7, "spool_cap")
    _, new = await truth.open()
    # Without having asked for heads, as an agent may that was connected all the time.
    assert await new.append([Chunk(small, 1, 0, b"abcd"), Chunk(big, 1, 0, b"x")]) == [4, 1]
    assert await new.append([Chunk(big, 2, 4_999, b"xy")]) == [5_001]
    assert await new.append([Chunk(broken, 1, 7, b"z")]) == [8]
    assert await new.heads([small, big, broken]) == {
        (small, 1): 4, (big, 1): 1, (big, 2): 5_001, (broken, 1): 8,
    }  # fmt: skip


async def test_any_order_of_arrival_ends_at_the_same_head(logs: LogStore):
    """Sent again and again in any order, as over connections that break."""
    stream, data = key(), bytes(range(256)) * 80
    shuffled = random.Random(7)
    pieces = [(at, data[at : at + 700]) for at in range(0, len(data), 500)]
    wanted = 0
    while wanted < len(data):
        some = shuffled.sample(pieces, 12)
        answers = await logs.append([Chunk(stream, 1, at, piece) for at, piece in some])
        assert max(answers) >= wanted
        wanted = max(answers)
    assert await logs.heads([stream]) == {(stream, 1): len(data)}
