"""`cache`: the same work is done once."""

import pytest

from styx.core import cache, form, plan
from styx.core.ids import TaskId
from styx.core.job import JobState
from styx.core.spec import JobSpec
from styx.core.task import Reason, TaskState
from styx.errors import InvalidSpec
from tests.support.desk import Desk, a_capacity


def job(**tasks) -> JobSpec:
    return form.check_job({"tasks": {name: {"run": "x", **task} for name, task in tasks.items()}})


def key(job_: JobSpec, name: str = "a") -> str:
    return next(spec.cache_key for spec in job_.tasks if spec.name == name)


PLAIN = key(job(a={"cache": True}))


@pytest.mark.parametrize(
    "same",
    [
        {"retries": 3},
        {"resources": {"cpus": 4}},
        {"labels": {"a": "b"}},
        {"timeout": 5, "priority": "high"},
        {"array": 3},
    ],
)
def test_what_does_not_bear_on_the_result_leaves_the_key(same):
    assert key(job(a={"cache": True, **same})) == PLAIN
    assert key(job(b={"cache": True, **same}), "b") == PLAIN


@pytest.mark.parametrize(
    "other",
    [
        {"run": "y"},
        {"env": {"A": "1"}},
        {"workdir": "/x"},
        {"num_nodes": 2},
        {"matrix": {"A": [1]}},
    ],
)
def test_what_does_changes_it(other):
    assert key(job(a={"cache": True, **other})) != PLAIN


def test_what_is_not_cached_has_no_key():
    assert key(job(a={})) == ""
    assert form.check_alone({"run": "x", "cache": True}).tasks[0].cache_key == PLAIN


def test_a_key_tells_what_its_task_needs():
    def report(run: str, on: str = "success") -> str:
        needs = [{"task": "a", "on": on}]
        return key(job(a={"cache": True, "run": run}, r={"cache": True, "needs": needs}), "r")

    assert len({report("x"), report("y"), report("x", "done"), PLAIN}) == 4
    assert report("x") == report("x")


def test_what_needs_something_that_runs_anew_each_time_is_refused():
    with pytest.raises(InvalidSpec) as refused:
        job(a={}, b={"needs": ["a"], "cache": True})
    (error,) = refused.value.errors
    assert error.path == "tasks.b.cache"
    assert "needs a, which runs anew each time" in error.message


def known(*pairs) -> dict[cache.Key, TaskId]:
    return {pair: TaskId(f"old-{n}") for n, pair in enumerate(pairs)}


def test_elements_are_known_by_their_values():
    sweep = job(a={"cache": True, "array": {"over": ["p", "q", "r"]}})
    taken = cache.taken(sweep, known((PLAIN, "r"), (PLAIN, "0")))
    assert taken == {2: "old-0"}
    counted = job(a={"cache": True, "array": 3})
    assert cache.taken(counted, known((PLAIN, "r"), (PLAIN, "0"))) == {0: "old-1"}


def test_what_needs_something_that_runs_runs_as_well():
    chain = job(
        late={"cache": True, "needs": ["a", "b"], "run": "z"},
        a={"cache": True},
        b={"cache": True, "run": "y", "array": 2},
    )
    every = known((key(chain, "late"), ""), (key(chain), ""), (key(chain, "b"), "0"))
    assert cache.taken(chain, every) == {1: "old-1", 2: "old-2"}
    every |= known((key(chain, "late"), ""), (key(chain), ""), (key(chain, "b"), "1"))
    assert cache.taken(chain, every).keys() == {0, 1, 2, 3}


CHAIN = job(a={"cache": True}, b={"cache": True, "needs": ["a"], "array": 2}, c={"needs": ["b"]})


@pytest.mark.parametrize("beside", [False, True])
def test_the_rest_of_a_job_goes_on_from_there(beside: bool):
    d = Desk()
    d.join(capacity=a_capacity(8))
    old = TaskId("old")
    a, b0, b1, c = d.take(CHAIN, {0: old, 1: old}, beside=beside)
    assert (d.tasks[a].state, d.tasks[a].reason) == (TaskState.SUCCEEDED, Reason.CACHED)
    assert (d.tasks[a].taken_from, d.tasks[a].attempt) == (old, 0)
    assert [d.status(i) for i in (b0, b1, c)] == ["succeeded", "assigned", "blocked"]
    d.exit(b1)
    assert d.status(c) == "assigned"
    d.exit(c)
    assert d.last_job not in d.world.jobs


@pytest.mark.parametrize("beside", [False, True])
def test_a_job_of_which_nothing_is_left_is_over_at_once(beside: bool):
    d = Desk()
    old = TaskId("old")
    ids = d.take(job(a={"cache": True, "array": 3}), dict.fromkeys(range(3), old), beside=beside)
    assert {d.status(i) for i in ids} == {"succeeded"}
    assert d.jobs[d.last_job].state is JobState.SUCCEEDED
    assert not d.world.jobs


def test_a_plan_counts_them():
    d = Desk()
    d.join(capacity=a_capacity(8))
    old = TaskId("old")
    a, b, c = plan.plan(d.world, CHAIN, d.now, d.policy, project="default", taken={0: old, 1: old})
    assert (a.cached, a.starting, a.untried) == (1, 0, 0)
    assert (b.cached, b.starting, b.blocked) == (1, 1, 0)
    assert (c.cached, c.blocked) == (0, 1)
