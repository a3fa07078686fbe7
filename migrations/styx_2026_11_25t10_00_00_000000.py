"""Which history of the database this is: it changes when a backup is restored."""

from piccolo.apps.migrations.auto.migration_manager import MigrationManager
from piccolo.engine import engine_finder

ID = "2026-11-25T10:00:00:000000"
VERSION = "1.38.0"
DESCRIPTION = "leader_fence.generation"

CHANGES = """
ALTER TABLE leader_fence ADD COLUMN generation bigint NOT NULL DEFAULT 0;
ALTER TABLE leader_fence ADD COLUMN origin text NOT NULL DEFAULT '';
"""


async def forwards() -> MigrationManager:
    manager = MigrationManager(migration_id=ID, app_name="styx", description=DESCRIPTION)

    async def run() -> None:
        async with engine_finder().transaction() as transaction:  # the one of all migrations
            await transaction.connection.execute(CHANGES)

    manager.add_raw(run)
    return manager
