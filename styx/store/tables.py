"""The tables, for Piccolo: migrations are checked against them, admin reads are written with them.

The hot paths speak SQL through asyncpg (`commit`, `query`, `logs`). A test holds these classes
against the migrated database. Piccolo knows no composite keys: the first column of one stands for it.

Filtered and guarded values have columns of their own. What is only carried is JSON in a text column:
as a value of Postgres's own JSON types it could hold no NUL, and agents may send one.
"""

from piccolo.columns import (
    JSONB,
    UUID,
    Array,
    BigInt,
    Boolean,
    Bytea,
    DoublePrecision,
    Integer,
    SmallInt,
    Text,
    Timestamptz,
)
from piccolo.table import Table


class Jobs(Table):
    id = UUID(primary_key=True)
    name = Text()
    project = Text()
    created_at = Timestamptz()
    idem_key = Text()
    body_sha256 = Text()
    on_failure = Text()
    labels = JSONB()
    total = Integer()
    state = Text()
    cancel_reason = Text()  # "" until somebody wants all of it cancelled
    cancel_force = Boolean()
    finished_at = Timestamptz(null=True)
    version = Integer()
    traceparent = Text()
    notify = Text()  # core.spec.Hook, all of them
    untold = Boolean()  # until it is over, and its notifications are rows of their own


class Notifications(Table):
    """What somebody is to be told of a job's end; keyed by job and number. See `store.notices`."""

    job_id = UUID(primary_key=True)
    n = Integer()
    event = Text()
    url = Text()
    host = Text()  # of the URL: tries are shared out among hosts
    state = Text()  # waiting, delivered, gave_up
    tries = Integer()
    due_at = Timestamptz(null=True)  # the next try, while there is one
    tried_at = Timestamptz(null=True)
    status = Integer(null=True)  # of the last answer
    detail = Text()


class Specs(Table):
    """One row for each spec of a job, shared by the elements of an array; never changed."""

    id = UUID(primary_key=True)  # of the first task made from it
    job_id = UUID()
    name = Text()
    labels = JSONB()
    needs = Array(base_column=UUID())  # task ids: edges are resolved per spec
    needs_on = Array(base_column=Text())  # of each, which end satisfies it
    body = Text()  # core.spec.TaskSpec
    cache_key = Text()  # "" of what runs anew each time


class Tasks(Table):
    id = UUID(primary_key=True)
    job_id = UUID()
    spec_id = UUID()
    created_at = Timestamptz()
    array_index = Integer(null=True)
    state = Text()
    reason = Text()
    attempt = Integer()
    user_failures = Integer()
    infra_failures = Integer()
    deaths = Integer()
    not_before = Timestamptz(null=True)
    ready_at = Timestamptz(null=True)
    cancel_at = Timestamptz(null=True)
    finished_at = Timestamptz(null=True)
    version = Integer()
    taken_from = UUID(null=True, default=None)  # the earlier task whose success stands for its own


class Attempts(Table):
    """Keyed by task, number and rank."""

    task_id = UUID(primary_key=True)
    n = Integer()
    rank = Integer()
    agent_id = UUID()
    state = Text()
    reason = Text()
    assigned_at = Timestamptz()
    accepted_at = Timestamptz(null=True)
    started_at = Timestamptz(null=True)
    ended_at = Timestamptz(null=True)
    stop_reason = Text()
    stop_at = Timestamptz(null=True)
    stop_grace_s = DoublePrecision()
    exit = Text(null=True)  # core.attempt.Exit
    logs_complete = Boolean()
    choice = Integer()
    version = Integer()


class Agents(Table):
    id = UUID(primary_key=True)
    name = Text()
    state = Text()
    session = BigInt()
    store_id = Text()
    boot_id = Text()
    version_text = Text()
    address = Text()
    capacity = Text()  # core.agent.Capacity
    labels = JSONB()
    drain = Boolean()
    rejects = Integer()
    rejects_since = Timestamptz(null=True)
    preempt_at = Timestamptz(null=True)
    joined_at = Timestamptz()
    changed_at = Timestamptz()
    version = Integer()


class LogHeads(Table):
    """One row for each stream that has bytes, keyed by attempt and stream."""

    task_id = UUID(primary_key=True)
    n = Integer()
    rank = Integer()
    stream = SmallInt()
    next_off = BigInt()  # the next byte wanted
    opening = Bytea()  # the first bytes of the stream, while they are few; the rest is in chunks


class LogChunks(Table):
    """A contiguous run of bytes in a segment file, or of bytes gone for good; keyed by its start."""

    task_id = UUID(primary_key=True)
    n = Integer()
    rank = Integer()
    stream = SmallInt()
    start_off = BigInt()
    end_off = BigInt()
    segment = BigInt(null=True)  # its term and its place in the term; null is a gap
    position = BigInt(null=True)
    why = Text()  # of a gap: spool_cap, disk_full, limit


class Blobs(Table):
    """A piece of a file, by its SHA-256."""

    sha256 = Bytea(primary_key=True)
    size = Integer()
    used_at = Timestamptz()  # roughly: see `store.files.TOUCH_S`
    data = Bytea()


class Bundles(Table):
    """A directory, as `core.bundle` has it: all of its blobs were here when it came."""

    id = Bytea(primary_key=True)  # SHA-256 of the manifest
    size = BigInt()  # of the files
    used_at = Timestamptz()
    manifest = Bytea()


class Audit(Table):
    """A chain: `hash` is over the hash before, the number and the entry. See the migration."""

    seq = BigInt(primary_key=True)
    prev = Text()
    entry = Text()  # core.audit.Entry
    hash = Text()


class Schedules(Table):
    """See `exchange.ScheduleRow`. `one_submit` of jobs keeps each due time to one job."""

    id = UUID(primary_key=True)
    name = Text()
    project = Text()
    document = Text()  # of a job, as it was given
    cron = Text()
    timezone = Text()
    missed = Text()
    overlap = Text()
    paused = Boolean()
    due_at = Timestamptz(null=True)
    last_due_at = Timestamptz(null=True)
    last_job_id = UUID(null=True)
    passed_at = Timestamptz(null=True)
    passed_why = Text()
    created_at = Timestamptz()
    version = Integer()


class Secrets(Table):
    """Values sealed under the server's key, which is not here. `one_secret`: a name is one of a project."""

    id = UUID(primary_key=True)
    project = Text()
    name = Text()  # with a ~ of what was given for one job
    job_id = UUID(null=True)  # which that is, once it is there
    ciphertext = Bytea()
    wrapped_key = Bytea()  # that the value is sealed with
    key_id = Text()  # of the server's key that this one is sealed with
    created_at = Timestamptz()
    created_by = Text()
    updated_at = Timestamptz()
    updated_by = Text()


class LeaderFence(Table):
    """One row. Every write of a leader share-locks it at its own term."""

    id = Integer(primary_key=True)
    term = BigInt()
    generation = BigInt()  # of this history: random, made anew when a backup was restored
    origin = Text()  # where in the world this very table lay when it was made


class LeaderLease(Table):
    """One row, apart from the fence: or renewals would queue behind share locks."""

    id = Integer(primary_key=True)
    term = BigInt()
    holder = Text()
    expires_at = Timestamptz()
