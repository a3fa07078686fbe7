"""Whom a job tells of its end, and what of that has been told."""

from piccolo.apps.migrations.auto.migration_manager import MigrationManager
from piccolo.engine import engine_finder

ID = "2026-12-01T05:10:00:000000"
VERSION = "1.38.0"
DESCRIPTION = "jobs.notify, jobs.untold, notifications"

CHANGES = """
ALTER TABLE jobs ADD COLUMN notify text NOT NULL DEFAULT '[]';
ALTER TABLE jobs ADD COLUMN untold boolean NOT NULL DEFAULT false;
CREATE INDEX jobs_untold ON jobs (id) WHERE untold AND state <> 'running';

CREATE TABLE notifications (
    job_id uuid NOT NULL,
    n integer NOT NULL,
    event text NOT NULL,
    url text NOT NULL,
    host text NOT NULL,
    state text NOT NULL,
    tries integer NOT NULL,
    due_at timestamptz,
    tried_at timestamptz,
    status integer,
    detail text NOT NULL,
    PRIMARY KEY (job_id, n),
    CHECK ((state = 'waiting') = (due_at IS NOT NULL))
);
CREATE INDEX notifications_due ON notifications (host, due_at) WHERE due_at IS NOT NULL;
"""


async def forwards() -> MigrationManager:
    manager = MigrationManager(migration_id=ID, app_name="styx", description=DESCRIPTION)

    async def run() -> None:
        async with engine_finder().transaction() as transaction:  # the one of all migrations
            await transaction.connection.execute(CHANGES)

    manager.add_raw(run)
    return manager
