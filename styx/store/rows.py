"""Row ⇄ core struct: what each column holds of which value, and back."""

from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import Any, Final, NamedTuple

import msgspec

from styx.core.agent import Agent, AgentState, Capacity
from styx.core.attempt import Attempt, AttemptState, Exit, StopReason
from styx.core.ids import SpecId, TaskId
from styx.core.job import Job, JobState
from styx.core.spec import On, OnFailure, TaskSpec
from styx.core.task import Edge, Reason, Task, TaskState

Row = Mapping[str, Any]

LIVE_TASKS: Final = "state IN ('blocked', 'ready', 'active')"
LIVE_ATTEMPTS: Final = "state IN ('assigned', 'accepted', 'running')"


class Column(NamedTuple):
    """`read` takes the column's value from a struct; `fixed` columns never change after the insert.

    `sent` is the type that crosses where it is not the column's own: an array of arrays of different
    lengths has no form in SQL, so each crosses as text.
    """

    name: str
    type: str
    read: Callable[[Any], object]
    fixed: bool = False
    sent: str = ""


class Table(NamedTuple):
    name: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]

    def names(self, alias: str = "") -> str:
        prefix = f"{alias}." if alias else ""
        return ", ".join(prefix + column.name for column in self.columns)


class NewSpec(NamedTuple):
    """A spec with what its tasks share."""

    id: SpecId
    spec: TaskSpec
    first: Task


_encode: Final = msgspec.json.Encoder().encode


def _plain(*names_and_types: str, fixed: bool = False) -> tuple[Column, ...]:
    return tuple(
        Column(name, kind, attrgetter(name), fixed=fixed)
        for name, kind in (pair.split(" ") for pair in names_and_types)
    )


def _json(name: str, value: Callable[[Any], object], *, fixed: bool = False) -> Column:
    """For filtering: jsonb, which crosses as text."""

    def read(row: object) -> str:
        return _encode(value(row)).decode()

    return Column(name, "jsonb", read, fixed=fixed)


def _bytes(name: str, value: Callable[[Any], object]) -> Column:
    def read(row: object) -> bytes | None:
        carried = value(row)
        return None if carried is None else _encode(carried)

    return Column(name, "bytea", read)


def _needs(new: NewSpec) -> str:
    return "{" + ",".join(edge.task_id for edge in new.first.needs) + "}"


def _needs_on(new: NewSpec) -> str:
    return "{" + ",".join(edge.on for edge in new.first.needs) + "}"


JOBS: Final = Table(
    "jobs",
    ("id",),
    (
        *_plain("id uuid", "name text", "project text", "created_at timestamptz", fixed=True),
        *_plain("idem_key text", "body_sha256 text", "on_failure text", fixed=True),
        _json("labels", attrgetter("labels"), fixed=True),
        *_plain("total int4", fixed=True),
        *_plain("state text", "cancel_reason text", "cancel_force bool"),
        *_plain("finished_at timestamptz", "version int4"),
    ),
)
SPECS: Final = Table(
    "specs",
    ("id",),
    (
        *_plain("id uuid"),
        Column("job_id", "uuid", attrgetter("first.job_id")),
        Column("name", "text", attrgetter("spec.name")),
        _json("labels", attrgetter("spec.labels")),
        Column("needs", "uuid[]", _needs, sent="text"),
        Column("needs_on", "text[]", _needs_on, sent="text"),
        _bytes("body", attrgetter("spec")),
    ),
)
TASKS: Final = Table(
    "tasks",
    ("id",),
    (
        *_plain("id uuid", "job_id uuid", "spec_id uuid", fixed=True),
        *_plain("created_at timestamptz", "array_index int4", fixed=True),
        *_plain("state text", "reason text", "attempt int4"),
        *_plain("user_failures int4", "infra_failures int4"),
        *_plain("not_before timestamptz", "ready_at timestamptz", "cancel_at timestamptz"),
        *_plain("finished_at timestamptz", "version int4"),
    ),
)
ATTEMPTS: Final = Table(
    "attempts",
    ("task_id", "n", "rank"),
    (
        *_plain("task_id uuid", "n int4", "rank int4", fixed=True),
        *_plain("agent_id uuid", "assigned_at timestamptz", fixed=True),
        *_plain("state text", "reason text"),
        *_plain("accepted_at timestamptz", "started_at timestamptz", "ended_at timestamptz"),
        *_plain("stop_reason text", "stop_at timestamptz", "stop_grace_s float8"),
        _bytes("exit", attrgetter("exit")),
        *_plain("logs_complete bool", "version int4"),
    ),
)
AGENTS: Final = Table(
    "agents",
    ("id",),
    (
        *_plain("id uuid", fixed=True),
        *_plain("name text", "state text", "session int8", "store_id text", "boot_id text"),
        *_plain("version_text text", "address text"),
        _bytes("capacity", attrgetter("capacity")),
        _json("labels", attrgetter("labels")),
        *_plain("drain bool", "joined_at timestamptz", "changed_at timestamptz", "version int4"),
    ),
)

_labels: Final = msgspec.json.Decoder(dict[str, str]).decode
_spec: Final = msgspec.json.Decoder(TaskSpec).decode
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
    )


class Shared(NamedTuple):
    """What the tasks of one spec have in common."""

    spec: TaskSpec
    needs: tuple[Edge, ...]


def shared(row: Row) -> Shared:
    """From a row with `body`, `needs` and `needs_on`."""
    needs = zip(row["needs"], row["needs_on"], strict=True)
    return Shared(_spec(row["body"]), tuple(Edge(TaskId(need), On(on)) for need, on in needs))


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
        not_before=row["not_before"],
        ready_at=row["ready_at"],
        cancel_at=row["cancel_at"],
        finished_at=row["finished_at"],
        version=row["version"],
    )


def attempt(row: Row) -> Attempt:
    ended = row["exit"]
    return Attempt(
        task_id=row["task_id"],
        n=row["n"],
        rank=row["rank"],
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
        joined_at=row["joined_at"],
        changed_at=row["changed_at"],
        version=row["version"],
    )
