"""A task: an immutable spec and a state; a vertex of a job's DAG."""

from datetime import datetime
from enum import StrEnum
from typing import Final

import msgspec

from styx.core import machine
from styx.core.ids import JobId, SpecId, TaskId
from styx.core.spec import On, TaskSpec


class TaskState(StrEnum):
    BLOCKED = "blocked"
    READY = "ready"
    ACTIVE = "active"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"
    LOST = "lost"


NEXT: Final = {
    TaskState.BLOCKED: frozenset({TaskState.READY, TaskState.SKIPPED, TaskState.CANCELLED}),
    TaskState.READY: frozenset({TaskState.ACTIVE, TaskState.CANCELLED, TaskState.FAILED}),
    TaskState.ACTIVE: frozenset(
        {
            TaskState.READY,
            TaskState.SUCCEEDED,
            TaskState.FAILED,
            TaskState.CANCELLED,
            TaskState.LOST,
        }
    ),
    TaskState.SUCCEEDED: frozenset[TaskState](),
    TaskState.FAILED: frozenset[TaskState](),
    TaskState.CANCELLED: frozenset[TaskState](),
    TaskState.SKIPPED: frozenset[TaskState](),
    TaskState.LOST: frozenset[TaskState](),
}
TERMINAL: Final = machine.terminal(NEXT)


class Reason(StrEnum):
    """Why a task or an attempt is in its state: one machine word, stable for scripts."""

    NONE = ""
    CACHED = "cached"  # it did not run: an earlier task's success stands for its own
    EXIT_CODE = "exit_code"
    SIGNAL = "signal"
    OOM = "oom"
    TIMEOUT = "timeout"
    QUEUE_TIMEOUT = "queue_timeout"
    SPAWN_ERROR = "spawn_error"
    SECRET_MISSING = "secret_missing"  # noqa: S105 -- deleted since, or its key is not here
    IMAGE = "image"  # that it was to run in cannot be had
    REGISTRY = "registry"  # where its image is does not answer
    EXIT_STATUS_LOST = "exit_status_lost"
    OUTPUTS = "outputs"  # it ended well, but what it was to leave cannot be brought back
    RETRIES_EXHAUSTED = "retries_exhausted"
    POISON = "poison"  # its machine died under it too often
    CANCELLED = "cancelled"  # somebody asked
    FAIL_FAST = "fail_fast"  # another task of its job failed
    NEED_UNMET = "need_unmet"  # an edge can no longer be satisfied
    GANG = "gang"  # another member of its gang ended
    LOST_DURING_CANCEL = "lost_during_cancel"
    AGENT_SILENT = "agent_silent"
    AGENT_REPLACED = "agent_replaced"  # its state directory is another one
    AGENT_REBOOTED = "agent_rebooted"
    STATE_LOST = "state_lost"  # the agent no longer knows it
    STALE_ASSIGN = "stale_assign"
    SUPERSEDED = "superseded"
    UNKNOWN_ATTEMPT = "unknown_attempt"
    DRAIN = "drain"
    PREEMPTED = "preempted"  # its machine was taken away by the provider
    AGENT_BUSY = "agent_busy"  # it was given ahead of its room, which did not come free in time
    AGENT_FULL = "agent_full"  # the agent had no room after all (disk, descriptors)


class Edge(msgspec.Struct, frozen=True, gc=False):
    """A resolved need: the task waited for, and which of its ends satisfies the wait."""

    task_id: TaskId
    on: On = On.SUCCESS


class Task(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    id: TaskId
    job_id: JobId
    spec_id: SpecId
    spec: TaskSpec  # one object for a whole array
    created_at: datetime
    array_index: int | None = None
    taken_from: TaskId | None = None  # the earlier task whose success stands for its own
    needs: tuple[Edge, ...] = ()  # one tuple for a whole array
    state: TaskState = TaskState.BLOCKED
    reason: Reason = Reason.NONE
    attempt: int = 0  # number of the current or last try; 0 before the first
    user_failures: int = 0
    infra_failures: int = 0
    deaths: int = 0  # of the machine under it, or of its agent: see `policy.POISON_DEATHS`
    not_before: datetime | None = None  # backoff: not placed earlier
    ready_at: datetime | None = None
    cancel_at: datetime | None = None  # when a cancel of the active task was committed
    finished_at: datetime | None = None
    version: int = 0

    @property
    def name(self) -> str:
        return (
            self.spec.name if self.array_index is None else f"{self.spec.name}/{self.array_index}"
        )
