"""Answers of the HTTP API: the public contract, change it only by adding.

Requests are the forms of `core.form`. Times are RFC 3339 in UTC; sizes in bytes unless named.
"""

from datetime import datetime
from typing import Any, Literal

import msgspec

Status = Literal[
    "blocked",
    "queued",
    "provisioning",
    "assigned",
    "running",
    "cancelling",
    "succeeded",
    "failed",
    "cancelled",
    "skipped",
    "lost",
]
TERMINAL: frozenset[str] = frozenset({"succeeded", "failed", "cancelled", "skipped", "lost"})


class Health(msgspec.Struct):
    status: str
    version: str
    service: str


class Ready(msgspec.Struct):
    ready: bool
    database: str  # ok, unavailable
    leader: bool
    durability: str = "local"


class Problem(msgspec.Struct, omit_defaults=True):
    """RFC 9457, as application/problem+json."""

    title: str
    status: int
    detail: str
    code: str  # the machine word: invalid_spec, not_found, …
    type: str = "about:blank"
    hint: str = ""
    request_id: str = ""
    errors: list["ProblemField"] = []


class ProblemField(msgspec.Struct):
    path: str
    message: str


class Submitted(msgspec.Struct, omit_defaults=True):
    """`submitted` is a promise: the task is durable and is never lost after this answer."""

    task_id: str
    status: Literal["submitted"]
    task_ids: list[str] = []  # of an array: its elements, `task_id` being the first
    warnings: list[str] = []


class JobSubmitted(msgspec.Struct, omit_defaults=True):
    job_id: str
    task_ids: dict[str, str | list[str]]  # an array's name stands for the ids of its elements
    status: Literal["submitted"]
    warnings: list[str] = []


class PlannedAgent(msgspec.Struct):
    id: str
    name: str
    count: int  # tasks that would start there; of a gang, members


class TaskPlan(msgspec.Struct):
    """What would become of the tasks of one spec: `total` is the sum of the five counts."""

    name: str
    total: int
    starting: int  # at once
    waiting: int  # for room
    blocked: int  # until what they need is over
    cached: int  # they need not run: an earlier task's success is taken
    untried: int  # beyond what one plan looks at: no more is known of them
    agents: list[PlannedAgent]
    needs: list["PlannedNeed"]
    num_nodes: int
    priority: str
    resources: "ResourcesView"
    price_usd_per_hour: (
        float  # of what would be rented for those that start: agents of one's own cost nothing
    )
    hindrances: list[
        "Hindrance"
    ]  # of the first that waits; of any, when no agent could ever run it


class PlannedNeed(msgspec.Struct):
    task: str
    on: str


class JobPlan(msgspec.Struct):
    """What `?plan=1` answers: nothing was made, and nothing is kept free for it."""

    name: str
    total: int
    starting: int
    waiting: int
    blocked: int
    cached: int
    untried: int
    price_usd_per_hour: float
    tasks: list[TaskPlan]


class CancelAccepted(msgspec.Struct):
    id: str
    status: str


class ResourcesView(msgspec.Struct, omit_defaults=True):
    cpus: float = 0.0
    memory_gib: float = 0.0
    disk_gib: float = 0.0
    gpus: int = 0
    gpu_model: str = ""
    arch: str = ""
    labels: dict[str, str] = {}
    any_of: list["ResourcesView"] = []  # alternatives, of which this is the first
    ordered: bool = False  # which of them are preferred as they stand


class AttemptView(msgspec.Struct):
    n: int
    rank: int
    status: str
    reason: str
    agent_id: str
    agent: str  # its name
    assigned_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    exit_code: int | None
    signal: int | None
    detail: str
    duration_ms: int | None
    cpu_ms: int | None
    max_rss_bytes: int | None
    logs_complete: bool
    out_bytes: int
    err_bytes: int
    choice: (
        int  # of the alternatives in the task's `resources.any_of`, from 0; 0 too where it has none
    )


class TaskView(msgspec.Struct):
    id: str
    job_id: str
    name: str
    status: Status
    reason: str
    exit_code: int | None
    signal: int | None
    attempt: int
    priority: str
    command: list[str]
    run: str
    resources: ResourcesView
    num_nodes: int
    labels: dict[str, str]
    needs: list[str]  # task ids
    array_index: int | None
    agent: str  # name of the (first) agent of the current or last attempt
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    duration_ms: int | None


class TaskDetail(TaskView):
    env: dict[str, str] = {}
    workdir: str = ""
    setup: str = ""
    bundle: str = ""
    files: dict[str, str] = {}  # "/" or "~" → bundle
    image: str = ""
    outputs: list[str] = []  # what it is to leave: paths, behind an arrow the bucket
    retries: int = 0
    infra_retries: int = 0
    timeout_s: float | None = None
    queue_timeout_s: float | None = None
    detail: str = ""  # of the last attempt's end, for people
    taken_from: str | None = None  # it did not run: the earlier task whose success is its own
    attempts: list[AttemptView] = []


class JobView(msgspec.Struct):
    id: str
    name: str
    status: str  # running, succeeded, failed, cancelled, lost
    total: int
    counts: dict[str, int]  # task status -> tasks
    labels: dict[str, str]
    on_failure: str
    created_at: datetime
    finished_at: datetime | None


class JobDetail(JobView):
    notifications: list["NotificationView"] = []  # once it is over


class NotificationView(msgspec.Struct):
    """What somebody is told of a job's end. Of its URL the host, as the rest may be a secret."""

    id: str  # the header webhook-id, the same in every try
    event: str  # job.succeeded, job.failed, job.cancelled, job.lost
    url: str
    status: str  # waiting, delivered, gave_up
    tries: int
    last_status: int | None  # the HTTP status of the last answer
    detail: str  # why the last try failed, for people
    tried_at: datetime | None
    next_at: datetime | None


class ScheduleView(msgspec.Struct):
    id: str
    name: str
    status: Literal["active", "paused", "over"]  # over: it is never due again
    cron: str
    timezone: str
    missed: str
    overlap: str
    due_at: datetime | None  # next; null while it is paused
    last_due_at: datetime | None  # for which a job was made
    last_job_id: str | None
    passed_at: datetime | None  # the last due time for which none was made, and why
    passed_why: str
    created_at: datetime


class ScheduleDetail(ScheduleView):
    upcoming: list[datetime] = []  # in its own zone
    jobs: list["ScheduledJob"] = []  # the last ones, newest first
    job: dict[str, Any] = {}  # what it submits


class ScheduledJob(msgspec.Struct):
    id: str
    status: str
    due_at: datetime | None  # null: somebody asked for it
    created_at: datetime
    finished_at: datetime | None


class ScheduleRun(msgspec.Struct):
    job_id: str


class GraphView(msgspec.Struct):
    """A job's DAG. An array is one node; `counts` are its elements by status."""

    nodes: list["GraphNode"]
    edges: list["GraphEdge"]


class GraphNode(msgspec.Struct):
    name: str
    task_ids: list[str]  # at most 1,000 of them
    width: int
    counts: dict[str, int]


class GraphEdge(msgspec.Struct):
    source: str
    target: str
    on: str


class AgentView(msgspec.Struct):
    id: str
    name: str
    status: str
    version: str
    address: str
    labels: dict[str, str]
    resources: ResourcesView
    used: ResourcesView
    gpu_models: list[str]
    running: int
    joined_at: datetime
    last_seen_s: float | None  # seconds since the last frame; null when not connected
    load: dict[
        str, float
    ]  # cpu_percent, load1, memory_used_bytes, …; empty until the first reading
    # Attempts that it runs and this database forgot, as it was restored from a backup: left alone.
    foreign: list[str] = []
    features: list[str] = []  # what it can do beyond running a command: files, …


class Hindrance(msgspec.Struct, omit_defaults=True):
    """One reason why a task is not running: a machine word, what it is about, and words for people."""

    code: str
    subject: str  # an agent's or a task's name, or ""
    message: str
    id: str = ""


class Explanation(msgspec.Struct):
    """`hindrances` answer "why not yet"; `history` what happened, attempt by attempt."""

    task_id: str
    name: str
    status: Status
    summary: str
    hindrances: list[Hindrance]
    hint: str
    history: list["HistoryView"]


class HistoryView(msgspec.Struct):
    """One thing that happened to a task."""

    at: datetime
    what: str  # submitted, ready, assigned, accepted, running, succeeded, …
    attempt: int
    rank: int
    agent: str
    reason: str
    detail: str


class AuditView(msgspec.Struct):
    """One entry of the audit trail; `text` is what was hashed."""

    seq: int
    at: datetime
    actor: str  # token:ID, peer:USER, agent:ID, or styx itself
    action: str  # job.submit, job.retry, job.cancel, task.cancel, agent.drain, agent.resume, …
    object_id: str
    detail: str
    prev: str  # the hash of the entry before
    hash: str
    text: str


class FeedEvent(msgspec.Struct):
    """A change, as /api/v1/events streams it; resume with its `id` as Last-Event-ID.

    A task's changes include those of its attempts: `status` is the public word.
    """

    id: str
    at: datetime
    kind: Literal["task", "job", "agent", "reset"]  # reset: changes were missed, list again
    object_id: str
    name: str
    status: str
    reason: str = ""
    job_id: str = ""
    attempt: int = 0
    agent: str = ""
    exit_code: int | None = None
