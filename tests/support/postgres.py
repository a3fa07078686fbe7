"""One private Postgres for a whole test run, and a fresh, migrated database for each test that asks."""

import asyncio
import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from styx.store import schema
from styx.store.embedded import EmbeddedPostgres

TEMPLATE: Final = "styx_template"
ROWS: Final = (
    *("notifications", "jobs", "specs", "tasks", "attempts", "agents", "log_heads", "log_chunks"),
    *("audit", "schedules", "secrets", "blobs", "bundles"),
)


KNOWN: Final = [path.stem.removeprefix("styx_") for path in schema.MIGRATIONS.glob("styx_*.py")]
# Making and dropping a database costs a tenth of a second, emptying one a hundredth.
EMPTY: Final = f"""
SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid();
{"".join(f"DELETE FROM {table};" for table in ROWS)}
DELETE FROM migration WHERE translate(lower(name), '-:', '__') <> ALL (ARRAY{KNOWN}::text[]);
UPDATE leader_fence SET term = 0;
UPDATE leader_lease SET term = 0, holder = '', expires_at = '-infinity';
"""


class Postgres:
    """`url` is the server's own database. Borrowed databases are used again, others dropped."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._numbers = itertools.count(1)
        self._has_template = False
        self._free: list[str] = []

    def borrow(self) -> str:
        """The URL of a database with this version's schema and no rows. Leave the schema alone."""
        return self._free.pop() if self._free else self.clone()

    def give_back(self, url: str) -> None:
        """Whoever is still connected is thrown out."""
        asyncio.run(_execute(url, EMPTY))
        self._free.append(url)

    def clone(self) -> str:
        """As `borrow`, but of one's own."""
        return asyncio.run(self._clone())

    def empty(self) -> str:
        """The URL of a new database with nothing in it."""
        return asyncio.run(self._create("template1"))

    def drop(self, url: str) -> None:
        name = urlsplit(url).path.lstrip("/")
        asyncio.run(_execute(self.url, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'))

    async def _clone(self) -> str:
        if not self._has_template:
            await _execute(self.url, f"CREATE DATABASE {TEMPLATE}")
            await schema.prepare(self._named(TEMPLATE))
            self._has_template = True
        return await self._create(TEMPLATE)

    async def _create(self, template: str) -> str:
        name = f"test_{os.getpid()}_{next(self._numbers)}"
        await _execute(self.url, f"CREATE DATABASE {name} TEMPLATE {template}")
        return self._named(name)

    def _named(self, name: str) -> str:
        return urlunsplit(urlsplit(self.url)._replace(path=f"/{name}"))


async def _execute(url: str, statements: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statements)
    finally:
        await connection.close()


@contextmanager
def running() -> Iterator[Postgres]:
    home = Path(tempfile.mkdtemp(prefix="styx-test-"))
    embedded = EmbeddedPostgres(home)
    try:
        yield Postgres(asyncio.run(embedded.start()))
    finally:
        asyncio.run(embedded.stop())
        shutil.rmtree(home)
