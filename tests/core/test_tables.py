"""Every pair of states moves or raises, as the table says; terminal is final."""

import itertools

import pytest

from styx.core import agent, attempt, instance, job, machine, task
from styx.errors import IllegalTransition

TABLES = [
    task.NEXT,
    attempt.NEXT,
    agent.NEXT,
    instance.NEXT,
    job.NEXT,
]


def pairs():
    for table in TABLES:
        for before, after in itertools.product(table, table):
            yield pytest.param(table, before, after, id=f"{type(before).__name__}:{before}-{after}")


@pytest.mark.parametrize(("table", "before", "after"), list(pairs()))
def test_a_move_is_in_the_table_or_raises(table, before, after):
    if after is before or after in table[before]:
        machine.check(table, before, after)
    else:
        with pytest.raises(IllegalTransition, match=f"{before} -> {after}"):
            machine.check(table, before, after)


@pytest.mark.parametrize("table", TABLES)
def test_every_state_has_a_row_and_every_target_is_a_state(table):
    states = set(type(next(iter(table))))
    assert set(table) == states
    assert set().union(*table.values()) <= states


def test_the_terminal_states_are_those_of_the_design():
    assert {str(s) for s in task.TERMINAL} == {
        "succeeded", "failed", "cancelled", "skipped", "lost",
    }  # fmt: skip
    assert {str(s) for s in attempt.TERMINAL} == {
        "succeeded", "failed", "cancelled", "preempted", "rejected", "lost",
    }  # fmt: skip
    assert {str(s) for s in instance.TERMINAL} == {"gone", "failed"}
    assert not agent.TERMINAL, "an agent that is gone may join again"


@pytest.mark.parametrize("table", TABLES)
def test_every_state_can_be_reached(table):
    first = next(iter(table))
    seen, todo = {first}, [first]
    if type(first) is task.TaskState:
        todo.append(task.TaskState.READY)
        seen.add(task.TaskState.READY)
    while todo:
        for following in table[todo.pop()] - seen:
            seen.add(following)
            todo.append(following)
    assert seen == set(table)
