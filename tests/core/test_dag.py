"""Needs: who becomes ready, who is skipped, when a job is over."""

import pytest

from styx.core import event as ev
from styx.core.job import JobState
from styx.core.policy import Policy
from styx.core.spec import Need, On, OnFailure, Priority
from styx.core.world import World
from tests.support.desk import Desk, a_capacity, a_task


def needs(*names: str, on: On = On.SUCCESS):
    return tuple(Need(name, on) for name in names)


def diamond(**fields):
    return (
        a_task("a"),
        a_task("b", needs=needs("a")),
        a_task("c", needs=needs("a")),
        a_task("d", needs=needs("b", "c"), **fields),
    )


def test_a_diamond_runs_in_order():
    d = Desk()
    d.join(capacity=a_capacity(4))
    a, b, c, last = d.submit(*diamond())
    assert [d.status(t) for t in (a, b, c, last)] == ["assigned", "blocked", "blocked", "blocked"]
    d.exit(a)
    assert (d.status(b), d.status(c), d.status(last)) == ("assigned", "assigned", "blocked")
    d.exit(b)
    assert d.status(last) == "blocked"
    d.exit(c)
    assert d.status(last) == "assigned"
    d.exit(last)
    assert d.finished == ["a", "b", "c", "d"]
    assert not d.world.jobs
    assert not d.world.dependants, "nothing of a job stays behind"


def test_a_failed_need_skips_its_descendants_only():
    d = Desk()
    d.join(capacity=a_capacity(4))
    a, b, c, last = d.submit(*diamond())
    d.exit(a)
    d.exit(b, 1)
    assert (d.status(last), d.reason(last)) == ("skipped", "need_unmet")
    assert d.status(c) == "assigned"
    d.exit(c)
    assert not d.world.jobs


@pytest.mark.parametrize(
    ("on", "code", "status"),
    [
        (On.SUCCESS, 0, "assigned"),
        (On.SUCCESS, 1, "skipped"),
        (On.DONE, 0, "assigned"),
        (On.DONE, 1, "assigned"),
        (On.FAILURE, 0, "skipped"),
        (On.FAILURE, 1, "assigned"),
    ],
)
def test_an_edge_is_satisfied_by_its_kind_of_end(on, code, status):
    d = Desk()
    d.join()
    first, then = d.submit(a_task("first"), a_task("then", needs=needs("first", on=on)))
    d.exit(first, code)
    assert d.status(then) == status


def test_continue_runs_dependants_of_a_failed_task():
    d = Desk()
    d.join()
    first, then = d.submit(
        a_task("first"), a_task("then", needs=needs("first")), on_failure=OnFailure.CONTINUE
    )
    d.exit(first, 1)
    assert d.status(then) == "assigned"


def test_fail_fast_cancels_the_rest():
    d = Desk()
    d.join(capacity=a_capacity(2))
    bad, running, queued, blocked = d.submit(
        a_task("bad"),
        a_task("running"),
        a_task("queued", cpus=2),
        a_task("blocked", needs=needs("running")),
        on_failure=OnFailure.FAIL_FAST,
    )
    d.exit(bad, 1)
    assert (d.status(queued), d.reason(queued)) == ("cancelled", "fail_fast")
    assert d.status(blocked) == "cancelled"
    assert d.status(running) == "cancelling"
    d.exit(running, None, signal=15, signalled=True)
    assert (d.status(running), d.reason(running)) == ("cancelled", "fail_fast")
    assert not d.world.jobs


def test_array_elements_share_one_spec_and_a_need_on_an_array_waits_for_all_of_it():
    d = Desk()
    d.join(capacity=a_capacity(100))
    *array, sink = d.submit(a_task("x", array_count=100), a_task("sink", needs=needs("x")))
    assert len({id(d.tasks[t].spec) for t in array}) == 1
    assert d.tasks[array[7]].name == "x/7"
    for task in array[:-1]:
        d.exit(task)
    assert d.status(sink) == "blocked"
    assert d.tasks[sink].version == 1, "a need met is counted in memory, not written"
    d.exit(array[-1])
    assert d.status(sink) == "assigned"


def test_a_deep_chain_is_skipped_without_recursion_in_bounded_turns():
    d = Desk(Policy(settlements_per_turn=500), check=False)
    d.join()
    specs = [a_task("t0")] + [a_task(f"t{i}", needs=needs(f"t{i - 1}")) for i in range(1, 5_000)]
    first, *rest = d.submit(*specs)
    delta = d._step((ev.AttemptExited(d.live(first).key, "a1", _failed()),))
    assert 500 <= len(delta.tasks) <= 501
    assert d.world.unfinished
    d.turn(ev.Ticked())
    assert {d.status(t) for t in rest} == {"skipped"}
    assert not d.world.jobs


def _failed():
    from styx.core.attempt import Exit

    return Exit(code=1)


def test_a_wide_fan_is_told_in_bounded_turns():
    d = Desk(Policy(settlements_per_turn=100, placements_per_turn=100))
    d.check = False
    d.join(capacity=a_capacity(2))
    root, *fan = d.submit(a_task("root"), a_task("fan", array_count=1_000, needs=needs("root")))
    d.exit(root)
    assert {d.status(t) for t in fan} == {"assigned", "queued"}
    d.world.check()


@pytest.mark.parametrize("told", [0, 1, 2])
def test_needs_told_halfway_before_a_crash_are_told_again_after_it(told):
    """Waits are derived from rows: a new server counts them anew, whatever the old one had told."""
    d = Desk(Policy(settlements_per_turn=1), check=False)
    d.join()
    a, b, sink, other = d.submit(
        a_task("a"),
        a_task("b"),
        a_task("sink", needs=needs("a", "b")),
        a_task("other", needs=needs("a")),
    )
    d._step(
        (ev.AttemptExited(d.live(a).key, "a1", _ok()), ev.AttemptExited(d.live(b).key, "a1", _ok()))
    )
    for _ in range(told):
        d._step((ev.Ticked(),))
    d.world = reloaded(d)
    d.turn(ev.Ticked())
    assert (d.status(sink), d.status(other)) == ("assigned", "assigned")
    d.world.check()


def _ok():
    from styx.core.attempt import Exit

    return Exit(code=0)


def test_a_job_made_beside_the_turns_takes_its_place_among_the_others():
    d = Desk()
    d.join(capacity=a_capacity(1))
    d.submit(a_task("first"), a_task("later", priority=Priority.LOW))
    d.submit(a_task("next"))
    d.bring(
        a_task("urgent", priority=Priority.CRITICAL),
        a_task("after", needs=needs("urgent")),
        a_task("late", queue_timeout_s=60.0, priority=Priority.LOW),
    )
    brought = d.last_job
    assert brought in d.world.jobs
    d.wait(60)
    d.run_all()
    assert d.started == ["first", "urgent", "next", "after", "later"]
    assert d.finished == ["late", "first", "urgent", "next", "after", "later"]
    assert not d.world.jobs


def reloaded(d: Desk) -> World:
    """The world that a new server builds from the rows."""
    live = d.world
    needed = {e.task_id for t in live.tasks.values() for e in t.needs}
    settled = {i: d.tasks[i].state for i in needed if i not in live.tasks}
    return World.load(
        live.jobs.values(),
        live.tasks.values(),
        live.attempts.values(),
        live.agents.values(),
        settled,
        {job: live.tally(job) for job in live.jobs},
    )


@pytest.mark.parametrize(
    ("codes", "state"),
    [((0, 0), JobState.SUCCEEDED), ((0, 1), JobState.FAILED), ((1, 0), JobState.FAILED)],
)
def test_a_job_ends_with_its_last_task(codes, state):
    d = Desk()
    d.join(capacity=a_capacity(2))
    one, two = d.submit(a_task("one"), a_task("two"))
    job = d.last_job
    d.exit(one, codes[0])
    assert job in d.world.jobs
    attempt = d.live(two)
    from styx.core.attempt import Exit

    delta = d.turn(ev.AttemptExited(attempt.key, attempt.agent_id, Exit(code=codes[1])))
    assert delta.jobs[job].state is state
    assert delta.jobs[job].finished_at == d.now


def test_the_same_key_is_the_same_job_even_within_one_turn():
    d = Desk()
    spec_ids = d.submit(a_task("x"), key="k")
    from styx.core.ids import JobId, TaskId
    from tests.support.desk import a_job

    again = ev.JobSubmitted(JobId("j2"), (TaskId("t2"),), a_job(a_task("x")), idem_key="k")
    twin = ev.JobSubmitted(JobId("j3"), (TaskId("t3"),), a_job(a_task("x")), idem_key="new")
    twin2 = ev.JobSubmitted(JobId("j4"), (TaskId("t4"),), a_job(a_task("x")), idem_key="new")
    answers = d.turn(again, twin, twin2).answers
    assert answers[0] == ev.AlreadySubmitted(d.last_job, "k")
    assert isinstance(answers[1], ev.Accepted)
    assert answers[2] == ev.AlreadySubmitted(JobId("j3"), "")
    assert spec_ids[0] in d.world.tasks
    assert not {"t2", "t4"} & set(d.tasks)
