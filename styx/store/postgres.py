"""The database as the engine knows it: `engine.ports.Store` on Postgres."""

import asyncio
import contextlib
from collections.abc import Collection
from typing import Final, Self

from styx.core.delta import Delta
from styx.core.ids import AttemptKey
from styx.errors import SetupError, StoreError, StoreUnavailable
from styx.store import commit, leader, live, pool, schema
from styx.store.exchange import LiveRows
from styx.store.query import Query

POOL_SIZE: Final = 8
STATEMENT_TIMEOUT_S: Final = 10.0
WRITERS: Final = 5  # a turn, a big job beside it, the logs, the lease, the schedules


class Pools:
    """The connections of one process to its database."""

    def __init__(self, writers: pool.Pool, readers: pool.Pool) -> None:
        self.writers = writers
        self.readers = readers
        self.turns = pool.Lane(writers)
        self.logs = pool.Lane(writers)

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        pool_size: int = POOL_SIZE,
        statement_timeout_s: float = STATEMENT_TIMEOUT_S,
    ) -> Self:
        """Migrate the database if need be. Raises: SetupError, when it cannot be used."""
        await schema.prepare(url)
        writers = await pool.open_pool(
            url,
            size=WRITERS,
            statement_timeout_s=statement_timeout_s,
            settings=pool.WRITE_SETTINGS,
        )
        readers = await pool.open_pool(url, size=pool_size, statement_timeout_s=statement_timeout_s)
        return cls(writers, readers)

    async def close(self) -> None:
        for lane in (self.turns, self.logs):
            with contextlib.suppress(StoreError), pool.translated():
                await lane.close()
        for connections in (self.writers, self.readers):
            with contextlib.suppress(StoreError), pool.translated():
                await pool.close(connections)


class Database:
    """One leader's database. `term` is its epoch: every write is fenced by it."""

    def __init__(self, pools: Pools, term: int, generation: int = 0) -> None:
        self.term = term
        self.generation = generation  # see `leader.generation`
        self.query = Query(pools.readers)
        self.writers = pools.writers
        self.log_writer = pools.logs
        self.readers = pools.readers
        self._pools = pools
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
        """Open the database and take the lead in it, for a process that is no replica.

        Raises: SetupError, when it cannot be used or another server is alive in it.
        """
        pools = await Pools.open(url, pool_size=pool_size, statement_timeout_s=statement_timeout_s)
        me = leader.Holder.current()
        try:
            async with pool.using(pools.writers) as connection:
                term = await leader.take(connection, me)
                found = term is None and await leader.other(connection, me)
                generation = await leader.generation(connection)
        except StoreUnavailable as error:
            await pools.close()
            raise SetupError(f"the database went away: {error}") from error
        if term is None:
            await pools.close()
            other = f" (process {found[1].pid} on {found[1].host})" if found else ""
            raise SetupError(
                f"another styx server{other} uses this database",
                hint=f"stop it first; if its machine is gone, wait {leader.TTL_S:.0f} s",
            )
        return cls(pools, term, generation)

    async def commit(self, delta: Delta) -> None:
        """See `engine.ports.Store.commit`."""
        if self._unsure:
            raise StoreUnavailable("the rows must be read again before the next commit")
        try:
            async with self._pools.turns.using() as connection:
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

    async def foreign(self, keys: Collection[AttemptKey]) -> list[AttemptKey]:
        """See `engine.ports.Store.foreign`."""
        async with pool.using(self.readers) as connection:
            return await live.foreign(connection, keys)

    async def renew_lease(self) -> None:
        """To be called every `leader.RENEW_S`. Raises: StaleWrite (deposed), StoreUnavailable."""
        async with self._leading, pool.using(self.writers) as connection:
            await leader.renew(connection, self.term)

    async def surpass(self, seen: int) -> None:
        """See `engine.ports.Store.surpass`."""
        async with self._leading, pool.using(self.writers) as connection:
            await leader.surpass(connection, self.term, seen)

    async def release(self) -> None:
        """Give up the lease, so that the next server need not wait. Never raises."""
        with contextlib.suppress(StoreError), pool.translated():
            async with asyncio.timeout(pool.CLOSE_S), pool.using(self.writers) as connection:
                await leader.release(connection, self.term)

    async def close(self) -> None:
        await self.release()
        await self._pools.close()
