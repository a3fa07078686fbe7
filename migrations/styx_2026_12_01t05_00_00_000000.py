"""Schedules. That a due time makes one job is kept by `one_submit`: its key is made of the schedule's id and
the time, and `due_at` moves on once the job is there.
"""

from piccolo.apps.migrations.auto.migration_manager import MigrationManager
from piccolo.engine import engine_finder

ID = "2026-12-01T05:00:00:000000"
VERSION = "1.38.0"
DESCRIPTION = "schedules"

CHANGES = """
CREATE TABLE schedules (
    id uuid PRIMARY KEY,
    name text NOT NULL,
    project text NOT NULL,
    document text NOT NULL,
    cron text NOT NULL,
    timezone text NOT NULL,
    missed text NOT NULL,
    overlap text NOT NULL,
    paused boolean NOT NULL,
    due_at timestamptz,
    last_due_at timestamptz,
    last_job_id uuid,
    passed_at timestamptz,
    passed_why text NOT NULL,
    created_at timestamptz NOT NULL,
    version integer NOT NULL
);
CREATE UNIQUE INDEX one_schedule ON schedules (project, name);
CREATE INDEX schedules_due ON schedules (due_at, id) WHERE NOT paused AND due_at IS NOT NULL;
"""


async def forwards() -> MigrationManager:
    manager = MigrationManager(migration_id=ID, app_name="styx", description=DESCRIPTION)

    async def run() -> None:
        async with engine_finder().transaction() as transaction:  # the one of all migrations
            await transaction.connection.execute(CHANGES)

    manager.add_raw(run)
    return manager
