"""Who leads, on Postgres: `engine.ports.Election`."""

from pathlib import Path

from styx.config import Logs
from styx.errors import SetupError
from styx.store import leader, pool
from styx.store.exchange import Leader
from styx.store.logs import LogFiles
from styx.store.postgres import Database, Pools


class Election:
    """One replica's, with the address and the administrator's token that it tells the others."""

    def __init__(
        self, pools: Pools, logs: Logs, directory: Path, *, address: str, token: str
    ) -> None:
        self.opened: tuple[Database, LogFiles] | None = None  # of our own term
        self._pools = pools
        self._logs = logs
        self._directory = directory
        self._me = leader.Holder.current(address, token)

    async def take(self) -> tuple[Database, LogFiles] | None:
        """See `engine.ports.Election`."""
        async with pool.using(self._pools.writers) as connection:
            term = await leader.take(connection, self._me)
            generation = await leader.generation(connection)
        if term is None:
            return None
        database = Database(self._pools, term, generation)
        logs = LogFiles(
            database,
            self._directory,
            segment_bytes=self._logs.segment_bytes,
            max_attempt_bytes=self._logs.max_attempt_bytes,
        )
        self.opened = database, logs
        return self.opened

    async def leader(self) -> Leader | None:
        """See `engine.ports.Election`."""
        async with pool.using(self._pools.readers) as connection:
            found = await leader.other(connection, self._me)
        if found is None:
            return None
        term, holder = found
        if holder.token not in {"", self._me.token}:
            raise SetupError(
                f"the server that leads ({holder.address}) has another administrator's token",
                hint="replicas of one database share it: set the same auth.token ($STYX_TOKEN) on all",
            )
        return Leader(term, holder.address)

    async def release(self, store: object) -> None:
        """See `engine.ports.Election`."""
        assert self.opened is not None, "it was taken here"
        database, logs = self.opened
        assert database is store, "one term at a time"
        self.opened = None
        logs.close()
        await database.release()
