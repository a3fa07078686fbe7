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


class Postgres:
    """`url` is the server's own database; `clone()` makes one of Styx's, `drop()` removes it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._numbers = itertools.count(1)
        self._has_template = False

    def clone(self) -> str:
        """The URL of a new database with this version's schema and no rows."""
        return asyncio.run(self._clone())

    def empty(self) -> str:
        """The URL of a new database with nothing in it."""
        return asyncio.run(self._create("template1"))

    def drop(self, url: str) -> None:
        name = urlsplit(url).path.lstrip("/")
        asyncio.run(self._execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'))

    async def _clone(self) -> str:
        if not self._has_template:
            await self._execute(f"CREATE DATABASE {TEMPLATE}")
            await schema.prepare(self._named(TEMPLATE))
            self._has_template = True
        return await self._create(TEMPLATE)

    async def _create(self, template: str) -> str:
        name = f"test_{os.getpid()}_{next(self._numbers)}"
        await self._execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return self._named(name)

    async def _execute(self, statement: str) -> None:
        connection = await asyncpg.connect(self.url)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    def _named(self, name: str) -> str:
        return urlunsplit(urlsplit(self.url)._replace(path=f"/{name}"))


@contextmanager
def running() -> Iterator[Postgres]:
    home = Path(tempfile.mkdtemp(prefix="styx-test-"))
    embedded = EmbeddedPostgres(home)
    try:
        yield Postgres(asyncio.run(embedded.start()))
    finally:
        asyncio.run(embedded.stop())
        shutil.rmtree(home)
