"""A plan says what the scheduler would do, and changes nothing."""

from collections import Counter

import pytest

from styx.core import event as ev
from styx.core import plan
from styx.core.ids import AgentId
from styx.core.spec import Need, On, Priority, Requirements
from styx.core.task import TaskState
from tests.support.desk import Desk, a_capacity, a_job, a_task


def planned(d: Desk, *specs):
    return plan.plan(d.world, a_job(*specs), d.now, d.policy, project="default", taken={})


def counts(of: plan.Planned):
    return of.starting, of.waiting, of.blocked, of.untried


def codes(of: plan.Planned):
    return [hindrance.code for hindrance in of.hindrances]


def test_what_starts_what_waits_and_what_is_blocked():
    d = Desk()
    d.join("a1", capacity=a_capacity(2))
    d.join("a2", capacity=a_capacity(1))
    first, wide, last = planned(
        d,
        a_task("first"),
        a_task("wide", array_count=4),
        a_task("last", needs=(Need("wide", On.DONE),)),
    )
    assert [counts(each) for each in (first, wide, last)] == [
        (1, 0, 0, 0),
        (2, 2, 0, 0),
        (0, 0, 1, 0),
    ]
    where = Counter(dict(first.agents)) + Counter(dict(wide.agents))
    assert where == {AgentId("a1"): 2, AgentId("a2"): 1}
    assert codes(wide) == ["busy", "busy"]
    assert codes(last) == []


def test_nothing_is_changed_and_the_submission_does_as_planned():
    d = Desk()
    d.join("a1", capacity=a_capacity(2))
    d.submit(a_task("earlier"))
    specs = (a_task("low", priority=Priority.LOW), a_task("high", priority=Priority.HIGH))
    low, high = planned(d, *specs)
    assert planned(d, *specs) == [low, high]
    d.world.check()
    assert (counts(low), counts(high)) == ((0, 1, 0, 0), (1, 0, 0, 0))
    ids = d.submit(*specs)
    assert [d.tasks[i].state for i in ids] == [TaskState.READY, TaskState.ACTIVE]


def test_a_gang_is_whole_or_waits():
    d = Desk()
    d.join("a1")
    d.join("a2")
    gang = a_task("gang", num_nodes=2)
    assert planned(d, gang)[0].agents == ((AgentId("a1"), 1), (AgentId("a2"), 1))
    three = planned(d, a_task("three", num_nodes=3))[0]
    assert (counts(three), three.agents) == ((0, 1, 0, 0), ())
    assert codes(three)[0] == "gang_incomplete"


def test_who_waits_in_line_goes_first():
    d = Desk()
    d.join("a1", capacity=a_capacity(1))
    d.submit(a_task("busy"))
    d.submit(a_task("older"))
    (newest,) = planned(d, a_task("newest"))
    assert codes(newest) == ["behind_older", "busy"]
    assert "first older" in newest.hindrances[0].message


@pytest.mark.parametrize("needs", [(), (Need("other"),)])
def test_what_no_agent_could_ever_run_is_told_even_while_it_is_blocked(needs):
    d = Desk()
    d.join("a1", capacity=a_capacity(2))
    wanted = Requirements(cpus_milli=8_000)
    _, huge = planned(d, a_task("other"), a_task("huge", requirements=wanted, needs=needs))
    assert codes(huge) == ["too_few_cpus"]
    assert huge.hindrances[0].message == "a1 has 2 cpus, the task wants 8"


def test_without_an_agent():
    (task,) = planned(Desk(), a_task())
    assert (counts(task), codes(task)) == ((0, 1, 0, 0), ["no_agent"])


def test_agents_that_drain_take_nothing():
    d = Desk()
    d.join("a1")
    d.turn(ev.DrainRequested(AgentId("a1"), drain=True))
    (task,) = planned(d, a_task())
    assert (counts(task), codes(task)) == ((0, 1, 0, 0), ["agent_draining"])


def test_a_plan_looks_at_so_many_tasks_and_counts_the_rest():
    d = Desk()
    d.join("a1", capacity=a_capacity(plan.TRIED))
    first, second = planned(
        d, a_task("first", array_count=plan.TRIED - 1), a_task("second", array_count=10)
    )
    assert counts(first) == (plan.TRIED - 1, 0, 0, 0)
    assert counts(second) == (1, 0, 0, 9)
