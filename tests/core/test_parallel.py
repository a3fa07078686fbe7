"""`parallel`: of one spec, so many tasks are active at once and no more."""

import msgspec
import pytest

from styx.core import event as ev
from styx.core import plan
from styx.core.explain import hindrances
from styx.core.ids import AgentId
from styx.core.spec import Priority, Requirements
from styx.core.task import TaskState
from tests.support.desk import Desk, a_capacity, a_job, a_task


def active(d: Desk, ids) -> int:
    return sum(d.tasks[i].state is TaskState.ACTIVE for i in ids)


def test_no_more_than_that_and_all_in_the_end():
    d = Desk()
    d.join(capacity=a_capacity(8))
    ids = d.submit(a_task(array_count=7, parallel=3))
    most = 0
    while any(d.tasks[i].state is not TaskState.SUCCEEDED for i in ids):
        most = max(most, active(d, ids))
        running = next(i for i in ids if d.tasks[i].state is TaskState.ACTIVE)
        d.exit(running)
    assert most == 3
    assert not d.world.census.active


def test_the_room_it_leaves_is_for_others_though_they_came_later():
    d = Desk()
    d.join(capacity=a_capacity(3))
    wide = d.submit(a_task("wide", array_count=9, parallel=1, priority=Priority.HIGH))
    others = d.submit(a_task("other", array_count=3))
    assert (active(d, wide), active(d, others)) == (1, 2)


def test_a_place_that_comes_free_is_taken_on_any_agent():
    """While the bound holds, agents gain room that nobody tells the class of."""
    d = Desk()
    d.join("a1", capacity=a_capacity(1))
    (blocker,) = d.submit(a_task("blocker", priority=Priority.HIGH))
    ids = d.submit(a_task(array_count=3, parallel=1))
    assert active(d, ids) == 0  # for want of room
    d.join("a2", capacity=a_capacity(1))
    assert active(d, ids) == 1
    d.exit(blocker)  # leaves room on a1, which the bound forbids
    assert active(d, ids) == 1
    d.turn(ev.DrainRequested(AgentId("a2"), drain=True))
    d.exit(ids[0])
    assert active(d, ids) == 1  # on a1, which had room long before


def test_what_was_given_ahead_up_to_the_bound_leaves_no_agent_unseen():
    d = Desk()
    d.join("a1", msgspec.structs.replace(a_capacity(1), ahead=6))
    d.join("a2", capacity=a_capacity(1), labels={"name": "a2"})
    wanted = Requirements(labels=(("name", "a2"),))
    (blocker,) = d.submit(a_task("blocker", requirements=wanted))
    ids = d.submit(a_task(array_count=5, parallel=2))
    d.exit(ids[0], ran_ms=1)
    d.exit(ids[1], ran_ms=1)
    assert [d.live(i).agent_id for i in ids[2:4]] == ["a1", "a1"]  # one of them waits there
    d.exit(blocker)
    d.exit(ids[2], ran_ms=1)
    assert d.live(ids[4]).agent_id == "a2"


def test_elements_tried_again_share_the_bound_of_their_array():
    d = Desk()
    d.join(capacity=a_capacity(8))
    again = [a_task(f"wide-{n}", parallel=2, parallel_of="wide") for n in range(5)]
    assert active(d, d.submit(*again)) == 2


def test_each_spec_has_its_own():
    d = Desk()
    d.join(capacity=a_capacity(8))
    first = d.submit(a_task("a", array_count=3, parallel=2), a_task("b", array_count=3, parallel=1))
    again = d.submit(a_task("a", array_count=3, parallel=2))
    assert (active(d, first[:3]), active(d, first[3:]), active(d, again)) == (2, 1, 2)


def test_gangs_count_once():
    d = Desk()
    for n in range(6):
        d.join(f"a{n}", capacity=a_capacity(1))
    ids = d.submit(a_task(array_count=4, num_nodes=2, parallel=2))
    assert active(d, ids) == 2


def test_what_waits_for_its_retry_is_not_active():
    d = Desk()
    d.join(capacity=a_capacity(8))
    ids = d.submit(a_task(array_count=2, parallel=1, retries=1))
    d.exit(ids[0], 1)
    assert [d.tasks[i].state for i in ids] == [TaskState.READY, TaskState.ACTIVE]
    d.wait(60)
    assert active(d, ids) == 1
    d.exit(ids[1])
    assert active(d, ids) == 1


def test_cancelled_ones_make_room():
    d = Desk()
    d.join(capacity=a_capacity(8))
    ids = d.submit(a_task(array_count=3, parallel=1))
    d.turn(ev.CancelRequested(task_ids=ids[1:2]))
    d.exit(ids[0])
    assert [d.tasks[i].state for i in ids] == [
        TaskState.SUCCEEDED,
        TaskState.CANCELLED,
        TaskState.ACTIVE,
    ]


def test_explain_and_plan_say_so():
    d = Desk()
    d.join(capacity=a_capacity(8))
    wide = a_task("wide", array_count=5, parallel=2)
    (planned,) = plan.plan(d.world, a_job(wide), d.now, d.policy, project="default", taken={})
    assert (planned.starting, planned.waiting) == (2, 3)
    assert [h.code for h in planned.hindrances] == ["parallel"]
    ids = d.submit(wide)
    (found,) = hindrances(d.world, ids[-1], d.now, d.policy)
    assert found.message == "2 of wide are active, and no more may be at once"


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_job_made_beside_the_turns_keeps_to_it(count: int):
    d = Desk()
    d.join(capacity=a_capacity(8))
    ids = d.bring(a_task(array_count=6, parallel=count))
    assert active(d, ids) == count
