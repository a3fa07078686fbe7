"""Orders, read off rows: what the server still owes the world because of a row's value.

No outbox and no job queue: after a crash, `pending` over all live rows *is* recovery.
"""

from datetime import datetime, timedelta
from typing import Final

import msgspec

from styx.core.attempt import TERMINAL as ATTEMPT_TERMINAL
from styx.core.attempt import Attempt, AttemptState, StopReason
from styx.core.ids import AttemptKey
from styx.core.task import Task, TaskState

LOST_AFTER_S: Final = 300.0  # Slurm's figure: silence longer than this is a lost agent


class Assign(msgspec.Struct, frozen=True):
    key: AttemptKey


class Stop(msgspec.Struct, frozen=True):
    key: AttemptKey
    reason: StopReason
    grace_s: float


class Forget(msgspec.Struct, frozen=True):
    """The agent may delete what it holds of the attempt."""

    key: AttemptKey


Effect = Assign | Stop | Forget


def pending(attempt: Attempt) -> Effect | None:
    """What its agent must be told, and told again until the row changes."""
    if attempt.state in ATTEMPT_TERMINAL:
        return Forget(attempt.key) if attempt.logs_complete else None
    if attempt.stop_reason is not StopReason.NONE:
        return Stop(attempt.key, attempt.stop_reason, attempt.stop_grace_s)
    if attempt.state is AttemptState.ASSIGNED:
        return Assign(attempt.key)
    return None


def deadlines(task: Task) -> tuple[datetime, ...]:
    """When time alone may change a ready task: its backoff ends, or it waited too long for room."""
    if task.state is not TaskState.READY:
        return ()
    due = (task.not_before,) if task.not_before else ()
    expiry = queue_expiry(task)
    return (*due, expiry) if expiry else due


def queue_expiry(task: Task) -> datetime | None:
    if task.spec.queue_timeout_s is None or task.ready_at is None:
        return None
    return task.ready_at + timedelta(seconds=task.spec.queue_timeout_s)


def backstop(attempt: Attempt, task: Task) -> datetime | None:
    """When a run that its agent should have timed out is stopped from here instead."""
    if task.spec.timeout_s is None or attempt.started_at is None:
        return None
    if attempt.stop_reason is not StopReason.NONE or attempt.state is not AttemptState.RUNNING:
        return None
    allowed = task.spec.timeout_s + task.spec.grace_s + LOST_AFTER_S
    return attempt.started_at + timedelta(seconds=allowed)
