"""Bring a database to this version's schema: `python -m styx.store.migrate`, its URL on stdin.

A process of its own, because Piccolo's migrations print, look for a global engine, and hold in memory
what a server never needs again. It is only started when there is something to apply.
"""

import asyncio
import sys
from typing import Final

from piccolo.apps.migrations.commands.forwards import run_forwards
from piccolo.conf.apps import AppRegistry
from piccolo.engine.postgres import PostgresEngine

from styx.store import schema, tables

# Any number will do, so long as it is nobody else's.
LOCK: Final = 0x73747978

# Piccolo imports a module of this name to find its engine and its apps.
DB = PostgresEngine(config={"dsn": sys.stdin.readline().strip()}, extensions=())
APP_REGISTRY = AppRegistry(apps=["styx.store.piccolo_app"])
sys.modules["piccolo_conf"] = sys.modules[__name__]


async def main() -> None:
    """Of several servers that start at once, one applies and the others find it done."""
    async with DB.transaction():
        await tables.Jobs.raw(f"SELECT pg_advisory_xact_lock({LOCK})")
        await run_forwards(schema.APP)


if __name__ == "__main__":
    asyncio.run(main())
