"""Directories that are sent with tasks: their manifests, and the pieces of their files."""

from piccolo.apps.migrations.auto.migration_manager import MigrationManager
from piccolo.engine import engine_finder

ID = "2026-12-01T05:20:00:000000"
VERSION = "1.38.0"
DESCRIPTION = "bundles and blobs"

CHANGES = """
CREATE TABLE blobs (
    sha256 bytea PRIMARY KEY,
    size integer NOT NULL,
    used_at timestamptz NOT NULL,
    data bytea NOT NULL
);
-- Not compressed: most of it is small, and the server would pay for it with every read.
ALTER TABLE blobs ALTER COLUMN data SET STORAGE EXTERNAL;
CREATE TABLE bundles (
    id bytea PRIMARY KEY,
    size bigint NOT NULL,
    used_at timestamptz NOT NULL,
    manifest bytea NOT NULL
);
"""


async def forwards() -> MigrationManager:
    manager = MigrationManager(migration_id=ID, app_name="styx", description=DESCRIPTION)

    async def run() -> None:
        async with engine_finder().transaction() as transaction:  # the one of all migrations
            await transaction.connection.execute(CHANGES)

    manager.add_raw(run)
    return manager
