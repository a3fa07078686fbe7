"""Fixtures that every suite may use.

An `async def test_…` runs on uvloop, as the server does, by anyio's plugin; no mark is needed, and async
fixtures share the loop of their test. Sync tests and fixtures need nothing.

    postgres       one private Postgres for the whole run (tests.support.postgres)
    database_url   a database with this version's schema and no rows; works for subprocesses too
    database       the same, open: a styx.store.postgres.Database
"""

from collections.abc import AsyncIterator, Iterator

import hypothesis
import pytest

from styx.store.postgres import Database
from tests.support import postgres as support

# A checkout may be read-only, and how long an example takes says nothing on a busy machine.
hypothesis.settings.register_profile("styx", database=None, deadline=None)
hypothesis.settings.load_profile("styx")


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Two workers for the whole run. A chosen part starts sooner without any; `-n` says otherwise."""
    if config.args_source is pytest.Config.ArgsSource.TESTPATHS:
        return 2
    config.option.dist = "no"
    return 0


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(scope="session")
def postgres() -> Iterator[support.Postgres]:
    with support.running() as running:
        yield running


@pytest.fixture
def database_url(postgres: support.Postgres) -> Iterator[str]:
    url = postgres.borrow()
    yield url
    postgres.give_back(url)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    opened = await Database.open(database_url)
    yield opened
    await opened.close()
