"""Row ⇄ core struct: what each column holds of which value, and back."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import msgspec

from styx.core.agent import Agent, AgentState, Capacity
from styx.core.attempt import Attempt, AttemptState, Exit, StopReason
from styx.core.ids import AttemptKey, SpecId, TaskId
from styx.core.job import Job, JobState
from styx.core.spec import Hook, On, OnFailure, TaskSpec, lean
from styx.core.task import Edge, Reason, Task, TaskState

Row = Mapping[str, Any]

_encode: Final = msgspec.json.Encoder().encode

LIVE_TASKS: Final = "state IN ('blocked', 'ready', 'active')"
LIVE_ATTEMPTS: Final = "state IN ('assigned', 'accepted', 'running')"


@dataclass(frozen=True, eq=False, slots=True)
class Table:
    """`fixed` columns never change after the insert. `document` holds by name those columns of a value, and of
    one that is not new without the fixed, that are not NULL and not as usual: half the server's work on a
    row is reading its document.
    """

    name: str
    key: tuple[str, ...]
    fixed: tuple[str, ...]
    types: Mapping[str, str]
    document: Callable[[Any, bool], dict[str, object]]
    usual: Mapping[str, str] = field(
        default_factory=dict[str, str]
    )  # of columns that are never NULL, in SQL

    def given(self, name: str) -> str:
        """A column of a document that is read as `given`."""
        usual = self.usual.get(name)
        return f"given.{name}" if usual is None else f"coalesce(given.{name}, {usual})"

    def names(self, alias: str = "") -> str:
        prefix = f"{alias}." if alias else ""
        return ", ".join(prefix + name for name in self.types)


class NewSpec(NamedTuple):
    """A spec, and the first task made from it: what its tasks have in common they have from there."""

    id: SpecId
    spec: TaskSpec
    first: Task


def _types(text: str) -> dict[str, str]:
    """From `name type, name type`."""
    return dict(column.split() for column in text.split(","))


def _job(job: Job) -> dict[str, object]:
    return {
        "id": job.id,
        "name": job.name,
        "project": job.project,
        "created_at": job.created_at,
        "idem_key": job.idem_key,
        "body_sha256": job.body_sha256,
        "on_failure": job.on_failure,
        "labels": job.labels,
        "total": job.total,
        "state": job.state,
        "cancel_reason": job.cancel_reason,
        "cancel_force": job.cancel_force,
        "finished_at": job.finished_at,
        "version": job.version,
        "traceparent": job.traceparent,
        "notify": _carried(job.notify) if job.notify else "[]",
        "untold": bool(job.notify),
    }


def _new_spec(new: NewSpec) -> dict[str, object]:
    return {
        "id": new.id,
        "job_id": new.first.job_id,
        "name": new.spec.name,
        "labels": new.spec.labels,
        "needs": [edge.task_id for edge in new.first.needs],
        "needs_on": [edge.on for edge in new.first.needs],
        "body": _carried(new.spec),
        "cache_key": new.spec.cache_key,
    }


def _task(task: Task, new: bool) -> dict[str, object]:
    """The hottest two, so they are written out: what has its usual value is left out."""
    row: dict[str, object] = {"id": task.id, "state": task.state, "version": task.version}
    if new:
        row |= {"job_id": task.job_id, "spec_id": task.spec_id, "created_at": task.created_at}
        if task.array_index is not None:
            row["array_index"] = task.array_index
        if task.taken_from is not None:
            row["taken_from"] = task.taken_from
    if task.ready_at is not None:
        row["ready_at"] = task.ready_at
    if task.attempt:
        row["attempt"] = task.attempt
    if task.reason:
        row["reason"] = task.reason
    if task.user_failures:
        row["user_failures"] = task.user_failures
    if task.infra_failures:
        row["infra_failures"] = task.infra_failures
    if task.deaths:
        row["deaths"] = task.deaths
    if task.not_before is not None:
        row["not_before"] = task.not_before
    if task.cancel_at is not None:
        row["cancel_at"] = task.cancel_at
    if task.finished_at is not None:
        row["finished_at"] = task.finished_at
    return row


def _attempt(attempt: Attempt, new: bool) -> dict[str, object]:
    key = attempt.key
    row: dict[str, object] = {
        "task_id": key.task_id,
        "n": key.n,
        "rank": key.rank,
        "state": attempt.state,
        "version": attempt.version,
    }
    if new:
        row |= {"agent_id": attempt.agent_id, "assigned_at": attempt.assigned_at}
        if attempt.choice:
            row["choice"] = attempt.choice
    if attempt.reason:
        row["reason"] = attempt.reason
    if attempt.accepted_at is not None:
        row["accepted_at"] = attempt.accepted_at
    if attempt.started_at is not None:
        row["started_at"] = attempt.started_at
    if attempt.ended_at is not None:
        row["ended_at"] = attempt.ended_at
    if attempt.stop_reason:
        row["stop_reason"] = attempt.stop_reason
    if attempt.stop_at is not None:
        row["stop_at"] = attempt.stop_at
    if attempt.stop_grace_s:
        row["stop_grace_s"] = attempt.stop_grace_s
    if attempt.exit is not None:
        row["exit"] = _carried(attempt.exit)
    if attempt.logs_complete:
        row["logs_complete"] = True
    return row


def _present(
    whole: Callable[[Any], dict[str, object]], fixed: Collection[str] = ()
) -> Callable[[Any, bool], dict[str, object]]:
    """Of all columns those with a value, and of a row that is not new those that may change."""

    def present(value: Any, new: bool) -> dict[str, object]:
        return {
            name: column
            for name, column in whole(value).items()
            if column is not None and (new or name not in fixed)
        }

    return present


def _agent(agent: Agent) -> dict[str, object]:
    columns: dict[str, object] = {name: getattr(agent, name) for name in AGENTS.types}
    columns["capacity"] = _carried(agent.capacity)
    return columns


def _carried(value: object) -> str:
    """JSON within a document of JSON, as a string: where Postgres would refuse an escaped NUL."""
    return _encode(value).decode()


_FIXED_OF_JOBS: Final = (
    *("name", "project", "created_at", "idem_key", "body_sha256", "on_failure", "labels"),
    *("total", "traceparent", "notify", "untold"),
)
JOBS: Final = Table(
    "jobs",
    ("id",),
    _FIXED_OF_JOBS,
    _types(
        "id uuid, name text, project text, created_at timestamptz, idem_key text, body_sha256 text,"
        "on_failure text, labels jsonb, total integer, state text, cancel_reason text,"
        "cancel_force boolean, finished_at timestamptz, version integer, traceparent text,"
        "notify text, untold boolean"
    ),
    _present(_job, _FIXED_OF_JOBS),
)
SPECS: Final = Table(
    "specs",
    ("id",),
    (),
    _types(
        "id uuid, job_id uuid, name text, labels jsonb, needs uuid[], needs_on text[], body text,"
        "cache_key text"
    ),
    _present(_new_spec),
)
TASKS: Final = Table(
    "tasks",
    ("id",),
    ("job_id", "spec_id", "created_at", "array_index", "taken_from"),
    _types(
        "id uuid, job_id uuid, spec_id uuid, created_at timestamptz, array_index integer,"
        "state text, reason text, attempt integer, user_failures integer, infra_failures integer,"
        "deaths integer, not_before timestamptz, ready_at timestamptz, cancel_at timestamptz,"
        "finished_at timestamptz, version integer, taken_from uuid"
    ),
    _task,
    {
        "reason": "''",
        "attempt": "0",
        "user_failures": "0",
        "infra_failures": "0",
        "deaths": "0",
    },
)
ATTEMPTS: Final = Table(
    "attempts",
    ("task_id", "n", "rank"),
    ("agent_id", "assigned_at", "choice"),
    _types(
        "task_id uuid, n integer, rank integer, agent_id uuid, state text, reason text,"
        "assigned_at timestamptz, accepted_at timestamptz, started_at timestamptz,"
        "ended_at timestamptz, stop_reason text, stop_at timestamptz, stop_grace_s float8,"
        "exit text, logs_complete boolean, choice integer, version integer"
    ),
    _attempt,
    {
        "reason": "''",
        "stop_reason": "''",
        "stop_grace_s": "0",
        "logs_complete": "false",
        "choice": "0",
    },
)
AGENTS: Final = Table(
    "agents",
    ("id",),
    (),
    _types(
        "id uuid, name text, state text, session bigint, store_id text, boot_id text,"
        "version_text text, address text, capacity text, labels jsonb, drain boolean,"
        "rejects integer, rejects_since timestamptz, preempt_at timestamptz,"
        "joined_at timestamptz, changed_at timestamptz, version integer"
    ),
    _present(_agent),
)

_labels: Final = msgspec.json.Decoder(dict[str, str]).decode
spec: Final = msgspec.json.Decoder(TaskSpec).decode
hooks: Final = msgspec.json.Decoder(tuple[Hook, ...]).decode
_exited: Final = msgspec.json.Decoder(Exit).decode
_capacity: Final = msgspec.json.Decoder(Capacity).decode
# A dictionary answers in a third of the time that an enum's call takes, and there are many rows.
_job_state: Final = {state.value: state for state in JobState}
_task_state: Final = {state.value: state for state in TaskState}
_attempt_state: Final = {state.value: state for state in AttemptState}
_reason: Final = {reason.value: reason for reason in Reason}
_stop: Final = {reason.value: reason for reason in StopReason}


def task_state(text: str) -> TaskState:
    return _task_state[text]


def job(row: Row) -> Job:
    return Job(
        id=row["id"],
        name=row["name"],
        project=row["project"],
        created_at=row["created_at"],
        idem_key=row["idem_key"],
        body_sha256=row["body_sha256"],
        on_failure=OnFailure(row["on_failure"]),
        labels=_labels(row["labels"]),
        total=row["total"],
        state=_job_state[row["state"]],
        cancel_reason=_reason[row["cancel_reason"]],
        cancel_force=row["cancel_force"],
        finished_at=row["finished_at"],
        version=row["version"],
        traceparent=row["traceparent"],
        notify=() if row["notify"] == "[]" else hooks(row["notify"]),
    )


class Shared(NamedTuple):
    """What the tasks of one spec have in common."""

    spec: TaskSpec
    needs: tuple[Edge, ...]


def shared(row: Row) -> Shared:
    """From a row with `body`, `needs` and `needs_on`."""
    needs = zip(row["needs"], row["needs_on"], strict=True)
    return Shared(lean(spec(row["body"])), tuple(Edge(TaskId(need), On(on)) for need, on in needs))


def task(row: Row, of: Shared) -> Task:
    return Task(
        id=row["id"],
        job_id=row["job_id"],
        spec_id=row["spec_id"],
        spec=of.spec,
        created_at=row["created_at"],
        array_index=row["array_index"],
        needs=of.needs,
        state=_task_state[row["state"]],
        reason=_reason[row["reason"]],
        attempt=row["attempt"],
        user_failures=row["user_failures"],
        infra_failures=row["infra_failures"],
        deaths=row["deaths"],
        not_before=row["not_before"],
        ready_at=row["ready_at"],
        cancel_at=row["cancel_at"],
        finished_at=row["finished_at"],
        version=row["version"],
        taken_from=row["taken_from"],
    )


def attempt(row: Row) -> Attempt:
    ended = row["exit"]
    return Attempt(
        key=AttemptKey(row["task_id"], row["n"], row["rank"]),
        agent_id=row["agent_id"],
        state=_attempt_state[row["state"]],
        reason=_reason[row["reason"]],
        assigned_at=row["assigned_at"],
        accepted_at=row["accepted_at"],
        started_at=row["started_at"],
        ended_at=row["ended_at"],
        stop_reason=_stop[row["stop_reason"]],
        stop_at=row["stop_at"],
        stop_grace_s=row["stop_grace_s"],
        exit=None if ended is None else _exited(ended),
        logs_complete=row["logs_complete"],
        choice=row["choice"],
        version=row["version"],
    )


def agent(row: Row) -> Agent:
    return Agent(
        id=row["id"],
        name=row["name"],
        state=AgentState(row["state"]),
        session=row["session"],
        store_id=row["store_id"],
        boot_id=row["boot_id"],
        version_text=row["version_text"],
        address=row["address"],
        capacity=_capacity(row["capacity"]),
        labels=_labels(row["labels"]),
        drain=row["drain"],
        rejects=row["rejects"],
        rejects_since=row["rejects_since"],
        preempt_at=row["preempt_at"],
        joined_at=row["joined_at"],
        changed_at=row["changed_at"],
        version=row["version"],
    )
