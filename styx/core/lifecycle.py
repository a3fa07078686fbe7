"""How attempts move and end, and what that makes of their task."""

from datetime import datetime, timedelta

import msgspec

from styx.core.attempt import TERMINAL, Attempt, AttemptState, Exit, StopReason
from styx.core.draft import Draft
from styx.core.event import (
    AttemptAccepted,
    AttemptExited,
    AttemptStarted,
    AttemptVoided,
    LogsStored,
)
from styx.core.ids import AgentId, AttemptKey, JobId
from styx.core.policy import Verdict, later, verdict
from styx.core.spec import Delivery, OnFailure
from styx.core.task import Reason, Task, TaskState

replace = msgspec.structs.replace

# What a process that our own signal ended has become, by why we sent it.
_STOPPED = {
    StopReason.CANCEL: (AttemptState.CANCELLED, Reason.CANCELLED),
    StopReason.FAIL_FAST: (AttemptState.CANCELLED, Reason.FAIL_FAST),
    StopReason.GANG: (AttemptState.CANCELLED, Reason.GANG),
    StopReason.SUPERSEDED: (AttemptState.CANCELLED, Reason.SUPERSEDED),
    StopReason.UNKNOWN: (AttemptState.CANCELLED, Reason.UNKNOWN_ATTEMPT),
    StopReason.TIMEOUT: (AttemptState.FAILED, Reason.TIMEOUT),
    StopReason.DRAIN: (AttemptState.PREEMPTED, Reason.DRAIN),
    StopReason.PREEMPT: (AttemptState.PREEMPTED, Reason.PREEMPTED),
}
_NEVER_BEGAN = {
    Reason.SPAWN_ERROR,
    Reason.SECRET_MISSING,
    Reason.IMAGE,
    Reason.REGISTRY,
}
_CANCELS = {Reason.CANCELLED: StopReason.CANCEL, Reason.FAIL_FAST: StopReason.FAIL_FAST}


def accepted(draft: Draft, event: AttemptAccepted) -> None:
    attempt = _of(draft, event.key, event.agent_id)
    if attempt and attempt.state is AttemptState.ASSIGNED:
        draft.put_attempt(replace(attempt, state=AttemptState.ACCEPTED, accepted_at=draft.now))


def started(draft: Draft, event: AttemptStarted) -> None:
    attempt = _of(draft, event.key, event.agent_id)
    if attempt and attempt.state in {AttemptState.ASSIGNED, AttemptState.ACCEPTED}:
        draft.put_attempt(
            replace(
                attempt,
                state=AttemptState.RUNNING,
                accepted_at=attempt.accepted_at or draft.now,
                started_at=draft.now,
            )
        )


def exited(draft: Draft, event: AttemptExited) -> None:
    """Record how the process ended. Of an attempt already over, the late exit beside its state."""
    attempt = _of(draft, event.key, event.agent_id)
    if attempt is None:
        return
    logs_complete = event.logs_stored or not (event.exit.out_bytes or event.exit.err_bytes)
    if attempt.state in TERMINAL:
        if attempt.exit is None:
            draft.put_attempt(replace(attempt, exit=event.exit))
        return
    state, reason = judge(event.exit, attempt.stop_reason)
    end(
        draft,
        replace(
            attempt,
            exit=event.exit,
            started_at=attempt.started_at or _started_at(draft.now, event.exit),
            logs_complete=logs_complete,
        ),
        state,
        reason,
    )


def voided(draft: Draft, event: AttemptVoided) -> Attempt | None:
    """Returns what was rejected; None where nothing was, or nothing could have been."""
    attempt = _of(draft, event.key, event.agent_id)
    if attempt is None or attempt.state in TERMINAL:
        return None
    if attempt.state is AttemptState.RUNNING:
        # It was seen running, so "never started" cannot be true: the agent's memory is damaged.
        lose(draft, attempt, Reason.STATE_LOST)
        return None
    exit_ = Exit(reason=event.reason, detail=event.detail)
    rejected = replace(attempt, exit=exit_, logs_complete=True)
    end(draft, rejected, AttemptState.REJECTED, event.reason)
    return rejected


def logs_stored(draft: Draft, event: LogsStored) -> None:
    attempt = draft.attempt(event.key)
    if attempt and attempt.state in TERMINAL and not attempt.logs_complete:
        draft.put_attempt(replace(attempt, logs_complete=True))


def lose(draft: Draft, attempt: Attempt, reason: Reason) -> None:
    """Its outcome is unknown and will stay so; nobody waits for the rest of its output."""
    if attempt.state not in TERMINAL:
        end(draft, replace(attempt, logs_complete=True), AttemptState.LOST, reason)
    elif not attempt.logs_complete:
        draft.put_attempt(replace(attempt, logs_complete=True))


def judge(exit_: Exit, stop_reason: StopReason) -> tuple[AttemptState, Reason]:
    """What an exit means. A process that ended by itself keeps its own result, even just before a stop."""
    if exit_.signalled and stop_reason is not StopReason.NONE:
        return _STOPPED[stop_reason]
    if exit_.reason is not Reason.NONE:
        return AttemptState.FAILED, exit_.reason
    if exit_.signal is not None:
        return AttemptState.FAILED, Reason.SIGNAL
    if exit_.code == 0:
        return AttemptState.SUCCEEDED, Reason.NONE
    if exit_.code is None:
        return AttemptState.FAILED, Reason.EXIT_STATUS_LOST
    return AttemptState.FAILED, Reason.EXIT_CODE


def end(draft: Draft, attempt: Attempt, state: AttemptState, reason: Reason) -> None:
    """End one attempt; with its last member a try ends, and its task goes on from there."""
    draft.put_attempt(replace(attempt, state=state, reason=reason, ended_at=draft.now))
    task = draft.task(attempt.task_id)
    if task is None or task.state is not TaskState.ACTIVE or task.attempt != attempt.n:
        return
    mates = draft.members(task)
    if any(mate.state not in TERMINAL for mate in mates):
        if state is not AttemptState.SUCCEEDED:
            _stop_gang(draft, task, mates)
        return
    _advance(draft, task, _speaker(mates), mates)


def stopped(reason: StopReason) -> tuple[AttemptState, Reason]:
    """What has become of an attempt that a stop for that reason ended, or kept from ever starting."""
    return _STOPPED[reason]


def stop(draft: Draft, attempt: Attempt, reason: StopReason, grace_s: float) -> None:
    """Wish a process gone. The first wish stands, but a later one may shorten the grace."""
    if attempt.state in TERMINAL:
        return
    if attempt.stop_reason is StopReason.NONE:
        draft.put_attempt(
            replace(attempt, stop_reason=reason, stop_at=draft.now, stop_grace_s=grace_s)
        )
    elif grace_s < attempt.stop_grace_s:
        draft.put_attempt(replace(attempt, stop_grace_s=grace_s))


def cancel(draft: Draft, task: Task, reason: Reason, *, force: bool) -> None:
    """Blocked and ready tasks end at once; an active one when its processes are gone."""
    if task.state is not TaskState.ACTIVE:
        draft.put_task(
            replace(task, state=TaskState.CANCELLED, reason=reason, finished_at=draft.now)
        )
        return
    if task.cancel_at is None:
        task = replace(task, cancel_at=draft.now)
        draft.put_task(task)
    grace_s = 0.0 if force else task.spec.grace_s
    for attempt in draft.members(task):
        stop(draft, attempt, _CANCELS[reason], grace_s)


def cancel_job(draft: Draft, job_id: JobId, reason: Reason, *, force: bool) -> None:
    """Write the wish into the job; `sweep` carries it out in slices."""
    job = draft.job(job_id)
    if job is None or job.finished_at is not None:
        return
    if job.cancel_reason is Reason.NONE or (force and not job.cancel_force):
        reason = reason if job.cancel_reason is Reason.NONE else job.cancel_reason
        draft.put_job(replace(job, cancel_reason=reason, cancel_force=force))


def sweep(draft: Draft) -> None:
    """Carry cancels of whole jobs on to their tasks, a bounded number in one turn."""
    budget = draft.policy.settlements_per_turn
    jobs = dict.fromkeys((*draft.world.sweeps, *draft.delta.jobs))
    for job_id in jobs:
        job = draft.job(job_id)
        if job is None or job.cancel_reason is Reason.NONE or job.finished_at is not None:
            continue
        for task in draft.tasks_of(job_id):  # no further than the budget goes
            if not _told(draft, task, force=job.cancel_force):
                if budget == 0:
                    draft.delta.hints.unfinished = True
                    return
                budget -= 1
                cancel(draft, task, job.cancel_reason, force=job.cancel_force)


def _told(draft: Draft, task: Task, *, force: bool) -> bool:
    if task.cancel_at is None:
        return False
    return not force or all(
        a.state in TERMINAL or a.stop_grace_s == 0.0 for a in draft.members(task)
    )


def _of(draft: Draft, key: AttemptKey, agent_id: AgentId) -> Attempt | None:
    """The attempt, if it is that agent's to speak of."""
    attempt = draft.attempt(key)
    return attempt if attempt and attempt.agent_id == agent_id else None


def _stop_gang(draft: Draft, task: Task, mates: list[Attempt]) -> None:
    for mate in mates:
        if mate.state not in TERMINAL:
            stop(draft, mate, StopReason.GANG, task.spec.grace_s)


def _speaker(mates: list[Attempt]) -> Attempt:
    """The member whose end is the try's: the first that did not succeed by itself."""
    failed = [m for m in mates if m.state is not AttemptState.SUCCEEDED]
    own = [m for m in failed if m.reason is not Reason.GANG] or failed
    return min(own, key=_ended) if own else mates[0]


def _ended(attempt: Attempt) -> tuple[datetime, int]:
    assert attempt.ended_at is not None, f"{attempt.key}: ended at no time"
    return attempt.ended_at, attempt.rank


def _advance(draft: Draft, task: Task, attempt: Attempt, mates: list[Attempt]) -> None:
    ruling = verdict(task, attempt, draft.policy)
    began = any(mate.state is not AttemptState.REJECTED for mate in mates)
    once = task.spec.delivery is Delivery.AT_MOST_ONCE
    if ruling.state is TaskState.READY and once and began:
        # One member never started, which costs nothing; but another may have.
        ruling = Verdict(TaskState.FAILED, attempt.reason, infra_failures=1)
    counted = replace(
        task,
        state=ruling.state,
        reason=ruling.reason,
        user_failures=task.user_failures + ruling.user_failures,
        infra_failures=task.infra_failures + ruling.infra_failures,
        deaths=task.deaths + ruling.deaths,
    )
    if ruling.state is TaskState.READY:
        draft.put_task(_ready_again(draft, counted, ruling))
        return
    draft.put_task(replace(counted, finished_at=draft.now))
    job = draft.job(task.job_id)
    if (
        job
        and job.on_failure is OnFailure.FAIL_FAST
        and ruling.state in {TaskState.FAILED, TaskState.LOST}
    ):
        cancel_job(draft, job.id, Reason.FAIL_FAST, force=False)


def _ready_again(draft: Draft, task: Task, ruling: Verdict) -> Task:
    return replace(
        task, not_before=later(draft.now, ruling.delay_s), ready_at=draft.now, cancel_at=None
    )


def _started_at(now: datetime, exit_: Exit) -> datetime | None:
    """When a process started that was reported only with its end. None: it never did."""
    return now - timedelta(milliseconds=exit_.ran_ms) if exit_.reason not in _NEVER_BEGAN else None
