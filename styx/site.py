"""One replica and its HTTP application: all of the server that is not its process.

Imported while the database starts (see `app`): it takes as long.
"""

import asyncio
import importlib
import random
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import msgspec
import structlog

from styx.api import server, submit
from styx.api.alone import Alone
from styx.api.asgi import Application, Receive, Scope, Send
from styx.api.backend import Backend
from styx.api.follower import Follower
from styx.config import Config
from styx.engine.loop import Engine, utc_now
from styx.engine.ports import Store
from styx.engine.replica import Replica
from styx.engine.schedules import Schedules
from styx.engine.secrets import Secrets
from styx.engine.spans import OFF, Spans
from styx.errors import SetupError
from styx.hooks.notifier import Notifier
from styx.hooks.settings import Settings
from styx.kit import supervise
from styx.kit.clock import boot_s
from styx.kit.lag import Lag
from styx.store.election import Election
from styx.store.files import Files
from styx.store.masterkeys import MasterKeys
from styx.store.notices import Notices
from styx.store.postgres import Pools
from styx.store.schedules import ScheduleRows
from styx.store.secrets import SecretRows

if TYPE_CHECKING:
    from styx.api import otlp

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


class Site:
    """The application is the leader's while its replica leads, else the follower's."""

    def __init__(
        self,
        config: Config,
        pools: Pools,
        token: str,
        webhook_secret: str,
        *,
        url: str,
        on_settled: Callable[[], None],
    ) -> None:
        self._lag = lag = Lag(asyncio.get_running_loop().time)
        self._config = config
        self._told = Settings.of(config.webhooks, webhook_secret)
        self._group: asyncio.TaskGroup | None = None
        self._leading: list[asyncio.Task[None]] = []  # what runs while we lead
        self._on_settled = on_settled
        spans = Spans()
        self._exporter = _exporter(spans, config.telemetry.otlp_endpoint)
        self._election = Election(
            pools,
            config.logs,
            config.logs_path,
            address=config.server.advertise_url or url,
            token=token,
        )
        self.replica = Replica(
            self._election,
            scheduler=config.scheduler,
            clock=utc_now,
            monotonic=boot_s,  # a lease runs out while the machine is suspended, too
            jitter=random.random,
            tracer=spans if self._exporter else OFF,
            schedules=self._schedules,
            on_change=self._turn,
        )
        self._follower: Application = Follower(self.replica, token, Alone(pools, config))
        self._app = self._follower
        self.gate = server.gate(self._answer, _known_as_advertised(config), token, lag)

    def watch(self, group: asyncio.TaskGroup) -> list[asyncio.Task[None]]:
        """Begin what looks on; what goes with a term will begin and end with it."""
        self._group = group
        children = [supervise.start(group, "lag", self._lag.run)]
        if self._exporter is not None:
            run = self._exporter.run
            children.append(supervise.start(group, "spans", run, report=restarting))
        return children

    async def close(self) -> None:
        """After the last turn."""
        if self._exporter is not None:
            await self._exporter.close()

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)

    def _schedules(self, engine: Engine, _: Store) -> Schedules:
        assert self._election.opened is not None, "the engine's own"
        rows = ScheduleRows(self._election.opened[0])
        told = partial(submit.told, self._config.webhooks)
        return Schedules(engine, rows, clock=utc_now, told=told)

    def _turn(self) -> None:
        """Another leads now, or we do: whoever follows or waits asks anew."""
        engine, opened = self.replica.engine, self._election.opened
        schedules = self.replica.schedules
        for task in self._leading:
            task.cancel()
        self._leading.clear()
        if engine is not None and opened is not None and schedules is not None:
            database, logs = opened
            files = Files(database, **msgspec.structs.asdict(self._config.files))
            rows = SecretRows(database, MasterKeys(self._config))
            secrets = Secrets(rows, clock=engine.clock, monotonic=boot_s)
            webhooks = self._config.webhooks
            self._app = server.application(
                Backend(engine, database.query, logs, schedules, files, secrets, webhooks)
            )
            notifier = Notifier(Notices(database), database.query, engine.feed, self._told)
            assert self._group is not None, "it was begun before anybody led"
            for name, run in (("webhooks", notifier.run), ("secrets", secrets.run)):
                self._leading.append(supervise.start(self._group, name, run, report=restarting))
        else:
            self._app = self._follower
        self.gate.close()
        if engine or self.replica.leader:
            self._on_settled()


def _exporter(spans: Spans, endpoint: str) -> "otlp.Exporter | None":
    """Raises: SetupError, without the extra, or a way to the collector."""
    if not endpoint:
        return None
    if not endpoint.startswith(("http://", "https://")):
        raise SetupError(
            f"telemetry.otlp_endpoint is {endpoint!r}",
            hint="give a collector's address for OTLP over HTTP, such as http://localhost:4318",
        )
    try:
        made = importlib.import_module("styx.api.otlp").Exporter
    except ModuleNotFoundError as error:
        raise SetupError(
            f"telemetry.otlp_endpoint is set, and {error.name} is not installed",
            hint="pip install 'styx[otel]'",
        ) from error
    return made(spans, endpoint)


def _known_as_advertised(config: Config) -> Config:
    """Replicas and agents come under the name that we tell them."""
    name = urlsplit(config.server.advertise_url).hostname
    if name is None:
        return config
    hosts = (*config.server.allowed_hosts, name)
    return msgspec.structs.replace(
        config, server=msgspec.structs.replace(config.server, allowed_hosts=hosts)
    )


def restarting(name: str, error: Exception, wait_s: float) -> None:
    """What `supervise.start` tells of a loop."""
    log.error("ended by itself", loop=name, error=str(error), restart_in_s=round(wait_s, 1))
