"""Arrays that wait as one: whatever is asked, they answer as rows one by one would."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from styx.core import block
from styx.core import event as ev
from styx.core.block import Block, Tasks, first_of, in_a_row
from styx.core.ids import JobId, SpecId, TaskId
from styx.core.spec import Need, Priority
from styx.core.step import prepare
from tests.support.desk import START, Desk, a_capacity, a_job, a_task

WIDTH = 12


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(block, "LEAST", 3)


def an_id(number: int) -> TaskId:
    return TaskId(f"00000000-0000-7000-8000-{number:012x}")


def a_block(touched: tuple[int, ...] = ()) -> Block:
    spec = a_task(array_count=WIDTH)
    return Block(first_of(JobId("job"), SpecId(an_id(100)), spec, START), touched)


def made(*specs, **fields):
    d = Desk(**fields)
    delta, _ = prepare(d.submission(a_job(*specs)), d.now, d.policy)
    return delta


# --- what is a block ------------------------------------------------------------------------------


def test_many_elements_without_needs_are_one():
    delta = made(a_task("few", array_count=2), a_task("many", array_count=3))
    assert [b.first.spec.name for b in delta.blocks] == ["many"]
    assert {task.spec.name for task in delta.tasks.values()} == {"few"}
    assert set(delta.specs) == {
        task.spec_id for task in (*delta.tasks.values(), delta.blocks[0].first)
    }


def test_what_needs_or_is_needed_or_has_a_deadline_is_not():
    first, then = a_task("a", array_count=3), a_task("b", array_count=3, needs=(Need("a"),))
    assert not made(first, then).blocks
    assert not made(a_task(array_count=3, queue_timeout_s=9.0)).blocks


def test_ids_that_were_not_made_together_are_not():
    assert in_a_row([an_id(n) for n in (7, 8, 9)])
    assert not in_a_row([an_id(7), an_id(9)])
    assert not in_a_row([an_id(7), TaskId(an_id(8).replace("7000", "7001"))])


def test_its_rows_are_those_that_a_turn_makes():
    spec = a_task(array_count=WIDTH, priority=Priority.HIGH)
    inside, beside = Desk(), Desk()
    one_by_one = {i: inside.tasks[i] for i in inside.submit(spec)}
    beside.bring(spec)
    assert beside.tasks == one_by_one


# --- a mapping like any other ---------------------------------------------------------------------


@given(st.lists(st.tuples(st.booleans(), st.integers(0, WIDTH - 1)), max_size=40))
def test_a_block_answers_as_its_rows_would(changes):
    of = a_block()
    rows = {row.id: row for row in a_block().rows()}
    tasks = Tasks()
    tasks.add(of)
    for over, index in changes:
        task_id = of.id_of(index)
        if over:
            tasks.drop(of.row(index))
            rows.pop(task_id, None)
        elif task_id in rows:
            tasks.put(rows[task_id])
    assert dict(tasks) == rows
    assert set(tasks.of(of.first.job_id)) == set(rows)
    assert len(tasks) == len(rows)
    assert tasks.find(an_id(99)) is tasks.find(an_id(100 + WIDTH)) is None
    assert an_id(99) not in tasks
    waiting = [place.task_id for place in of.places()]
    assert waiting == sorted(waiting)
    assert of.left == len(waiting)


def test_touched_before_it_was_read():
    of = a_block(touched=(0, 1, 5))
    assert [row.array_index for row in of.rows()] == [2, 3, 4, *range(6, WIDTH)]
    assert of.index_of(of.id_of(5)) is None


# --- in a world, which the desk checks after each turn --------------------------------------------


def test_they_run_in_their_order_and_the_job_ends():
    d = Desk()
    ids = d.bring(a_task("a", array_count=WIDTH))
    d.join("a1", a_capacity(2))
    d.run_all()
    assert d.started == [f"a/{index}" for index in range(WIDTH)]
    assert {d.status(i) for i in ids} == {"succeeded"}
    assert not d.world.jobs
    assert not d.world.tasks
    assert not d.world.queues


def test_a_retry_and_others_of_the_class_keep_their_place():
    d = Desk()
    d.join("a1", a_capacity(1))
    older = d.bring(a_task("a", array_count=3, retries=1))
    d.submit(a_task("urgent", priority=Priority.HIGH), a_task("late"))
    d.exit(older[0], 1)
    d.wait(60)
    d.run_all()
    assert d.started == ["a/0", "urgent", "a/0", "a/1", "a/2", "late"]


def test_one_is_cancelled_then_all():
    d = Desk()
    d.join("a1", a_capacity(1))
    ids = d.bring(a_task("a", array_count=WIDTH))
    d.turn(ev.CancelRequested(task_ids=(ids[7],)))
    assert d.status(ids[7]) == "cancelled"
    assert d.status(ids[8]) == "queued"
    d.turn(ev.CancelRequested(job_id=d.last_job))
    d.exit(ids[0], None, signal=15, signalled=True)
    assert {d.status(i) for i in ids} == {"cancelled"}
    assert not d.world.jobs


def test_a_bound_holds():
    d = Desk()
    d.join("a1", a_capacity(8))
    d.bring(a_task("a", array_count=WIDTH, parallel=3))
    assert len(d.started) == 3
    d.run_all()
    assert len(d.started) == WIDTH


def test_two_that_wait_side_by_side_take_turns_by_age():
    d = Desk()
    d.bring(a_task("a", array_count=3), a_task("b", array_count=4))
    d.now += timedelta(seconds=1)
    d.join("a1", a_capacity(1))
    d.run_all()
    assert d.started == [f"a/{n}" for n in range(3)] + [f"b/{n}" for n in range(4)]
