"""Agents come, agree, fall silent and go; the re-adoption matrix, cell by cell."""

import pytest

from styx.core import event as ev
from styx.core.agent import AgentState
from styx.core.attempt import AttemptState, Exit, StopReason
from styx.core.ids import AgentId, AttemptKey, TaskId
from styx.core.spec import Delivery
from styx.core.task import Reason
from tests.support.desk import Desk, a_capacity, a_task

A1 = AgentId("a1")
ASSIGNED, ACCEPTED, RUNNING = AttemptState.ASSIGNED, AttemptState.ACCEPTED, AttemptState.RUNNING
EXITED, VOID = AttemptState.SUCCEEDED, AttemptState.REJECTED


def in_state(state: AttemptState | None, *, cancelled: bool = False, **fields):
    """A desk with one agent whose one attempt the server knows in `state`; None is terminal."""
    d = Desk()
    d.join()
    (task,) = d.submit(a_task(infra_retries=0, **fields))
    key = d.live(task).key
    if state in {ACCEPTED, RUNNING}:
        d.turn(ev.AttemptAccepted(key, A1))
    if state is RUNNING:
        d.turn(ev.AttemptStarted(key, A1))
    if state is None:
        d.exit(task, 0)
    if cancelled:
        d.turn(ev.CancelRequested((task,)))
    return d, task, key


def sync(d: Desk, *held: ev.Known, store: str = "s1") -> ev.SyncAnswer:
    session = d.connect("a1", store=store)
    answer = d.turn(ev.AgentSynced(A1, session, held)).answers[0]
    assert isinstance(answer, ev.SyncAnswer)
    return answer


def known(key, state) -> ev.Known:
    exit_ = {EXITED: Exit(code=0), VOID: Exit(reason=Reason.STALE_ASSIGN)}.get(state)
    return ev.Known(key, state, exit_)


@pytest.mark.parametrize(
    ("server", "agent", "attempt", "task"),
    [
        (ASSIGNED, None, "assigned", "assigned"),
        (ASSIGNED, ACCEPTED, "accepted", "assigned"),
        (ASSIGNED, RUNNING, "running", "running"),
        (ASSIGNED, EXITED, "succeeded", "succeeded"),
        (ASSIGNED, VOID, "rejected", "queued"),
        (ACCEPTED, None, "lost", "lost"),
        (ACCEPTED, ACCEPTED, "accepted", "assigned"),
        (ACCEPTED, RUNNING, "running", "running"),
        (ACCEPTED, EXITED, "succeeded", "succeeded"),
        (ACCEPTED, VOID, "rejected", "queued"),
        (RUNNING, None, "lost", "lost"),
        (RUNNING, RUNNING, "running", "running"),
        (RUNNING, EXITED, "succeeded", "succeeded"),
        (RUNNING, VOID, "lost", "lost"),
    ],
)
def test_re_adoption(server, agent, attempt, task):
    d, task_id, key = in_state(server)
    answer = sync(d, *([known(key, agent)] if agent else []))
    assert (d.state_of(key), d.status(task_id)) == (attempt, task)
    assert answer.adopted == (agent in {ACCEPTED, RUNNING})
    assert not answer.stop


@pytest.mark.parametrize(
    ("agent", "stop"), [(ACCEPTED, True), (RUNNING, True), (EXITED, False), (VOID, False)]
)
def test_what_the_server_no_longer_knows_is_stopped_or_forgotten(agent, stop):
    d, _, key = in_state(None)
    answer = sync(d, known(key, agent))
    assert (answer.stop, answer.forget) == (((key,), ()) if stop else ((), (key,)))


def test_an_attempt_that_never_was_here_is_stopped():
    d = Desk()
    stranger = AttemptKey(TaskId("x"), 1, 0)
    assert sync(d, known(stranger, RUNNING)).stop == (stranger,)


def test_a_stop_requested_attempt_that_was_never_accepted_is_cancelled():
    d, task, key = in_state(ASSIGNED, cancelled=True)
    sync(d)
    assert (d.state_of(key), d.status(task)) == ("cancelled", "cancelled")


def test_a_running_attempt_with_a_stop_keeps_it_over_a_reconnect():
    d, task, key = in_state(RUNNING, cancelled=True)
    sync(d, known(key, RUNNING))
    assert d.status(task) == "cancelling"
    assert d.live(task).stop_reason == "cancel"


def test_a_new_state_directory_means_that_what_ran_is_lost():
    d, task, _ = in_state(RUNNING)
    sync(d, store="s2")
    assert (d.status(task), d.reason(task)) == ("lost", "agent_replaced")


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({}, "assigned"),
        ({"delivery": Delivery.AT_MOST_ONCE}, "lost"),
        ({"exclusive": True}, "lost"),
    ],
)
def test_an_assignment_goes_to_a_new_state_directory_only_where_it_may_run_twice(fields, status):
    d, task, _ = in_state(ASSIGNED, **fields)
    sync(d, store="s2")
    assert d.status(task) == status


def test_a_newer_session_silences_the_older():
    d = Desk()
    d.join()
    assert d.connect("a1") == 2
    d.turn(ev.AgentDisconnected(A1, 1))
    assert d.world.agents[A1].state == "joining"
    answer = d.turn(ev.AgentSynced(A1, 1, ())).answers[0]
    assert answer == ev.Missing("session")


def test_drain_survives_a_reconnect():
    d = Desk()
    d.join()
    d.turn(ev.DrainRequested(A1, drain=True))
    assert d.world.agents[A1].state == "draining"
    d.turn(ev.AgentDisconnected(A1, 1))
    d.join()
    assert d.world.agents[A1].state == "draining"
    d.turn(ev.DrainRequested(A1, drain=False))
    assert d.world.agents[A1].state == "ready"


def test_a_machine_that_came_back_bigger_offers_its_new_room():
    d = Desk()
    d.join(capacity=a_capacity(1))
    first, second = d.submit(a_task("x", array_count=2))
    key = d.live(first).key
    session = d.connect("a1", a_capacity(4))
    d.turn(ev.AgentSynced(A1, session, (known(key, RUNNING),)))
    assert d.status(second) == "assigned"
    assert d.world.rooms[A1].cpus_milli == 2_000


def test_a_lost_agent_may_join_again():
    d, task, key = in_state(RUNNING)
    d.turn(ev.AgentLost(A1))
    assert d.world.agents[A1].state == "gone"
    assert sync(d, known(key, RUNNING)).stop == (key,)
    assert d.world.agents[A1].state == "ready"
    assert d.status(task) == "lost"


def test_draining_an_unknown_agent_says_so():
    assert Desk().turn(ev.DrainRequested(AgentId("x"), drain=True)).answers == [ev.Missing("agent")]


def test_a_gang_stop_of_a_member_never_accepted_cancels_nobodys_task():
    """Its mate's end decides: the stop was not somebody's wish to cancel."""
    d = Desk()
    d.join("a1", a_capacity(1))
    d.join("a2", a_capacity(1))
    (task,) = d.submit(a_task(num_nodes=2, retries=1))
    mine = next(rank for rank in (0, 1) if d.live(task, rank).agent_id == "a1")
    d.exit(task, 1, rank=1 - mine)
    assert d.live(task, mine).stop_reason == "gang"
    sync(d)
    assert (d.status(task), d.reason(task)) == ("queued", "exit_code")


def test_what_was_lost_together_does_not_come_back_together():
    d = Desk()
    d.join("a1", a_capacity(8))
    tasks = d.submit(a_task("x", array_count=8))
    d.turn(ev.AgentLost(A1))
    assert len({d.tasks[task].not_before for task in tasks}) == 8


# --- a machine that is taken away -----------------------------------------------------------------


def preempt(desk: Desk, name: str, deadline_s: float) -> None:
    session = desk.world.agents[AgentId(name)].session
    desk.turn(ev.AgentPreempted(AgentId(name), session, deadline_s))


def test_what_runs_on_a_machine_that_is_taken_away_has_until_shortly_before():
    desk = Desk()
    desk.join("a1")
    running, unstarted = desk.submit(a_task("running", infra_retries=1), a_task("unstarted"))
    desk.start(running)
    preempt(desk, "a1", 30)
    assert desk.world.agents[AgentId("a1")].state is AgentState.DRAINING
    for task in (running, unstarted):
        assert desk.live(task).stop_reason is StopReason.PREEMPT
        assert desk.live(task).stop_grace_s == 20
    preempt(desk, "a1", 5)
    assert desk.live(running).stop_grace_s == 0, "sooner than it had said"
    desk.join("a2")
    desk.exit(running, None, signal=15, signalled=True)
    assert desk.live(running).agent_id == "a2", "at once"
    assert desk.tasks[running].infra_failures == 1
    assert desk.tasks[running].deaths == 0


def test_a_task_whose_machines_are_taken_away_too_often_fails_and_is_no_poison():
    desk = Desk()
    (task,) = desk.submit(a_task(infra_retries=9))
    for n in range(4):
        desk.join(f"a{n}")
        desk.start(task)
        preempt(desk, f"a{n}", 5)
        desk.turn(ev.AgentLost(AgentId(f"a{n}")))  # it was gone before it could tell
        desk.wait(700)
    assert desk.status(task) == "queued"
    assert (desk.tasks[task].infra_failures, desk.tasks[task].deaths) == (4, 0)


def test_a_machine_that_boots_again_takes_work_again_and_one_that_only_reconnects_does_not():
    desk = Desk()
    desk.join("a1")
    preempt(desk, "a1", 30)
    desk.join("a1")
    assert desk.world.agents[AgentId("a1")].state is AgentState.DRAINING
    desk.join("a1", boot="another")
    assert desk.world.agents[AgentId("a1")].state is AgentState.READY


def test_a_notice_of_an_older_session_counts_for_nothing():
    desk = Desk()
    desk.join("a1")
    old = desk.world.agents[AgentId("a1")].session
    desk.join("a1")
    desk.turn(ev.AgentPreempted(AgentId("a1"), old, 30.0))
    assert desk.world.agents[AgentId("a1")].state is AgentState.READY


def test_after_a_restore_what_is_unknown_is_left_alone_and_no_assign_of_a_single_run_is_sent_again():
    d, task, key = in_state(ASSIGNED, delivery=Delivery.AT_MOST_ONCE)
    stranger = AttemptKey(TaskId("elsewhere"), 1, 0)
    session = d.connect("a1")
    held = (known(stranger, RUNNING),)
    answer = d.turn(ev.AgentSynced(A1, session, held, (stranger,), restored=True)).answers[0]
    assert answer == ev.SyncAnswer((), (), 0, (stranger,))
    assert (d.status(task), d.attempts[key].state) == ("lost", AttemptState.LOST)
