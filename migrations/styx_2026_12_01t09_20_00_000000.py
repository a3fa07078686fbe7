"""Secrets, sealed: each value under a key of its own, and that one under the server's."""

from piccolo.apps.migrations.auto.migration_manager import MigrationManager
from piccolo.engine import engine_finder

ID = "2026-12-01T09:20:00:000000"
VERSION = "1.38.0"
DESCRIPTION = "secrets"

CHANGES = """
CREATE TABLE secrets (
    id uuid PRIMARY KEY,
    project text NOT NULL,
    name text NOT NULL,
    job_id uuid,
    ciphertext bytea NOT NULL,
    wrapped_key bytea NOT NULL,
    key_id text NOT NULL,
    created_at timestamptz NOT NULL,
    created_by text NOT NULL,
    updated_at timestamptz NOT NULL,
    updated_by text NOT NULL
);
CREATE UNIQUE INDEX one_secret ON secrets (project, name);
"""


async def forwards() -> MigrationManager:
    manager = MigrationManager(migration_id=ID, app_name="styx", description=DESCRIPTION)

    async def run() -> None:
        async with engine_finder().transaction() as transaction:  # the one of all migrations
            await transaction.connection.execute(CHANGES)

    manager.add_raw(run)
    return manager
