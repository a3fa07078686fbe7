"""Segment numbers hold the term of the leader that wrote them: two servers never use the same."""

from piccolo.apps.migrations.auto.migration_manager import MigrationManager
from piccolo.engine import engine_finder

ID = "2026-11-25T05:00:00:000000"
VERSION = "1.38.0"
DESCRIPTION = "log_chunks.segment is a bigint"

CHANGES = "ALTER TABLE log_chunks ALTER COLUMN segment TYPE bigint"


async def forwards() -> MigrationManager:
    manager = MigrationManager(migration_id=ID, app_name="styx", description=DESCRIPTION)

    async def run() -> None:
        async with engine_finder().transaction() as transaction:  # the one of all migrations
            await transaction.connection.execute(CHANGES)

    manager.add_raw(run)
    return manager
