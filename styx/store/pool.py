"""Connections to Postgres: how they are set, and what their errors mean.

asyncpg ships no types, so the part of it that we use is declared here, once.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterable, Generator
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, Protocol, cast

import asyncpg

from styx.errors import IllegalTransition, SetupError, StaleWrite, StoreUnavailable, WriteRefused

CONNECT_S: Final = 5.0
CLOSE_S: Final = 1.0
ACQUIRE_S: Final = 5.0  # how long we wait for one of our own connections
MARGIN_S: Final = 2.0  # how much later than the server we give up on a statement ourselves
STATEMENTS: Final = 512  # prepared ones kept; a commit has one per set of touched tables
STALE: Final = "ST001"  # raised by our own function `styx_expect`
FINAL: Final = "ST002"  # raised by our own trigger `styx_final`

_driver: Any = asyncpg
# A connection that breaks at the wrong moment also shows as an inner confusion of the driver.
_LOST: Final = (asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError)


class Connection(Protocol):
    async def execute(self, query: str, *args: object) -> str: ...
    async def fetch(self, query: str, *args: object) -> list[Any]: ...
    async def fetchrow(self, query: str, *args: object) -> Any: ...
    async def fetchval(self, query: str, *args: object) -> Any: ...
    def cursor(
        self, query: str, *args: object, prefetch: int, timeout: float | None = None
    ) -> AsyncIterable[Any]: ...
    def transaction(
        self, *, isolation: str | None = None, readonly: bool = False
    ) -> AbstractAsyncContextManager[object]: ...
    async def close(self) -> None: ...


class Pool(Protocol):
    def acquire(
        self, *, timeout: float | None = None
    ) -> AbstractAsyncContextManager[Connection]: ...
    async def close(self) -> None: ...
    def terminate(self) -> None: ...


def _settings(statement_timeout_s: float) -> dict[str, str]:
    statement_ms = round(statement_timeout_s * 1_000)
    return {
        "application_name": "styx",
        "timezone": "UTC",
        "synchronous_commit": "on",
        "statement_timeout": f"{statement_ms}",
        # Shorter, so that whoever waits for a dead session's lock is served, not given up.
        "lock_timeout": f"{statement_ms // 2}",
        "idle_in_transaction_session_timeout": f"{statement_ms // 2}",
        "tcp_keepalives_idle": "5",
        "tcp_keepalives_interval": "2",
        "tcp_keepalives_count": "3",
        "tcp_user_timeout": "10000",
        "jit": "off",
    }


# Writes always go by key. A plan made while a table was empty would go on scanning it when it is not.
WRITE_SETTINGS: Final = {
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
}


async def connect(url: str) -> Connection:
    """One connection, for looking at a database before it is used. Raises: SetupError."""
    try:
        return cast("Connection", await _driver.connect(url, timeout=CONNECT_S))
    except (*_LOST, asyncpg.PostgresError, ValueError) as error:
        raise SetupError(
            f"the database does not let us in: {error or type(error).__name__}",
            hint="check DATABASE_URL and that the server runs: psql \"$DATABASE_URL\" -c 'SELECT 1'",
        ) from error


async def open_pool(
    url: str, *, size: int, statement_timeout_s: float, settings: dict[str, str] | None = None
) -> Pool:
    pool = await _driver.create_pool(
        url,
        min_size=0,
        max_size=size,
        timeout=CONNECT_S,
        command_timeout=statement_timeout_s + MARGIN_S,
        statement_cache_size=STATEMENTS,
        max_cached_statement_lifetime=0,
        init=_prepare,
        reset=_keep,
        server_settings=_settings(statement_timeout_s) | (settings or {}),
    )
    return cast("Pool", pool)


async def _prepare(connection: Any) -> None:
    # Ids are text in the core: they cross without becoming UUID objects, which cost more than the row.
    await connection.set_type_codec(
        "uuid", schema="pg_catalog", encoder=_id_bytes, decoder=_id_text, format="binary"
    )


def _id_bytes(text: str) -> bytes:
    data = bytes.fromhex(text.replace("-", ""))
    if len(data) != 16:
        raise ValueError("not an id")
    return data


def _id_text(data: bytes) -> str:
    digits = data.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


async def _keep(_connection: object) -> None:
    """We leave nothing behind in a session, so a round trip to clean it is saved."""


async def close(connections: Pool) -> None:
    """Let the statements under way finish, but do not wait for a database that does not answer."""
    try:
        async with asyncio.timeout(CLOSE_S):
            await connections.close()
    except TimeoutError:
        connections.terminate()


@contextlib.contextmanager
def translated() -> Generator[None]:
    """Raises: StoreUnavailable, StaleWrite, WriteRefused in place of the driver's errors."""
    try:
        yield
    except asyncpg.PostgresError as error:
        state: str = getattr(error, "sqlstate", None) or ""
        text = str(error)
        if state == STALE:
            raise StaleWrite(text) from error
        if state == FINAL:
            raise IllegalTransition(text) from error
        kind = state[:2]
        if kind in {
            "22",
            "23",
        }:  # data or integrity; an argument that the driver cannot encode, too
            raise WriteRefused(text, sqlstate=state) from error
        if kind == "42":  # a statement that this database does not understand: a bug
            raise AssertionError(text) from error
        raise StoreUnavailable(text, sqlstate=state) from error
    except _LOST as error:
        raise StoreUnavailable(str(error) or "the database does not answer") from error


@contextlib.asynccontextmanager
async def using(pool: Pool) -> AsyncGenerator[Connection]:
    """A connection whose errors are ours. Raises: as `translated`."""
    with translated():
        async with pool.acquire(timeout=ACQUIRE_S) as connection:
            yield connection
