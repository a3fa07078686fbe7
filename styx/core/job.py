"""A job: one submission of connected tasks. Its state is derived from theirs, and stored once final."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Final

import msgspec

from styx.core import machine
from styx.core.ids import JobId
from styx.core.spec import Hook, OnFailure
from styx.core.task import Reason, TaskState

PROJECT: Final = "default"  # the only one, until there are users to part


class JobState(StrEnum):
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    LOST = "lost"


NEXT: Final = {
    JobState.RUNNING: frozenset(
        {JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED, JobState.LOST}
    ),
    JobState.SUCCEEDED: frozenset[JobState](),
    JobState.FAILED: frozenset[JobState](),
    JobState.CANCELLED: frozenset[JobState](),
    JobState.LOST: frozenset[JobState](),
}
TERMINAL: Final = machine.terminal(NEXT)


class Job(msgspec.Struct, frozen=True, kw_only=True):
    id: JobId
    name: str
    project: str
    created_at: datetime
    idem_key: str = ""  # unique within the project; "" when the submitter sent none
    body_sha256: str = ""
    on_failure: OnFailure = OnFailure.SKIP_DESCENDANTS
    labels: dict[str, str] = {}
    total: int  # tasks
    notify: tuple[Hook, ...] = ()
    traceparent: str = ""  # of the request that made it: see `core.trace`
    state: JobState = JobState.RUNNING
    # Set: every task of it that is not over is to be cancelled, for this reason. A wish in the row, so
    # that a cancel of a million tasks can go in slices and survive a crash between two of them.
    cancel_reason: Reason = Reason.NONE
    cancel_force: bool = False
    finished_at: datetime | None = None
    version: int = 0


def outcome(tally: Mapping[TaskState, int]) -> JobState:
    """The state of a job whose tasks are all terminal: failed > lost > cancelled > succeeded."""
    for task_state, job_state in (
        (TaskState.FAILED, JobState.FAILED),
        (TaskState.LOST, JobState.LOST),
        (TaskState.CANCELLED, JobState.CANCELLED),
    ):
        if tally.get(task_state, 0):
            return job_state
    return JobState.SUCCEEDED
