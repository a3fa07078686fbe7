"""The first schema. `styx/store/tables.py` describes it column by column."""

from piccolo.apps.migrations.auto.migration_manager import MigrationManager
from piccolo.engine import engine_finder

ID = "2026-09-01T00:00:00:000000"
VERSION = "1.38.0"
DESCRIPTION = "jobs, specs, tasks, attempts, agents, logs, leadership"

TABLES = """
CREATE TABLE jobs (
    id uuid PRIMARY KEY,
    name text NOT NULL,
    project text NOT NULL,
    created_at timestamptz NOT NULL,
    idem_key text NOT NULL,
    body_sha256 text NOT NULL,
    on_failure text NOT NULL,
    labels jsonb NOT NULL,
    total integer NOT NULL,
    state text NOT NULL,
    cancel_reason text NOT NULL,
    cancel_force boolean NOT NULL,
    finished_at timestamptz,
    version integer NOT NULL
);
CREATE UNIQUE INDEX one_submit ON jobs (project, idem_key) WHERE idem_key <> '';
CREATE INDEX jobs_running ON jobs (id) WHERE state = 'running';
CREATE INDEX jobs_not_well ON jobs (id) WHERE state <> 'succeeded';
CREATE INDEX jobs_by_name ON jobs (name, id);

CREATE TABLE specs (
    id uuid PRIMARY KEY,
    job_id uuid NOT NULL,
    name text NOT NULL,
    labels jsonb NOT NULL,
    needs uuid[] NOT NULL,
    needs_on text[] NOT NULL,
    body text NOT NULL
);
CREATE INDEX specs_by_job ON specs (job_id);
CREATE INDEX specs_by_name ON specs (name, job_id);
CREATE INDEX specs_by_label ON specs USING gin (labels jsonb_path_ops) WHERE labels <> '{}';

CREATE TABLE tasks (
    id uuid PRIMARY KEY,
    job_id uuid NOT NULL,
    spec_id uuid NOT NULL,
    created_at timestamptz NOT NULL,
    array_index integer,
    state text NOT NULL,
    reason text NOT NULL,
    attempt integer NOT NULL,
    user_failures integer NOT NULL,
    infra_failures integer NOT NULL,
    not_before timestamptz,
    ready_at timestamptz,
    cancel_at timestamptz,
    finished_at timestamptz,
    version integer NOT NULL
) WITH (fillfactor = 75);
CREATE INDEX tasks_by_job ON tasks (job_id, id);
CREATE INDEX elements ON tasks (spec_id, array_index) WHERE array_index IS NOT NULL;
-- No index mentions the state: its every change would then write to all of them, where now the new
-- version of the row stays in its page. Tasks by state are found through their jobs.

CREATE TABLE attempts (
    task_id uuid NOT NULL,
    n integer NOT NULL,
    rank integer NOT NULL,
    agent_id uuid NOT NULL,
    state text NOT NULL,
    reason text NOT NULL,
    assigned_at timestamptz NOT NULL,
    accepted_at timestamptz,
    started_at timestamptz,
    ended_at timestamptz,
    stop_reason text NOT NULL,
    stop_at timestamptz,
    stop_grace_s double precision NOT NULL,
    exit text,
    logs_complete boolean NOT NULL,
    version integer NOT NULL,
    PRIMARY KEY (task_id, n, rank)
);
CREATE UNIQUE INDEX one_live ON attempts (task_id, rank)
    WHERE state IN ('assigned', 'accepted', 'running');
CREATE INDEX attempts_unfinished ON attempts (task_id) WHERE NOT logs_complete;

CREATE TABLE agents (
    id uuid PRIMARY KEY,
    name text NOT NULL,
    state text NOT NULL,
    session bigint NOT NULL,
    store_id text NOT NULL,
    boot_id text NOT NULL,
    version_text text NOT NULL,
    address text NOT NULL,
    capacity text NOT NULL,
    labels jsonb NOT NULL,
    drain boolean NOT NULL,
    joined_at timestamptz NOT NULL,
    changed_at timestamptz NOT NULL,
    version integer NOT NULL
);

CREATE TABLE log_heads (
    task_id uuid NOT NULL,
    n integer NOT NULL,
    rank integer NOT NULL,
    stream smallint NOT NULL,
    next_off bigint NOT NULL,
    opening bytea NOT NULL,
    PRIMARY KEY (task_id, n, rank, stream)
);

CREATE TABLE log_chunks (
    task_id uuid NOT NULL,
    n integer NOT NULL,
    rank integer NOT NULL,
    stream smallint NOT NULL,
    start_off bigint NOT NULL,
    end_off bigint NOT NULL,
    segment integer,
    position bigint,
    why text NOT NULL,
    PRIMARY KEY (task_id, n, rank, stream, start_off),
    CHECK (end_off > start_off)
);

CREATE TABLE leader_fence (id integer PRIMARY KEY CHECK (id = 1), term bigint NOT NULL);
INSERT INTO leader_fence VALUES (1, 0);
CREATE TABLE leader_lease (
    id integer PRIMARY KEY CHECK (id = 1),
    term bigint NOT NULL,
    holder text NOT NULL,
    expires_at timestamptz NOT NULL
);
INSERT INTO leader_lease VALUES (1, 0, '', '-infinity');
"""

# The code never fires these: they are assertions, kept where no bug of ours can pass them by.
GUARDS = """
CREATE FUNCTION styx_expect(what text, wanted bigint, actual bigint) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
    IF actual IS DISTINCT FROM wanted THEN
        RAISE EXCEPTION '% of % rows of % are as expected', actual, wanted, what
            USING ERRCODE = 'ST001';
    END IF;
    RETURN true;
END $$;

CREATE FUNCTION styx_final() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is final in %, and was to become %', OLD.state, TG_TABLE_NAME, NEW.state
        USING ERRCODE = 'ST002';
END $$;

CREATE TRIGGER final BEFORE UPDATE OF state ON jobs FOR EACH ROW
    WHEN (OLD.state <> 'running' AND NEW.state <> OLD.state)
    EXECUTE FUNCTION styx_final();
CREATE TRIGGER final BEFORE UPDATE OF state ON tasks FOR EACH ROW
    WHEN (OLD.state NOT IN ('blocked', 'ready', 'active') AND NEW.state <> OLD.state)
    EXECUTE FUNCTION styx_final();
CREATE TRIGGER final BEFORE UPDATE OF state ON attempts FOR EACH ROW
    WHEN (OLD.state NOT IN ('assigned', 'accepted', 'running') AND NEW.state <> OLD.state)
    EXECUTE FUNCTION styx_final();
"""


async def forwards() -> MigrationManager:
    manager = MigrationManager(migration_id=ID, app_name="styx", description=DESCRIPTION)

    async def run() -> None:
        async with engine_finder().transaction() as transaction:  # the one of all migrations
            await transaction.connection.execute(TABLES + GUARDS)

    manager.add_raw(run)
    return manager
