"""Connections to Postgres: how they are set, and what their errors mean.

asyncpg ships no types, so the part of it that we use is declared here, once.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Generator
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, Protocol, cast

import asyncpg
import structlog

from styx.errors import SetupError, StaleWrite, StoreUnavailable, WriteRefused
from styx.store.breaker import Breaker

CONNECT_S: Final = 5.0
STARTING_S: Final = 60.0  # for a database that recovers; who starts us asks for no more patience
STARTING_LOOK_S: Final = 0.2
CLOSE_S: Final = 1.0
ACQUIRE_S: Final = 2.0  # how long we wait for one of our own connections
MARGIN_S: Final = 2.0  # how much later than the server we give up on a statement ourselves
STATEMENTS: Final = 1_024  # prepared ones kept; a commit has one per set of touched tables
STALE: Final = "ST001"  # raised by our own function `styx_expect`
GUARD: Final = "ST002"  # raised by our own triggers, which no code of ours should ever fire

# What a pool is for, asked of a silent database: a disk that hangs answers readers, and no writer.
ASK_TO_READ: Final = "SELECT 1"
ASK_TO_WRITE: Final = "SELECT pg_logical_emit_message(true, 'styx', '')"

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()
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
    def is_closed(self) -> bool: ...
    def terminate(self) -> None: ...


class Acquired(AbstractAsyncContextManager[Connection], Awaitable[Connection], Protocol):
    """A connection for the time of a block, or until it is released."""


class Pool:
    """Connections of one kind; `breaker` knows whether their database answers."""

    def __init__(self, driver: Any, breaker: Breaker) -> None:
        self._driver = driver
        self.breaker = breaker

    def acquire(self) -> "Acquired":
        """Awaited, it is the caller's to release. Raises: TimeoutError, and why it cannot connect."""
        return self._driver.acquire(timeout=ACQUIRE_S)

    async def release(self, connection: Connection) -> None:
        """A broken one is not used again."""
        await self._driver.release(connection)

    async def close(self) -> None:
        await self._driver.close()

    def terminate(self) -> None:
        self._driver.terminate()


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
    """One connection, for looking at a database before it is used; one that is starting up, as after a
    crash, is waited for. Raises: SetupError.
    """
    loop = asyncio.get_running_loop()
    given_up_s = loop.time() + STARTING_S
    try:
        while True:
            try:
                return cast("Connection", await _driver.connect(url, timeout=CONNECT_S))
            except asyncpg.CannotConnectNowError:
                if loop.time() >= given_up_s:
                    raise
            await asyncio.sleep(STARTING_LOOK_S)
    except (*_LOST, asyncpg.PostgresError, ValueError) as error:
        raise SetupError(
            f"the database does not let us in: {error or type(error).__name__}",
            hint="check DATABASE_URL and that the server runs: psql \"$DATABASE_URL\" -c 'SELECT 1'",
        ) from error


async def open_pool(
    url: str, *, size: int, statement_timeout_s: float, settings: dict[str, str] | None = None
) -> Pool:
    connections = await _driver.create_pool(
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
    question = ASK_TO_WRITE if settings is WRITE_SETTINGS else ASK_TO_READ

    async def ask() -> bool:
        try:
            connection = await _driver.connect(url, timeout=CONNECT_S)
        except asyncpg.PostgresError:
            return True  # it says no, but it says it
        except _LOST:
            return False
        try:
            await connection.execute(question)
        except asyncpg.PostgresError:
            return True
        except _LOST:
            return False
        finally:
            connection.terminate()
        return True

    return Pool(connections, Breaker(ask))


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


class Violations:
    """How often a guard of the database had to refuse what our own code should never ask for."""

    count = 0


@contextlib.contextmanager
def translated() -> Generator[None]:
    """Raises: StoreUnavailable, StaleWrite, WriteRefused in place of the driver's errors.

    Their messages are for users and name nothing of the database; what it said is in the context.
    """
    try:
        yield
    except asyncpg.PostgresError as error:
        raise _translation(error) from error
    except TimeoutError as error:
        raise StoreUnavailable("the database is too slow, or too many wait for it") from error
    except _LOST as error:
        said = str(error) or type(error).__name__
        raise StoreUnavailable("the database cannot be reached", cause=said) from error


def _translation(error: Any) -> StoreUnavailable | StaleWrite | WriteRefused:
    state: str = getattr(error, "sqlstate", None) or ""
    said = str(error)
    match state[:2]:
        case _ if state == STALE:
            return StaleWrite(said)
        case _ if state == GUARD:
            Violations.count += 1
            log.error("database guard violated", cause=said)
            return WriteRefused("the database refuses a change that must not be", cause=said)
        case "22" | "23":  # data or integrity; an argument that the driver cannot encode, too
            return WriteRefused("the database refuses the change", cause=said, sqlstate=state)
        case "42":  # a statement that this database does not understand: a bug
            raise AssertionError(said) from error
        case "25":
            why = "the database is read-only"
        case "53":
            why = "the database has run out of room or connections"
        case _:
            why = "the database is unavailable"
    return StoreUnavailable(why, cause=said, sqlstate=state)


@contextlib.asynccontextmanager
async def using(pool: Pool) -> AsyncGenerator[Connection]:
    """A connection whose errors are ours. Raises: as `translated`."""
    with translated():
        await pool.breaker.enter()
        async with pool.acquire() as connection, pool.breaker.watching(connection):
            yield connection


class Lane:
    """A connection that is kept out of the pool, for who writes all the time, one statement after the
    other: to take one from the pool and to give it back costs more than most statements.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._idle: Connection | None = None

    @contextlib.asynccontextmanager
    async def using(self) -> AsyncGenerator[Connection]:
        """As `using`; who comes while another is on it gets a connection of its own."""
        with translated():
            await self._pool.breaker.enter()
            connection = await self._take()
            sound = False
            try:
                async with self._pool.breaker.watching(connection):
                    yield connection
                sound = True
            finally:
                if sound and self._idle is None:
                    self._idle = connection
                else:
                    await self._pool.release(connection)

    async def _take(self) -> Connection:
        idle, self._idle = self._idle, None
        if idle is not None and _lives(idle):
            return idle
        connection = await self._pool.acquire()
        if idle is not None:
            await self._pool.release(idle)
        return connection

    async def close(self) -> None:
        """Give it back, so that the pool can be closed."""
        idle, self._idle = self._idle, None
        if idle is not None:
            await self._pool.release(idle)


def _lives(connection: Connection) -> bool:
    try:
        return not connection.is_closed()
    except asyncpg.InterfaceError:  # it ended, and the pool has taken it back
        return False
