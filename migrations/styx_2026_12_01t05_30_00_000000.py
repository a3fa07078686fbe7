"""What succeeded stands for the same work asked for again: a spec's key, and whose success a task took."""

from piccolo.apps.migrations.auto.migration_manager import MigrationManager
from piccolo.engine import engine_finder

ID = "2026-12-01T05:30:00:000000"
VERSION = "1.38.0"
DESCRIPTION = "specs.cache_key, tasks.taken_from"

CHANGES = """
ALTER TABLE specs ADD COLUMN cache_key text NOT NULL DEFAULT '';
ALTER TABLE tasks ADD COLUMN taken_from uuid;
CREATE INDEX specs_cache_key ON specs (cache_key, id) WHERE cache_key <> '';
"""


async def forwards() -> MigrationManager:
    manager = MigrationManager(migration_id=ID, app_name="styx", description=DESCRIPTION)

    async def run() -> None:
        async with engine_finder().transaction() as transaction:  # the one of all migrations
            await transaction.connection.execute(CHANGES)

    manager.add_raw(run)
    return manager
