"""Whether a database can be used, and its schema brought up to this version.

A database that is up to date is recognised without Piccolo, which costs more than the rest of a start.
"""

import asyncio
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import asyncpg

from styx.errors import SetupError
from styx.store import pool

APP: Final = "styx"
_PACKAGE: Final = Path(__file__).parent.parent
_CARRIED: Final = _PACKAGE / "_migrations"
MIGRATIONS: Final = _CARRIED if _CARRIED.is_dir() else _PACKAGE.parent / "migrations"
OLDEST_POSTGRES: Final = 14  # the oldest that its makers still repair


def check_url(url: str) -> None:
    """Raises: SetupError, unless `url` names a Postgres."""
    scheme = urlsplit(url).scheme
    if scheme not in {"postgres", "postgresql"}:
        raise SetupError(
            f"DATABASE_URL starts with `{scheme}:`, and Styx keeps its state in Postgres only",
            hint="unset it to use a private Postgres that needs no set-up, "
            "or set it to postgresql://user:password@host:5432/database",
        )


async def prepare(url: str) -> None:
    """Refuse a database that would lose acknowledged work or is of a newer Styx; migrate an older one.

    Raises: SetupError.
    """
    check_url(url)
    connection = await pool.connect(url)
    try:
        await _check_server(connection)
        missing = await _missing(connection)
    finally:
        await connection.close()
    if missing:
        await asyncio.to_thread(_migrate, url)


async def _check_server(connection: pool.Connection) -> None:
    settings = await connection.fetchrow(
        "SELECT current_setting('server_version_num')::int / 10000 AS version,"
        " current_setting('server_encoding') AS encoding, current_setting('fsync') AS fsync,"
        " current_setting('full_page_writes') AS full_page_writes"
    )
    assert settings is not None
    if settings["version"] < OLDEST_POSTGRES:
        raise SetupError(
            f"the database is Postgres {settings['version']}; Styx needs {OLDEST_POSTGRES} or newer"
        )
    if settings["encoding"] != "UTF8":
        raise SetupError(
            f"the database's encoding is {settings['encoding']}; Styx needs UTF8",
            hint="make one with CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0",
        )
    for name in ("fsync", "full_page_writes"):
        if settings[name] != "on":
            raise SetupError(
                f"the database runs with {name} = {settings[name]}, and would lose tasks in a crash",
                hint=f"set {name} = on in its postgresql.conf",
            )


async def _missing(connection: pool.Connection) -> Sequence[str]:
    """The migrations still to apply. Raises: SetupError, when there are some that we do not know."""
    known = {path.stem.removeprefix(f"{APP}_") for path in MIGRATIONS.glob(f"{APP}_*.py")}
    if not known:
        raise SetupError(f"this installation is broken: no migrations in {MIGRATIONS}")
    try:
        rows = await connection.fetch("SELECT name FROM migration WHERE app_name = $1", APP)
    except asyncpg.UndefinedTableError:
        rows = []
    # Piccolo names the file after the migration's id.
    applied = {row["name"].lower().translate(str.maketrans("-:", "__")) for row in rows}
    if applied - known:
        raise SetupError(
            "the database was written by a newer version of Styx",
            hint="upgrade this one: pip install --upgrade 'styx[server]'",
        )
    return sorted(known - applied)


def _migrate(url: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "styx.store.migrate"],
        cwd=_PACKAGE.parent,
        input=url.encode(),
        capture_output=True,
        check=False,
    )
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        raise SetupError(
            f"the database could not be migrated: {lines[-1] if lines else 'no reason'}"
        )
