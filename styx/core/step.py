"""step(world, events, now) → Delta: the whole scheduler as one pure function."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import assert_never

import msgspec

from styx.core import audit, dag, lifecycle, place, roster
from styx.core import event as ev
from styx.core.attempt import AttemptState, StopReason
from styx.core.delta import Delta
from styx.core.draft import Draft
from styx.core.effect import backstop, queue_expiry
from styx.core.ids import TaskId
from styx.core.job import Job
from styx.core.policy import Policy
from styx.core.queue import in_order
from styx.core.task import TERMINAL, Reason, Task, TaskState
from styx.core.world import World


def step(world: World, events: Sequence[ev.Event], now: datetime, policy: Policy) -> Delta:
    """Decide what a batch of facts changes. Reads the world, changes nothing.

    `delta.answers[i]` answers `events[i]`.
    """
    draft = Draft(world, now, policy)
    _keep_time(draft)
    for event in events:
        _answer(draft, event)
    lifecycle.sweep(draft)
    dag.settle(draft)
    place.place(draft)
    return draft.delta


def prepare(event: ev.JobSubmitted, now: datetime, policy: Policy) -> tuple[Delta, World]:
    """The rows of a job alone, placed nowhere, and their world: for `World.join`."""
    draft = Draft(World(), now, policy, beside=True)
    _answer(draft, event)
    delta = draft.delta
    over = {task.id: task.state for task in delta.tasks.values() if task.state in TERMINAL}
    tallies = {event.job_id: Counter(over.values())}
    live = (task for task in delta.tasks.values() if task.id not in over)
    return delta, World.load(delta.jobs.values(), live, (), (), over, tallies, delta.blocks)


def known(world: World, event: ev.JobSubmitted) -> ev.AlreadySubmitted | None:
    """Of a live job with its idempotency key, what a submission is answered."""
    job_id = world.by_key.get((event.project, event.idem_key)) if event.idem_key else None
    return ev.AlreadySubmitted(job_id, world.jobs[job_id].body_sha256) if job_id else None


def accepted(world: World, event: ev.JobSubmitted, now: datetime, policy: Policy) -> ev.Accepted:
    """The answer to a job that was prepared, as things stand."""
    return ev.Accepted(event.job_id, _warnings(Draft(world, now, policy), event))


def _answer(draft: Draft, event: ev.Event) -> None:
    answer = _take(draft, event)
    draft.delta.answers.append(answer)
    told = audit.entry(event, answer, draft.world.agents, draft.now)
    if told is not None:
        draft.delta.audit.append(told)


def _take(draft: Draft, event: ev.Event) -> ev.Answer:
    match event:
        case ev.JobSubmitted():
            return _submitted(draft, event)
        case ev.CancelRequested():
            return _cancel(draft, event)
        case ev.AgentConnected():
            return roster.connected(draft, event)
        case ev.AgentSynced():
            return roster.synced(draft, event)
        case ev.AgentDisconnected():
            return roster.disconnected(draft, event)
        case ev.AgentSilent():
            return roster.silent(draft, event)
        case ev.AgentHeard():
            return roster.heard(draft, event)
        case ev.AgentPreempted():
            return roster.preempted(draft, event)
        case ev.AgentLost():
            return roster.lost(draft, event)
        case ev.DrainRequested():
            return roster.drain(draft, event)
        case ev.AttemptAccepted():
            return lifecycle.accepted(draft, event)
        case ev.AttemptStarted():
            return lifecycle.started(draft, event)
        case ev.AttemptExited():
            return lifecycle.exited(draft, event)
        case ev.AttemptVoided():
            return roster.voided(draft, event)
        case ev.LogsStored():
            return lifecycle.logs_stored(draft, event)
        case ev.Ticked():
            return None
        case _:
            assert_never(event)


def _submitted(draft: Draft, event: ev.JobSubmitted) -> ev.Accepted | ev.AlreadySubmitted:
    known = _known(draft, event) if event.idem_key else None
    if known:
        return ev.AlreadySubmitted(known.id, known.body_sha256)
    draft.put_job(
        Job(
            id=event.job_id,
            name=event.spec.name,
            project=event.project,
            created_at=draft.now,
            idem_key=event.idem_key,
            body_sha256=event.body_sha256,
            on_failure=event.spec.on_failure,
            labels=event.spec.labels,
            total=event.spec.width,
            notify=event.spec.notify,
            traceparent=event.traceparent,
        )
    )
    dag.link(draft, event)
    return ev.Accepted(event.job_id, _warnings(draft, event))


def _known(draft: Draft, event: ev.JobSubmitted) -> Job | None:
    """The live job of that idempotency key, submitted earlier or in this very turn."""
    job_id = draft.world.by_key.get((event.project, event.idem_key))
    if job_id:
        return draft.job(job_id)
    for job in draft.delta.jobs.values():
        if (job.project, job.idem_key) == (event.project, event.idem_key):
            return job
    return None


def _warnings(draft: Draft, event: ev.JobSubmitted) -> tuple[str, ...]:
    """Accepted all the same: an agent that fits may come. With no agent at all, nothing is known yet."""
    if not draft.world.rooms:
        return ()
    firsts = {spec.requirements: spec.name for spec in reversed(event.spec.tasks)}
    return tuple(
        f"{name}: no agent could run it as things stand; styx explain says why"
        for wanted, name in firsts.items()
        if not draft.world.could_run(wanted)
    )


def _cancel(draft: Draft, event: ev.CancelRequested) -> None:
    for task_id in event.task_ids:
        task = draft.task(task_id)
        if task is not None:
            lifecycle.cancel(draft, task, Reason.CANCELLED, force=event.force)
    if event.job_id:
        lifecycle.cancel_job(draft, event.job_id, Reason.CANCELLED, force=event.force)


def _keep_time(draft: Draft) -> None:
    """Act on the deadlines that are due: backoffs over, queues waited in too long, runs too long."""
    for due, task_id in in_order(draft.world.timers):
        if due > draft.now:
            return
        _due(draft, task_id)


def _due(draft: Draft, task_id: TaskId) -> None:
    task = draft.task(task_id)
    if task is None:
        return
    if task.state is TaskState.ACTIVE:
        for attempt in draft.members(task):
            limit = backstop(attempt, task)
            if limit and limit <= draft.now:
                assert attempt.state is AttemptState.RUNNING
                lifecycle.stop(draft, attempt, StopReason.TIMEOUT, task.spec.grace_s)
    elif task.state is TaskState.READY:
        _due_ready(draft, task)


def _due_ready(draft: Draft, task: Task) -> None:
    expiry = queue_expiry(task)
    if expiry and expiry <= draft.now:
        draft.put_task(
            msgspec.structs.replace(
                task,
                state=TaskState.FAILED,
                reason=Reason.QUEUE_TIMEOUT,
                finished_at=draft.now,
            )
        )
    elif task.not_before and task.not_before <= draft.now:
        draft.ready[task.id] = None
