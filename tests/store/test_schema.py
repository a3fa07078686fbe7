"""Which databases can be used, and that migrations lead where the code believes they do."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
from piccolo.conf.apps import table_finder
from piccolo.engine.postgres import PostgresEngine

from styx.errors import SetupError
from styx.store import rows, schedules, schema
from styx.store.embedded import EmbeddedPostgres
from styx.store.postgres import Database
from tests.support import made
from tests.support.postgres import Postgres


@pytest.fixture
def empty_url(postgres: Postgres) -> Iterator[str]:
    url = postgres.empty()
    yield url
    postgres.drop(url)


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


async def test_four_servers_that_start_at_once_apply_each_migration_once(empty_url: str):
    await asyncio.gather(*(schema.prepare(empty_url) for _ in range(4)))
    connection = await asyncpg.connect(empty_url)
    names = await connection.fetch("SELECT name, count(*) AS times FROM migration GROUP BY name")
    fences = await connection.fetchval("SELECT count(*) FROM leader_fence")
    await connection.close()
    assert len(names) == len(list(schema.MIGRATIONS.glob("styx_*.py")))
    assert {row["times"] for row in names} == {1}
    assert fences == 1


async def test_a_job_from_before_its_trace_was_kept_has_none(empty_url: str):
    """The database as the version before left it, with a job that runs."""
    await schema.prepare(empty_url)
    connection = await asyncpg.connect(empty_url)
    database = await Database.open(empty_url)
    job = made.job()
    await database.commit(made.delta(job, made.task(job)))
    await database.close()
    await connection.execute("ALTER TABLE jobs DROP COLUMN traceparent")
    await connection.execute("DELETE FROM migration WHERE name = '2026-11-25T18:40:00:000000'")
    await connection.close()
    database = await Database.open(empty_url)
    assert (await database.load()).jobs == [job]
    await database.close()


def test_a_migration_s_file_is_named_by_its_id():
    """`schema` recognises a database that is up to date by the names of the files alone."""
    for path in schema.MIGRATIONS.glob("styx_*.py"):
        found = re.search(r'^ID = "(.+)"$', path.read_text(), re.MULTILINE)
        assert found
        assert path.stem == f"styx_{re.sub('[-:]', '_', found[1]).lower()}"


async def test_a_newer_schema_is_refused(empty_url: str):
    await schema.prepare(empty_url)
    connection = await asyncpg.connect(empty_url)
    await connection.execute(
        "INSERT INTO migration (name, app_name, ran_on) VALUES ('2999-01-01T00:00:00:0', 'styx', now())"
    )
    await connection.close()
    with pytest.raises(SetupError, match="newer version of Styx"):
        await Database.open(empty_url)


async def test_a_migration_that_fails_says_why_and_changes_nothing(empty_url: str):
    connection = await asyncpg.connect(empty_url)
    await connection.execute("CREATE TABLE agents (mine text)")
    with pytest.raises(SetupError, match="agents"):
        await schema.prepare(empty_url)
    assert await connection.fetchval("SELECT to_regclass('jobs')") is None
    await connection.close()


@pytest.mark.parametrize(
    "url", ["sqlite:///styx.db", "mysql://localhost/styx", "styx.db", "http://localhost"]
)
async def test_what_is_no_postgres_is_refused_with_what_to_do(url: str):
    with pytest.raises(SetupError, match="Postgres only") as refused:
        await Database.open(url)
    assert "postgresql://" in refused.value.hint


async def test_an_unreachable_database_is_one_sentence(postgres: Postgres, tmp_path: Path):
    for url in (
        f"postgresql://styx@/postgres?host={tmp_path}",
        urlunsplit(urlsplit(postgres.url)._replace(path="/nosuch")),
        "postgresql://styx@127.0.0.1:1/styx",
    ):
        with pytest.raises(SetupError, match="does not let us in"):
            await Database.open(url)


async def test_a_database_that_may_lose_work_is_refused(tmp_path: Path):
    embedded = EmbeddedPostgres(tmp_path)
    connection = await asyncpg.connect(url := await embedded.start())
    try:
        for setting in ("fsync", "full_page_writes"):
            await connection.execute(f"ALTER SYSTEM SET {setting} = off")
            await connection.execute("SELECT pg_reload_conf()")
            while await connection.fetchval(f"SHOW {setting}") == "on":
                await asyncio.sleep(0.01)
            with pytest.raises(SetupError, match=f"{setting} = off"):
                await Database.open(url)
            await connection.execute(f"ALTER SYSTEM RESET {setting}")
            await connection.execute("SELECT pg_reload_conf()")
            while await connection.fetchval(f"SHOW {setting}") == "off":
                await asyncio.sleep(0.01)
    finally:
        await connection.close()
        await embedded.stop()


async def columns(connection: asyncpg.Connection, table: str) -> dict[str, tuple[str, bool]]:
    """Of each, its type and whether it may be NULL."""
    found = await connection.fetch(
        "SELECT attname, format_type(atttypid, NULL) AS type, attnotnull FROM pg_attribute"
        " WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
        table,
    )
    return {row["attname"]: (row["type"], not row["attnotnull"]) for row in found}


async def test_piccolo_s_tables_are_the_database_s(
    connection: asyncpg.Connection, database_url: str
):
    engine = PostgresEngine(config={"dsn": database_url}, extensions=())
    tables = table_finder(["styx.store.tables"], exclude_imported=True)
    assert len(tables) == 15
    for table in tables:
        table._meta.db = engine
        described = {
            column._meta.db_column_name: (
                {"timestamptz": "timestamp with time zone"}.get(
                    kind := column.column_type.lower(), kind
                ),
                column._meta.null,
            )
            for column in table._meta.columns
        }
        assert described == await columns(connection, table._meta.tablename)


@pytest.mark.parametrize(
    "table", [rows.JOBS, rows.SPECS, rows.TASKS, rows.ATTEMPTS, rows.AGENTS], ids=lambda t: t.name
)
async def test_the_columns_that_are_written_are_the_database_s(
    connection: asyncpg.Connection, table: rows.Table
):
    full_names = {"timestamptz": "timestamp with time zone", "float8": "double precision"}
    written = {name: full_names.get(kind, kind) for name, kind in table.types.items()}
    stored = await columns(connection, table.name)
    assert written == {name: kind for name, (kind, _) in stored.items()}
    assert {*table.key, *table.fixed} <= stored.keys()


async def test_the_columns_of_a_schedule_are_the_database_s(connection: asyncpg.Connection):
    full_names = {"timestamptz": "timestamp with time zone"}
    stored = await columns(connection, "schedules")
    written = {name: full_names.get(kind, kind) for name, kind in schedules.TYPES.items()}
    assert written == {name: kind for name, (kind, _) in stored.items()}
