"""What the end of an attempt makes of its task: exits, retries, budgets, cancels, gangs, timeouts."""

from datetime import timedelta

import pytest

from styx.core import event as ev
from styx.core import explain
from styx.core.attempt import AttemptState, Exit, StopReason
from styx.core.effect import LOST_AFTER_S, Assign, Forget, Stop, pending
from styx.core.ids import AgentId, TaskId
from styx.core.policy import Policy
from styx.core.spec import Delivery, Need, OnFailure
from styx.core.task import Reason
from tests.support.desk import Desk, a_capacity, a_task


def running(**fields):
    d = Desk()
    d.join(capacity=a_capacity(2))
    (task,) = d.submit(a_task(**fields))
    d.start(task)
    return d, task


@pytest.mark.parametrize(
    ("exit_", "status", "reason"),
    [
        (Exit(code=0), "succeeded", ""),
        (Exit(code=37), "failed", "exit_code"),
        (Exit(signal=9), "failed", "signal"),
        (Exit(code=None, reason=Reason.SPAWN_ERROR), "failed", "spawn_error"),
        (Exit(code=None, reason=Reason.IMAGE), "failed", "image"),
        (Exit(signal=9, reason=Reason.OOM), "failed", "oom"),
        (Exit(signal=15, signalled=True, reason=Reason.TIMEOUT), "failed", "timeout"),
    ],
)
def test_an_exit_says_how_the_task_ended(exit_, status, reason):
    d, task = running()
    attempt = d.live(task)
    d.turn(ev.AttemptExited(attempt.key, attempt.agent_id, exit_))
    assert (d.status(task), d.reason(task)) == (status, reason)


def test_only_its_own_agent_may_speak_of_an_attempt():
    d, task = running()
    d.turn(ev.AttemptExited(d.live(task).key, AgentId("other"), Exit(code=1)))
    assert d.status(task) == "running"


def test_retries_back_off_and_count():
    d, task = running(retries=2)
    for attempt in (1, 2):
        d.exit(task, 1)
        assert d.status(task) == "queued"
        row = d.tasks[task]
        span = 10 * 2 ** (attempt - 1)
        assert row.not_before is not None
        wait = row.not_before - d.now
        assert timedelta(seconds=span / 2) <= wait <= timedelta(seconds=span)
        d.wait(wait.total_seconds() - 0.001)
        assert d.status(task) == "queued"
        d.wait(0.002)
        assert d.status(task) == "assigned"
        assert d.tasks[task].attempt == attempt + 1
    d.exit(task, 1)
    assert (d.status(task), d.reason(task)) == ("failed", "exit_code")


def test_retry_on_names_the_codes_that_are_worth_it():
    d, task = running(retries=1, retry_on=(75,))
    d.exit(task, 1)
    assert d.status(task) == "failed"
    d, task = running(retries=1, retry_on=(75,))
    d.exit(task, 75)
    assert d.status(task) == "queued"


def test_a_lost_agent_costs_an_infra_retry_not_the_users():
    d, task = running(infra_retries=1)
    d.turn(ev.AgentLost(AgentId("a1")))
    assert d.status(task) == "queued"
    assert (d.tasks[task].infra_failures, d.tasks[task].user_failures) == (1, 0)
    d.join("a2")
    d.wait(30)
    d.turn(ev.AgentLost(AgentId("a2")))
    assert (d.status(task), d.reason(task)) == ("lost", "agent_silent")


def test_at_most_once_is_never_started_again():
    d, task = running(delivery=Delivery.AT_MOST_ONCE, retries=5)
    d.turn(ev.AgentLost(AgentId("a1")))
    assert d.status(task) == "lost"
    d, task = running(delivery=Delivery.AT_MOST_ONCE, retries=5)
    d.exit(task, 1)
    assert d.status(task) == "failed"


def test_a_registry_that_is_away_is_the_machines_failure_and_nothing_has_run():
    d = Desk()
    d.join()
    task, once = d.submit(a_task(infra_retries=1), a_task("o", delivery=Delivery.AT_MOST_ONCE))
    attempt = d.live(task)
    d.turn(ev.AttemptExited(attempt.key, attempt.agent_id, Exit(reason=Reason.REGISTRY)))
    assert d.status(task) == "queued"
    assert (d.tasks[task].infra_failures, d.tasks[task].user_failures) == (1, 0)
    d.wait(30)
    attempt = d.live(task)
    d.turn(ev.AttemptExited(attempt.key, attempt.agent_id, Exit(reason=Reason.REGISTRY)))
    assert (d.status(task), d.reason(task)) == ("failed", "registry")
    d.wait(1)
    attempt = d.live(once)
    d.turn(ev.AttemptExited(attempt.key, attempt.agent_id, Exit(reason=Reason.REGISTRY)))
    assert (d.status(once), d.reason(once)) == ("failed", "registry")
    assert d.attempts[attempt.key].started_at is None


def test_a_void_costs_nothing_and_comes_back_after_a_moment():
    d = Desk()
    d.join()
    (task,) = d.submit(a_task())
    attempt = d.live(task)
    d.turn(ev.AttemptVoided(attempt.key, attempt.agent_id, Reason.AGENT_FULL))
    assert d.status(task) == "queued"
    assert d.state_of(attempt.key) is AttemptState.REJECTED
    assert (d.tasks[task].infra_failures, d.tasks[task].user_failures) == (0, 0)
    d.wait(2)
    assert d.tasks[task].attempt == 2


def reject(d: Desk, task: TaskId, reason: Reason = Reason.AGENT_FULL) -> None:
    attempt = d.live(task)
    d.turn(ev.AttemptVoided(attempt.key, attempt.agent_id, reason))


def test_who_rejects_time_and_again_gets_no_more_work_until_somebody_looks():
    d = Desk()
    d.join()
    (task,) = d.submit(a_task())
    for _ in range(4):
        reject(d, task)
        d.wait(2)
    assert d.status(task) == "assigned"
    reject(d, task)
    d.wait(60)
    assert (d.status(task), d.world.agents[AgentId("a1")].state) == ("queued", "draining")
    d.join("a1")
    assert d.world.agents[AgentId("a1")].drain, "it has not improved by coming back"
    (why,) = explain.hindrances(d.world, task, d.now, d.policy)
    assert "it rejected 5 tasks" in why.message
    d.turn(ev.DrainRequested(AgentId("a1"), drain=False))
    assert d.status(task) == "assigned"
    reject(d, task)
    assert d.world.agents[AgentId("a1")].rejects == 1


def test_a_leader_whose_clock_is_behind_counts_rejects_as_well():
    d = Desk()
    d.join()
    (task,) = d.submit(a_task())
    for _ in range(2):
        reject(d, task)
        d.wait(2)
    d.now -= timedelta(seconds=500)
    for _ in range(3):
        reject(d, task)
        d.wait(3)
    assert d.world.agents[AgentId("a1")].drain


def test_rejects_that_have_one_cause_or_are_far_apart_drain_nobody():
    d = Desk()
    d.join(capacity=a_capacity(8))
    tasks = d.submit(*(a_task(f"t{n}") for n in range(8)))
    for task in tasks:  # a burst
        reject(d, task)
    assert d.world.agents[AgentId("a1")].rejects == 1
    for _ in range(6):
        d.wait(601)
        reject(d, tasks[0])
    for _ in range(6):  # it stood still, and then woke
        d.wait(2)
        reject(d, tasks[0], Reason.STALE_ASSIGN)
    d.wait(2)
    assert not d.world.agents[AgentId("a1")].drain


def test_a_task_under_which_machines_die_is_given_no_more_of_them():
    d, task = running(infra_retries=100)
    for number in range(1, 4):
        d.start(task)
        d.turn(ev.AgentLost(AgentId(f"a{number}")))
        d.join(f"a{number + 1}")
        d.wait(600)
    assert (d.status(task), d.reason(task)) == ("failed", "poison")
    assert (d.tasks[task].attempt, d.tasks[task].deaths) == (3, 3)


def test_a_task_that_had_not_begun_is_no_poison():
    d = Desk()
    d.join()
    (task,) = d.submit(a_task(infra_retries=100))
    for number in range(1, 6):
        d.turn(ev.AgentLost(AgentId(f"a{number}")))
        d.join(f"a{number + 1}")
        d.wait(600)
    assert (d.status(task), d.tasks[task].deaths) == ("assigned", 0)


def test_a_task_that_its_agent_ended_for_want_of_a_lease_costs_no_retry_of_the_users_and_is_no_poison():
    d, task = running(infra_retries=4)
    for _ in range(4):
        d.start(task)
        d.exit(task, None, signal=15, signalled=True, reason=Reason.AGENT_SILENT)
        d.wait(600)
        assert d.status(task) == "assigned"
    row = d.tasks[task]
    assert (row.infra_failures, row.user_failures, row.deaths) == (4, 0, 0)
    d.exit(task, None, signal=15, signalled=True, reason=Reason.AGENT_SILENT)
    assert (d.status(task), d.reason(task)) == ("failed", "agent_silent")


def test_what_is_rejected_while_its_job_fails_fast_says_so():
    d = Desk()
    d.join()
    first, second = d.submit(a_task("a"), a_task("b"), on_failure=OnFailure.FAIL_FAST)
    d.exit(first, 1)
    reject(d, second)
    assert (d.status(second), d.reason(second)) == ("cancelled", "fail_fast")


def test_a_late_exit_is_recorded_beside_the_final_state():
    d, task = running(infra_retries=0)
    key = d.live(task).key
    d.turn(ev.AgentLost(AgentId("a1")))
    assert d.status(task) == "lost"
    d.turn(ev.AttemptExited(key, AgentId("a1"), Exit(code=0)))
    assert d.status(task) == "lost", "terminal is final"


def test_cancel_of_waiting_tasks_is_immediate():
    d = Desk()
    d.join(capacity=a_capacity(1))
    run, queued, blocked = d.submit(
        a_task("run"), a_task("queued"), a_task("blocked", needs=(Need("run"),))
    )
    d.turn(ev.CancelRequested((queued, blocked)))
    assert (d.status(queued), d.status(blocked)) == ("cancelled", "cancelled")
    assert d.status(run) == "assigned"


def test_cancel_of_a_running_task_waits_for_its_process():
    d, task = running(grace_s=5.0)
    attempt = d.live(task)
    d.turn(ev.CancelRequested((task,)))
    assert d.status(task) == "cancelling"
    assert pending(d.attempts[attempt.key]) == Stop(attempt.key, StopReason.CANCEL, 5.0)
    d.turn(ev.CancelRequested((task,), force=True))
    assert pending(d.attempts[attempt.key]) == Stop(attempt.key, StopReason.CANCEL, 0.0)
    d.exit(task, None, signal=9, signalled=True)
    assert (d.status(task), d.reason(task)) == ("cancelled", "cancelled")


def test_a_process_that_ended_by_itself_keeps_its_result_though_a_cancel_was_under_way():
    d, task = running()
    d.turn(ev.CancelRequested((task,)))
    d.exit(task, 0)
    assert d.status(task) == "succeeded"
    d, task = running(retries=3)
    d.turn(ev.CancelRequested((task,)))
    d.exit(task, 1)
    assert d.status(task) == "failed", "and is not retried"


def test_a_cancel_whose_agent_is_lost_is_cancelled_all_the_same():
    d, task = running()
    d.turn(ev.CancelRequested((task,)))
    d.turn(ev.AgentLost(AgentId("a1")))
    assert (d.status(task), d.reason(task)) == ("cancelled", "lost_during_cancel")


def test_cancel_of_a_job_goes_in_slices_and_survives_a_crash_between_them():
    from tests.core.test_dag import reloaded

    d = Desk(Policy(settlements_per_turn=10))
    d.join(capacity=a_capacity(3))
    tasks = d.submit(a_task("x", array_count=50))
    d._step((ev.CancelRequested(job_id=d.last_job),))
    assert 0 < len(d.finished) < 47
    d.world = reloaded(d)
    d.turn(ev.Ticked())
    assert sorted({d.status(t) for t in tasks}) == ["cancelled", "cancelling"]
    for task in tasks[:3]:
        d.exit(task, None, signal=15, signalled=True)
    assert not d.world.jobs


def test_a_gang_member_that_fails_takes_the_others_down():
    d = Desk()
    d.join("a1")
    d.join("a2")
    (gang,) = d.submit(a_task("gang", num_nodes=2))
    d.start(gang, 0)
    d.start(gang, 1)
    d.exit(gang, 3, rank=1)
    other = d.live(gang, 0)
    assert other.stop_reason is StopReason.GANG
    assert d.status(gang) == "running"
    d.exit(gang, None, rank=0, signal=15, signalled=True)
    assert (d.status(gang), d.reason(gang)) == ("failed", "exit_code"), "the one that failed speaks"


def test_a_gang_that_may_run_once_is_not_tried_again_when_one_member_never_started():
    d = Desk()
    d.join("a1")
    d.join("a2")
    (gang,) = d.submit(a_task("gang", num_nodes=2, delivery=Delivery.AT_MOST_ONCE))
    d.start(gang, 0)
    refused = d.live(gang, 1)
    d.turn(ev.AttemptVoided(refused.key, refused.agent_id, Reason.AGENT_FULL))
    d.exit(gang, None, rank=0, signal=15, signalled=True)
    assert (d.status(gang), d.reason(gang)) == ("failed", "agent_full")


def test_a_gang_whose_members_all_succeed_succeeds_with_the_last():
    d = Desk()
    d.join("a1")
    d.join("a2")
    (gang,) = d.submit(a_task("gang", num_nodes=2))
    d.exit(gang, rank=0)
    assert d.status(gang) == "assigned"
    d.exit(gang, rank=1)
    assert d.status(gang) == "succeeded"


def test_queue_timeout():
    d = Desk()
    (task,) = d.submit(a_task(queue_timeout_s=60.0))
    d.wait(59)
    assert d.status(task) == "queued"
    d.wait(2)
    assert (d.status(task), d.reason(task)) == ("failed", "queue_timeout")


def test_a_run_that_its_agent_should_have_timed_out_is_stopped_from_here():
    d, task = running(timeout_s=10.0, grace_s=1.0)
    d.wait(10 + LOST_AFTER_S)
    assert d.live(task).stop_reason is StopReason.NONE
    d.wait(2)
    assert d.live(task).stop_reason is StopReason.TIMEOUT
    d.exit(task, None, signal=15, signalled=True)
    assert (d.status(task), d.reason(task)) == ("failed", "timeout")


def test_pending_effects_follow_the_row():
    d = Desk()
    d.join()
    (task,) = d.submit(a_task())
    key = d.live(task).key
    assert pending(d.attempts[key]) == Assign(key)
    d.turn(ev.AttemptAccepted(key, AgentId("a1")))
    assert pending(d.attempts[key]) is None
    d.exit(task, 0, out_bytes=10)
    assert pending(d.attempts[key]) is None, "its output is not all here"
    assert key in d.world.attempts
    d.turn(ev.LogsStored(key))
    assert pending(d.attempts[key]) == Forget(key)
    assert key not in d.world.attempts


def test_an_exit_whose_output_is_stored_ends_everything_in_one_row_write():
    d = Desk()
    d.join()
    (task,) = d.submit(a_task())
    attempt = d.live(task)
    d.turn(
        ev.AttemptAccepted(attempt.key, attempt.agent_id),
        ev.AttemptStarted(attempt.key, attempt.agent_id),
        ev.AttemptExited(
            attempt.key, attempt.agent_id, Exit(code=0, out_bytes=3), logs_stored=True
        ),
    )
    row = d.attempts[attempt.key]
    assert (row.version, row.logs_complete, row.state) == (2, True, AttemptState.SUCCEEDED)
    assert not d.world.attempts
