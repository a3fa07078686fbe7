"""The composition root of `styx serve`: configuration → database → replica → API, in one group of loops,
and their orderly stop.
"""

import asyncio
import importlib
import os
import random
import secrets
import signal
import socket
import sys
import zlib
from collections.abc import Callable, Generator
from contextlib import AsyncExitStack, contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import msgspec
import structlog
import uvloop

from styx import __version__
from styx.api import peer, server, submit
from styx.api import serve as http
from styx.api.alone import Alone
from styx.api.asgi import Application, Receive, Scope, Send
from styx.api.backend import Backend
from styx.api.follower import Follower
from styx.config import Config
from styx.engine.loop import Engine, utc_now
from styx.engine.ports import Store
from styx.engine.replica import Replica
from styx.engine.schedules import Schedules
from styx.engine.spans import OFF, Spans
from styx.errors import SetupError, StyxError
from styx.hooks import signing
from styx.hooks.notifier import Notifier
from styx.hooks.settings import Settings
from styx.kit import console, cycles, parent, supervise
from styx.kit.clock import boot_s
from styx.kit.lag import Lag
from styx.sdk import address
from styx.store.election import Election
from styx.store.embedded import EmbeddedPostgres, HomeLock
from styx.store.files import Files
from styx.store.notices import Notices
from styx.store.postgres import Pools
from styx.store.schedules import ScheduleRows

if TYPE_CHECKING:
    from styx.api import otlp

HTTP_SHARE: Final = 0.4  # of a stop's seconds; the last turn, agent and database have the rest
AGENT_STOP_S: Final = 3.0
STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


def serve(config: Config, *, with_agent: bool) -> int:
    """Run the server until SIGTERM or SIGINT; return the exit code. What prevents it is one sentence."""
    console.log_to_stderr(config.logs.level)
    home = HomeLock(config.home_path)
    code = 1
    try:
        _refuse_clear_text(config)
        home.acquire()
        # Before the database, which takes a while: a taken port is said at once.
        listener = http.bind(config.server.host, config.server.port)
        with listener, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(config, listener, with_agent=with_agent))
        code = 0
    except* StyxError as errors:
        _say(errors)
    finally:
        home.release()
    return code


async def _serve(config: Config, listener: socket.socket, *, with_agent: bool) -> None:
    loop = asyncio.get_running_loop()
    started_s = loop.time()
    stop, http_stop, settled = asyncio.Event(), asyncio.Event(), asyncio.Event()

    def halt() -> None:
        stop.set()
        settled.set()

    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, halt)
    async with AsyncExitStack() as stack:
        private = None if config.database.url else EmbeddedPostgres(config.home_path)
        if private is not None:
            stack.push_async_callback(private.stop)
        pools = await Pools.open(
            await private.start() if private else config.database.url,
            pool_size=config.database.pool_size,
            statement_timeout_s=config.database.statement_timeout_s,
        )
        stack.push_async_callback(pools.close)
        url = address.url_of(config.server.host, listener.getsockname()[1])
        lag = Lag(loop.time)
        told = Settings.of(config.webhooks, _webhook_secret(config))
        site = Site(config, pools, _token(config), lag, told, url=url, on_settled=settled.set)
        stack.push_async_callback(site.close)
        graceful_s = HTTP_SHARE * config.server.graceful_stop_s
        async with asyncio.TaskGroup() as group:
            replicating = supervise.start(group, "replica", site.replica.run)
            children = site.watch(group)  # before the replica gets a turn of the loop
            if private is not None:
                children.append(supervise.start(group, "postgres", private.keep))
            await settled.wait()  # who comes earlier waits in the listener's backlog
            cycles.look_seldom()
            serving = supervise.start(
                group,
                "http",
                partial(http.serve_asgi, site.gate, listener, http_stop, graceful_s=graceful_s),
            )
            stack.enter_context(_announced(config.server_path, url))
            if with_agent and not stop.is_set():
                run_agent = partial(_run_agent, url)
                children.append(supervise.start(group, "agent", run_agent, report=_restarting))
            ready_ms = round(1_000 * (loop.time() - started_s))
            log.info("listening", url=url, version=__version__, ready_ms=ready_ms)

            await stop.wait()
            log.info("stopping")
            for child in children:
                child.cancel()
            # First: the next leader begins while our last requests end.
            site.replica.stop()
            http_stop.set()
            await serving
            await replicating


class Site:
    """One replica and its HTTP application: the leader's while it leads, else the follower's."""

    def __init__(
        self,
        config: Config,
        pools: Pools,
        token: str,
        lag: Lag,
        told: Settings,
        *,
        url: str,
        on_settled: Callable[[], None],
    ) -> None:
        self.lag = lag
        self._config = config
        self._told = told
        self._group: asyncio.TaskGroup | None = None
        self._notifying: asyncio.Task[None] | None = None  # while we lead
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
        children = [supervise.start(group, "lag", self.lag.run)]
        if self._exporter is not None:
            run = self._exporter.run
            children.append(supervise.start(group, "spans", run, report=_restarting))
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
        if self._notifying is not None:
            self._notifying.cancel()
            self._notifying = None
        if engine is not None and opened is not None and schedules is not None:
            database, logs = opened
            files = Files(database, **msgspec.structs.asdict(self._config.files))
            webhooks = self._config.webhooks
            self._app = server.application(
                Backend(engine, database.query, logs, schedules, files, webhooks)
            )
            notifier = Notifier(Notices(database), database.query, engine.feed, self._told)
            assert self._group is not None, "it was begun before anybody led"
            self._notifying = supervise.start(
                self._group, "webhooks", notifier.run, report=_restarting
            )
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


async def _run_agent(url: str) -> None:
    """The local agent: a child of this process, whose tasks belong to a process that outlives both.

    It reads the same configuration from the same environment.
    """
    agent = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "styx", "agent", "--server", url),
        start_new_session=True,  # Ctrl-C is for the server, which stops its agent in order
        preexec_fn=parent.die_with_me(signal.SIGTERM),
    )
    try:
        code = await agent.wait()
    except asyncio.CancelledError:
        agent.terminate()
        try:
            async with asyncio.timeout(AGENT_STOP_S):
                await agent.wait()
        except TimeoutError:
            agent.kill()
        raise
    raise StyxError(f"the local agent ended with code {code}")


def _restarting(name: str, error: Exception, wait_s: float) -> None:
    log.error("ended by itself", loop=name, error=str(error), restart_in_s=round(wait_s, 1))


def _refuse_clear_text(config: Config) -> None:
    """A token must not cross a network in clear text. Raises: SetupError, with the cure."""
    host = config.server.host
    if config.server.behind_tls_proxy or peer.is_loopback(host):
        return
    raise SetupError(
        f"listening on {host} would send tokens over the network in clear text",
        hint="put a TLS proxy in front and set server.behind_tls_proxy = true, "
        "or listen on 127.0.0.1",
    )


def _token(config: Config) -> str:
    """The administrator's token: the configured one, or the local one, made at the first start."""
    if config.auth.token:
        return config.auth.token
    path = config.token_path
    if not path.exists():
        # The checksum lets a scanner of leaked secrets tell a real one without asking us.
        body = f"styx_{secrets.token_hex(6)}_{secrets.token_urlsafe(32)}"
        _write_private(path, f"{body}_{zlib.crc32(body.encode()):08x}\n")
    return path.read_text(encoding="ascii").strip()


def _webhook_secret(config: Config) -> str:
    """What signs notifications: the configured one, or this home's own, made at the first start."""
    if config.webhooks.secret:
        return config.webhooks.secret
    path = config.webhook_secret_path
    if not path.exists():
        _write_private(path, f"{signing.new_secret()}\n")
    return path.read_text(encoding="ascii").strip()


@contextmanager
def _announced(path: Path, url: str) -> Generator[None]:
    """Say in the home where this server is, for as long as it is."""
    local = address.LocalServer(os.getpid(), url, datetime.now(UTC))
    _write_private(path, msgspec.json.encode(local).decode())
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def _write_private(path: Path, text: str) -> None:
    """Whole or not at all, for its owner's eyes only."""
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    new.replace(path)


def _say(errors: BaseExceptionGroup[StyxError]) -> None:
    """Each error as a sentence, with its cure."""
    for error in errors.exceptions:
        match error:
            case BaseExceptionGroup():
                _say(error)
            case _:
                hint = f"hint: {error.hint}\n" if error.hint else ""
                sys.stderr.write(f"error: {error.message}\n{hint}")
