"""How often a task's machine died under it, and an agent rejected what it was given."""

from piccolo.apps.migrations.auto.migration_manager import MigrationManager
from piccolo.engine import engine_finder

ID = "2026-11-25T08:00:00:000000"
VERSION = "1.38.0"
DESCRIPTION = "tasks.deaths, agents.rejects"

CHANGES = """
ALTER TABLE tasks ADD COLUMN deaths integer NOT NULL DEFAULT 0;
ALTER TABLE agents ADD COLUMN rejects integer NOT NULL DEFAULT 0;
ALTER TABLE agents ADD COLUMN rejects_since timestamptz;
"""


async def forwards() -> MigrationManager:
    manager = MigrationManager(migration_id=ID, app_name="styx", description=DESCRIPTION)

    async def run() -> None:
        async with engine_finder().transaction() as transaction:  # the one of all migrations
            await transaction.connection.execute(CHANGES)

    manager.add_raw(run)
    return manager
