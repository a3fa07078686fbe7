"""Row ⇄ core struct: what each column holds of which value, and back."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
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
    """`fixed` columns never change after the insert; `document` holds a value's columns by name."""

    name: str
    key: tuple[str, ...]
    fixed: tuple[str, ...]
    types: Mapping[str, str]
    document: Callable[[Any], dict[str, object]]

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


def _task(task: Task) -> dict[str, object]:
    return {
        "id": task.id,
        "job_id": task.job_id,
        "spec_id": task.spec_id,
        "created_at": task.created_at,
        "array_index": task.array_index,
        "state": task.state,
        "reason": task.reason,
        "attempt": task.attempt,
        "user_failures": task.user_failures,
        "infra_failures": task.infra_failures,
        "deaths": task.deaths,
        "not_before": task.not_before,
        "ready_at": task.ready_at,
        "cancel_at": task.cancel_at,
        "finished_at": task.finished_at,
        "version": task.version,
        "taken_from": task.taken_from,
    }


def _attempt(attempt: Attempt) -> dict[str, object]:
    return {
        "task_id": attempt.task_id,
        "n": attempt.n,
        "rank": attempt.rank,
        "agent_id": attempt.agent_id,
        "state": attempt.state,
        "reason": attempt.reason,
        "assigned_at": attempt.assigned_at,
        "accepted_at": attempt.accepted_at,
        "started_at": attempt.started_at,
        "ended_at": attempt.ended_at,
        "stop_reason": attempt.stop_reason,
        "stop_at": attempt.stop_at,
        "stop_grace_s": attempt.stop_grace_s,
        "exit": None if attempt.exit is None else _carried(attempt.exit),
        "logs_complete": attempt.logs_complete,
        "version": attempt.version,
    }


def _agent(agent: Agent) -> dict[str, object]:
    columns: dict[str, object] = {name: getattr(agent, name) for name in AGENTS.types}
    columns["capacity"] = _carried(agent.capacity)
    return columns


def _carried(value: object) -> str:
    """JSON within a document of JSON, as a string: where Postgres would refuse an escaped NUL."""
    return _encode(value).decode()


JOBS: Final = Table(
    "jobs",
    ("id",),
    (
        *("name", "project", "created_at", "idem_key", "body_sha256", "on_failure", "labels"),
        *("total", "traceparent", "notify", "untold"),
    ),
    _types(
        "id uuid, name text, project text, created_at timestamptz, idem_key text, body_sha256 text,"
        "on_failure text, labels jsonb, total integer, state text, cancel_reason text,"
        "cancel_force boolean, finished_at timestamptz, version integer, traceparent text,"
        "notify text, untold boolean"
    ),
    _job,
)
SPECS: Final = Table(
    "specs",
    ("id",),
    (),
    _types(
        "id uuid, job_id uuid, name text, labels jsonb, needs uuid[], needs_on text[], body text,"
        "cache_key text"
    ),
    _new_spec,
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
)
ATTEMPTS: Final = Table(
    "attempts",
    ("task_id", "n", "rank"),
    ("agent_id", "assigned_at"),
    _types(
        "task_id uuid, n integer, rank integer, agent_id uuid, state text, reason text,"
        "assigned_at timestamptz, accepted_at timestamptz, started_at timestamptz,"
        "ended_at timestamptz, stop_reason text, stop_at timestamptz, stop_grace_s float8,"
        "exit text, logs_complete boolean, version integer"
    ),
    _attempt,
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
    _agent,
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
