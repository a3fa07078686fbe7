"""The composition root of `styx serve`: configuration → database → engine → API, in one group of loops,
and their orderly stop.
"""

import asyncio
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
from typing import Final

import msgspec
import structlog
import uvloop

from styx import __version__
from styx.api import peer, server
from styx.api import serve as http
from styx.config import Config
from styx.engine.loop import Engine
from styx.errors import SetupError, StaleWrite, StyxError
from styx.kit import console, parent, supervise
from styx.sdk import address
from styx.store.embedded import EmbeddedPostgres, HomeLock
from styx.store.logs import LogFiles
from styx.store.postgres import Database
from styx.wire import agent as wire

HTTP_SHARE: Final = 0.4  # of a stop's seconds; the last turn, agent and database have the rest
AGENT_STOP_S: Final = 3.0
RECONNECT_WITHIN_S: Final = 2.0  # agents come back spread over so long
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
    stop, http_stop = asyncio.Event(), asyncio.Event()
    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        private = None if config.database.url else EmbeddedPostgres(config.home_path)
        if private is not None:
            stack.push_async_callback(private.stop)
        database = await Database.open(
            await private.start() if private else config.database.url,
            pool_size=config.database.pool_size,
            statement_timeout_s=config.database.statement_timeout_s,
        )
        stack.push_async_callback(database.close)
        logs = LogFiles(
            database,
            config.home_path / "logs",
            segment_bytes=config.logs.segment_bytes,
            max_attempt_bytes=config.logs.max_attempt_bytes,
        )
        stack.callback(logs.close)
        engine = await Engine.open(database, logs, scheduler=config.scheduler)
        api = server.build(engine, database, logs, config, _token(config))
        url = address.url_of(config.server.host, listener.getsockname()[1])
        stack.enter_context(_announced(config.server_path, url))
        graceful_s = HTTP_SHARE * config.server.graceful_stop_s
        async with asyncio.TaskGroup() as group:
            turning = supervise.start(group, "engine", engine.run)
            serving = supervise.start(
                group,
                "http",
                partial(http.serve_asgi, api, listener, http_stop, graceful_s=graceful_s),
            )
            children: list[asyncio.Task[None]] = []
            if private is not None:
                children.append(supervise.start(group, "postgres", private.keep))
            if with_agent:
                run_agent = partial(_run_agent, url)
                children.append(supervise.start(group, "agent", run_agent, report=_restarting))
            ready_ms = round(1_000 * (loop.time() - started_s))
            log.info("listening", url=url, version=__version__, ready_ms=ready_ms)

            await stop.wait()
            log.info("stopping")
            for child in children:
                child.cancel()
            engine.links.close_all(lambda: _goodbye(engine))
            http_stop.set()
            await serving
            engine.stop()
            await turning


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


def _goodbye(engine: Engine) -> wire.Bye:
    retry_after_s = RECONNECT_WITHIN_S * engine.jitter()
    return wire.Bye(wire.CLOSE_RESTART, "the server stops", retry_after_s)


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
            case StaleWrite():
                sys.stderr.write(
                    "error: another styx server has taken over this database, so this one has ended\n"
                    f"hint: run one server per database ({error.message})\n"
                )
            case _:
                hint = f"hint: {error.hint}\n" if error.hint else ""
                sys.stderr.write(f"error: {error.message}\n{hint}")
