"""The composition root of `styx serve`: configuration → database → replica → API, in one group of loops,
and their orderly stop.

What takes long to import is imported while the database starts.
"""

import asyncio
import importlib
import os
import secrets
import signal
import socket
import sys
import zlib
from collections.abc import Generator
from contextlib import AsyncExitStack, contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
import structlog
import uvloop

from styx import __version__
from styx.api import listener, peer
from styx.config import Config
from styx.errors import SetupError, StyxError
from styx.hooks import signing
from styx.kit import console, cycles, parent, private, supervise
from styx.sdk import address
from styx.store.embedded import EmbeddedPostgres, HomeLock

if TYPE_CHECKING:
    from styx.store.postgres import Pools

SITE: Final = "styx.site"
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
        bound = listener.bind(config.server.host, config.server.port)
        with bound, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(config, bound, with_agent=with_agent))
        code = 0
    except* StyxError as errors:
        _say(errors)
    finally:
        home.release()
    return code


async def _serve(config: Config, bound: socket.socket, *, with_agent: bool) -> None:
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
        pools = await _open(config, private)
        stack.push_async_callback(pools.close)
        from styx.api.serve import serve_asgi
        from styx.site import Site, restarting

        url = address.url_of(config.server.host, bound.getsockname()[1])
        site = Site(
            config, pools, _token(config), _webhook_secret(config), url=url, on_settled=settled.set
        )
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
                partial(serve_asgi, site.gate, bound, http_stop, graceful_s=graceful_s),
            )
            stack.enter_context(_announced(config.server_path, url))
            if with_agent and not stop.is_set():
                run_agent = partial(_run_agent, url)
                children.append(supervise.start(group, "agent", run_agent, report=restarting))
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


async def _open(config: Config, private: EmbeddedPostgres | None) -> "Pools":
    """The database; while it starts, the rest of the program is imported. Raises: ModuleNotFoundError."""
    loading = asyncio.get_running_loop().run_in_executor(None, importlib.import_module, SITE)
    url = await private.start() if private else config.database.url
    await loading
    from styx.store.postgres import Pools

    return await Pools.open(
        url,
        pool_size=config.database.pool_size,
        statement_timeout_s=config.database.statement_timeout_s,
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
        private.write(path, f"{body}_{zlib.crc32(body.encode()):08x}\n")
    return path.read_text(encoding="ascii").strip()


def _webhook_secret(config: Config) -> str:
    """What signs notifications: the configured one, or this home's own, made at the first start."""
    if config.webhooks.secret:
        return config.webhooks.secret
    path = config.webhook_secret_path
    if not path.exists():
        private.write(path, f"{signing.new_secret()}\n")
    return path.read_text(encoding="ascii").strip()


@contextmanager
def _announced(path: Path, url: str) -> Generator[None]:
    """Say in the home where this server is, for as long as it is."""
    local = address.LocalServer(os.getpid(), url, datetime.now(UTC))
    private.write(path, msgspec.json.encode(local).decode())
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def _say(errors: BaseExceptionGroup[StyxError]) -> None:
    """Each error as a sentence, with its cure."""
    for error in errors.exceptions:
        match error:
            case BaseExceptionGroup():
                _say(error)
            case _:
                hint = f"hint: {error.hint}\n" if error.hint else ""
                sys.stderr.write(f"error: {error.message}\n{hint}")
