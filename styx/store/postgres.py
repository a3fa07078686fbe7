"""The database as the engine knows it: `engine.ports.Store` on Postgres."""

import asyncio
import contextlib
from typing import Final, Self

from styx.core.delta import Delta
from styx.errors import SetupError, StoreError, StoreUnavailable
from styx.store import commit, leader, live, pool, schema
from styx.store.exchange import LiveRows
from styx.store.query import Query

POOL_SIZE: Final = 8
STATEMENT_TIMEOUT_S: Final = 10.0
WRITERS: Final = 3  # a turn, the logs, the lease


class Database:
    """One leader's database. `term` is its epoch: every write is fenced by it."""

    def __init__(self, writers: pool.Pool, readers: pool.Pool, term: int) -> None:
        self.term = term
        self.query = Query(readers)
        self.writers = writers
        self.readers = readers
        self._leading = asyncio.Lock()  # a renewal must not meet a change of the term half-way
        self._unsure = False  # whether a write of ours, whose outcome is unknown, may still land

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        pool_size: int = POOL_SIZE,
        statement_timeout_s: float = STATEMENT_TIMEOUT_S,
    ) -> Self:
        """Migrate the database if need be and take the lead in it.

        Raises: SetupError, when it cannot be used or another server is alive in it.
        """
        await schema.prepare(url)
        async with contextlib.AsyncExitStack() as stack:
            try:
                writers = await pool.open_pool(
                    url,
                    size=WRITERS,
                    statement_timeout_s=statement_timeout_s,
                    settings=pool.WRITE_SETTINGS,
                )
                stack.callback(writers.terminate)
                readers = await pool.open_pool(
                    url, size=pool_size, statement_timeout_s=statement_timeout_s
                )
                stack.callback(readers.terminate)
                async with pool.using(writers) as connection:
                    term = await leader.take(connection, leader.Holder.current())
            except StoreUnavailable as error:
                raise SetupError(f"the database went away: {error}") from error
            stack.pop_all()
        return cls(writers, readers, term)

    async def commit(self, delta: Delta) -> None:
        """See `engine.ports.Store.commit`."""
        if self._unsure:
            raise StoreUnavailable("the rows must be read again before the next commit")
        try:
            async with pool.using(self.writers) as connection:
                await commit.commit(connection, self.term, delta)
        except StoreUnavailable:
            self._unsure = True
            raise

    async def load(self) -> LiveRows:
        """See `engine.ports.Store.load`."""
        if self._unsure:
            async with self._leading, pool.using(self.writers) as connection:
                self.term = await leader.refence(connection, self.term)
            self._unsure = False
        async with pool.using(self.readers) as connection:
            return await live.load(connection)

    async def renew_lease(self) -> None:
        """To be called every `leader.RENEW_S`. Raises: StaleWrite (deposed), StoreUnavailable."""
        async with self._leading, pool.using(self.writers) as connection:
            await leader.renew(connection, self.term)

    async def close(self) -> None:
        """Release the lease, so that the next server need not wait, and the connections."""
        with contextlib.suppress(StoreError), pool.translated():
            async with asyncio.timeout(pool.CLOSE_S), pool.using(self.writers) as connection:
                await leader.release(connection, self.term)
        for connections in (self.writers, self.readers):
            with contextlib.suppress(StoreError), pool.translated():
                await pool.close(connections)
