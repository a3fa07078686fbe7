"""Tasks and jobs as the database has them, for the seconds in which nobody leads."""

import random
import time
from functools import cached_property

import msgspec

from styx.api import server
from styx.api.asgi import Application, Receive, Scope, Send
from styx.api.backend import Backend
from styx.config import Config
from styx.core.world import World
from styx.engine.lease import Lease
from styx.engine.loop import Engine, utc_now
from styx.engine.schedules import Schedules
from styx.engine.secrets import Secrets
from styx.store.exchange import LiveRows
from styx.store.files import Files
from styx.store.logs import LogFiles
from styx.store.masterkeys import MasterKeys
from styx.store.postgres import Database, Pools
from styx.store.schedules import ScheduleRows
from styx.store.secrets import SecretRows


class Alone:
    """The leader's own handlers, on an engine that never runs: of its world they want agents' names."""

    def __init__(self, pools: Pools, config: Config) -> None:
        # No leader's term: the fence refuses what it would write.
        self._database = Database(pools, term=0)
        self._config = config

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises: StoreUnavailable."""
        agents = await self._database.query.agents()
        self._engine.world = World.load((), (), (), agents, {}, {})
        await self._app(scope, receive, send)

    @cached_property
    def _logs(self) -> LogFiles:
        return LogFiles(self._database, self._config.logs_path)

    @cached_property
    def _engine(self) -> Engine:
        return Engine(
            self._database,
            self._logs,
            LiveRows([], [], [], [], {}, {}),
            Lease(self._database, time.monotonic),
            scheduler=self._config.scheduler,
            clock=utc_now,
            monotonic=time.monotonic,
            jitter=random.random,
        )

    @cached_property
    def _app(self) -> Application:
        schedules = Schedules(self._engine, ScheduleRows(self._database), clock=utc_now)
        files = Files(self._database, **msgspec.structs.asdict(self._config.files))
        query = self._database.query
        rows = SecretRows(self._database, MasterKeys(self._config))
        secrets = Secrets(rows, clock=utc_now, monotonic=time.monotonic)
        return server.application(
            Backend(self._engine, query, self._logs, schedules, files, secrets)
        )
