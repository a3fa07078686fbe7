"""An attempt: one numbered try at a task on one agent (of a gang: one member of the try)."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from styx.core import machine
from styx.core.ids import SIZE, AgentId, AttemptKey, TaskId
from styx.core.task import Reason


class AttemptState(StrEnum):
    ASSIGNED = "assigned"
    ACCEPTED = "accepted"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    PREEMPTED = "preempted"
    REJECTED = "rejected"  # proven never started
    LOST = "lost"


_ENDS: Final = frozenset(
    {
        AttemptState.SUCCEEDED,
        AttemptState.FAILED,
        AttemptState.CANCELLED,
        AttemptState.PREEMPTED,
        AttemptState.LOST,
    }
)
NEXT: Final = {
    AttemptState.ASSIGNED: _ENDS
    | {AttemptState.ACCEPTED, AttemptState.RUNNING, AttemptState.REJECTED},
    AttemptState.ACCEPTED: _ENDS | {AttemptState.RUNNING, AttemptState.REJECTED},
    AttemptState.RUNNING: _ENDS,
    AttemptState.SUCCEEDED: frozenset[AttemptState](),
    AttemptState.FAILED: frozenset[AttemptState](),
    AttemptState.CANCELLED: frozenset[AttemptState](),
    AttemptState.PREEMPTED: frozenset[AttemptState](),
    AttemptState.REJECTED: frozenset[AttemptState](),
    AttemptState.LOST: frozenset[AttemptState](),
}
TERMINAL: Final = machine.terminal(NEXT)


class StopReason(StrEnum):
    """Why the server wants a process gone; `stop` carries it to the agent."""

    NONE = ""
    CANCEL = "cancel"
    TIMEOUT = "timeout"
    GANG = "gang"
    FAIL_FAST = "fail_fast"
    SUPERSEDED = "superseded"
    UNKNOWN = "unknown"
    DRAIN = "drain"
    PREEMPT = "preempt"


_LONGEST_MS: Final = 10 * 366 * 86_400_000  # ten years: going back so far is still a valid date
_CODE: Final = Meta(ge=-(1 << 31), lt=1 << 31)


class Exit(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """How a process ended, as its own machine measured it. `code` and `signal` exclude each other."""

    code: Annotated[int, _CODE] | None = None
    signal: Annotated[int, _CODE] | None = None
    signalled: bool = False  # Styx sent the stop signal before the process ended
    reason: Reason = Reason.NONE  # when code and signal do not say it: timeout, oom, spawn_error, …
    detail: str = ""  # for people: "[Errno 2] No such file or directory: 'nosuch'"
    ran_ms: Annotated[int, Meta(ge=0, le=_LONGEST_MS)] = 0
    cpu_ms: Annotated[int, SIZE] | None = None  # user + system, children included
    max_rss_bytes: Annotated[int, SIZE] | None = None
    out_bytes: Annotated[int, SIZE] = 0  # final length of each stream
    err_bytes: Annotated[int, SIZE] = 0
    outputs: Annotated[str, Meta(pattern=r"^([0-9a-f]{64})?\Z")] = ""  # id of a bundle


class Attempt(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    key: AttemptKey
    agent_id: AgentId
    state: AttemptState = AttemptState.ASSIGNED
    reason: Reason = Reason.NONE
    assigned_at: datetime
    accepted_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    stop_reason: StopReason = StopReason.NONE
    stop_at: datetime | None = None
    stop_grace_s: float = 0.0
    exit: Exit | None = None  # also the late exit of an attempt already declared lost
    logs_complete: bool = False
    choice: int = 0  # of the alternatives that its task has: see `core.choice`
    version: int = 0

    @property
    def task_id(self) -> TaskId:
        return self.key.task_id

    @property
    def n(self) -> int:
        return self.key.n

    @property
    def rank(self) -> int:
        return self.key.rank
