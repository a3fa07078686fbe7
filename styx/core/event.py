"""Facts, in the past tense: everything that can make the scheduler decide.

`step` matches on the `Event` union and ends in `assert_never`, so a new event that nobody handles
fails the type checker.
"""

from collections.abc import Mapping, Sequence

import msgspec

from styx.core.agent import Capacity
from styx.core.attempt import AttemptState, Exit
from styx.core.ids import AgentId, AttemptKey, JobId, TaskId
from styx.core.spec import JobSpec
from styx.core.task import Reason


class JobSubmitted(msgspec.Struct, frozen=True):
    """`task_ids` holds `spec.width` fresh ids, in the order of the specs and of their elements.

    Answered by `Accepted` or `AlreadySubmitted`.
    """

    job_id: JobId
    task_ids: Sequence[TaskId]
    spec: JobSpec
    project: str = "default"
    idem_key: str = ""
    body_sha256: str = ""
    actor: str = ""  # who asked: see `audit.Entry`
    retry_of: str = ""  # the id of what is tried again
    traceparent: str = ""  # a cleaned one: see `core.trace`
    taken: Mapping[
        int, TaskId
    ] = {}  # by place in `task_ids`: what need not run, and whose success it is


class CancelRequested(msgspec.Struct, frozen=True):
    """Of some tasks, or of a whole job. Unknown and terminal ones are left alone."""

    task_ids: tuple[TaskId, ...] = ()
    job_id: JobId | None = None
    force: bool = False  # no grace
    actor: str = ""


class AgentConnected(msgspec.Struct, frozen=True):
    """A hello was understood. Answered by `Welcomed` with the new session number."""

    agent_id: AgentId
    name: str
    store_id: str
    boot_id: str
    version: str
    address: str
    capacity: Capacity
    labels: dict[str, str]


class Known(msgspec.Struct, frozen=True, gc=False):
    """One attempt that a connecting agent still holds."""

    key: AttemptKey
    state: AttemptState  # ACCEPTED, RUNNING, REJECTED (void), or any end with `exit`
    exit: Exit | None = None


class AgentSynced(msgspec.Struct, frozen=True):
    """All that the agent holds. Answered by `SyncAnswer`."""

    agent_id: AgentId
    session: int
    attempts: tuple[Known, ...]
    foreign: tuple[AttemptKey, ...] = ()  # those of them that run and never had a row
    # The database was, since its last welcome: it may know less than the agent.
    restored: bool = False


class AgentDisconnected(msgspec.Struct, frozen=True):
    agent_id: AgentId
    session: int


class AgentSilent(msgspec.Struct, frozen=True):
    """Nothing heard for `suspect_after`."""

    agent_id: AgentId
    session: int


class AgentHeard(msgspec.Struct, frozen=True):
    """A suspect agent spoke again."""

    agent_id: AgentId
    session: int


class AgentPreempted(msgspec.Struct, frozen=True):
    """Its provider takes the machine away in `deadline_s` seconds."""

    agent_id: AgentId
    session: int
    deadline_s: float


class AgentLost(msgspec.Struct, frozen=True):
    """Silent for longer than `lost_after`, or given up by the operator: its attempts are lost."""

    agent_id: AgentId
    reason: Reason = Reason.AGENT_SILENT


class DrainRequested(msgspec.Struct, frozen=True):
    agent_id: AgentId
    drain: bool  # False resumes
    actor: str = ""


class AttemptAccepted(msgspec.Struct, frozen=True):
    key: AttemptKey
    agent_id: AgentId


class AttemptStarted(msgspec.Struct, frozen=True):
    key: AttemptKey
    agent_id: AgentId


class AttemptExited(msgspec.Struct, frozen=True):
    key: AttemptKey
    agent_id: AgentId
    exit: Exit
    logs_stored: bool = False  # every byte of both streams is already durable here


class AttemptVoided(msgspec.Struct, frozen=True):
    """Proven never started, and never will be."""

    key: AttemptKey
    agent_id: AgentId
    reason: Reason
    detail: str = ""


class LogsStored(msgspec.Struct, frozen=True):
    """Both streams of an ended attempt are durable here to their last byte."""

    key: AttemptKey


class Ticked(msgspec.Struct, frozen=True):
    """Time passed: a deadline is due, or a bounded turn left work behind."""


Event = (
    JobSubmitted
    | CancelRequested
    | AgentConnected
    | AgentSynced
    | AgentDisconnected
    | AgentSilent
    | AgentHeard
    | AgentPreempted
    | AgentLost
    | DrainRequested
    | AttemptAccepted
    | AttemptStarted
    | AttemptExited
    | AttemptVoided
    | LogsStored
    | Ticked
)


class Accepted(msgspec.Struct, frozen=True):
    """The job is durable. `warnings`: it can never be placed as things stand, and why."""

    job_id: JobId
    warnings: tuple[str, ...] = ()


class AlreadySubmitted(msgspec.Struct, frozen=True):
    """The idempotency key is in use by a live job; the caller compares bodies."""

    job_id: JobId
    body_sha256: str


class Welcomed(msgspec.Struct, frozen=True):
    session: int


class SyncAnswer(msgspec.Struct, frozen=True):
    """What the agent must let go of. Adopted attempts are simply not named."""

    forget: tuple[AttemptKey, ...]
    stop: tuple[AttemptKey, ...]  # unknown here or superseded
    adopted: int
    foreign: tuple[AttemptKey, ...] = ()  # of another history, and not to be touched


class Missing(msgspec.Struct, frozen=True):
    """The event names something that does not exist here (any more)."""

    what: str


Answer = Accepted | AlreadySubmitted | Welcomed | SyncAnswer | Missing | None
