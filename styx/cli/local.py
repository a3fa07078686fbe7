"""The background server of this user: `styx server start`, and what `styx run` does when none is there.

It is an ordinary `styx serve --with-agent` in a session of its own, which says in `server.json` where
it is for as long as it runs, and writes its log beside.
"""

import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from styx import config as configuration
from styx.cli import main, session, talk
from styx.config import DEFAULT, Config, Loaded
from styx.errors import RequestError, SetupError, StyxError, Unauthenticated
from styx.sdk import address
from styx.sdk.client import Styx
from styx.sdk.failures import ServerFailed, Unreachable

START_WITHIN_S: Final = 60.0  # the first start makes a database, perhaps on a slow disk
STOP_GRACE_S: Final = 10.0  # beyond the server's own graceful stop
HEALTH_TIMEOUT_S: Final = 3.0
POLL_S: Final = 0.05
PORTS_TRIED: Final = 100  # from the usual one up
LOG_LINES: Final = 5  # shown of a server that did not start
LOG_TAIL_BYTES: Final = 4 << 10
PROBE_TIMEOUT_S: Final = 3.0  # for whatever listens at the usual port to say what it is
SERVER_PACKAGE: Final = "litestar"  # here only if the server was installed
SERVICE: Final = "styx-server"


def connect_or_start() -> Styx:
    """A client as `session.connect` gives it. Where no server is configured and none listens, one is
    started for this user.
    """
    loaded = configuration.load()
    found = address.find(loaded.config)
    if not found.chosen and not _serves_us(found):
        with talk.passing("starting a local server …"):
            server, started = start(loaded)
        if started:
            talk.say(f"started a local server: {server.url}  (stop it with: styx server stop)")
        found = address.find(loaded.config)
    return Styx(found.url, found.token, first_contact_s=0.0, on_wait=session.waiting)


def running(config: Config) -> address.LocalServer | None:
    """This home's server, if it answers."""
    local = address.local_server(config)
    return local if local and answers(local.url) else None


def answers(url: str) -> bool:
    """Whether a Styx server listens there."""
    try:
        with Styx(url, "", patience_s=0.0, timeout_s=HEALTH_TIMEOUT_S) as styx:
            return styx.health().service == SERVICE
    except StyxError:
        return False


def start(loaded: Loaded) -> tuple[address.LocalServer, bool]:
    """Make sure that this home has a server; also say whether it was started just now.

    Of two that call at once, one starts it and both return it.

    Raises: SetupError, with the end of the server's log; MissingExtra.
    """
    with _turn(loaded.config):
        if local := running(loaded.config):
            return local, False
        return _start(loaded), True


def stop(config: Config) -> address.LocalServer | None:
    """Stop this home's server; return once its process is gone. None: there was none."""
    with _turn(config):
        local = address.local_server(config)
        if local is None:
            return None
        if not answers(local.url):
            raise StyxError(
                f"process {local.pid} does not answer at {local.url}",
                hint=f"if it is the server, end it with: kill {local.pid}",
            )
        for number, within_s in (
            (signal.SIGTERM, config.server.graceful_stop_s + STOP_GRACE_S),
            (signal.SIGKILL, STOP_GRACE_S),
        ):
            os.kill(local.pid, number)
            if _until(lambda: not address.alive(local.pid), within_s):
                return local
        raise StyxError(f"process {local.pid} of {local.url} does not end")


def _serves_us(found: address.Address) -> bool:
    """Whether a Styx server listens there and knows us; a busy one does. Another user's does not."""
    try:
        with Styx(found.url, found.token, patience_s=0.0, timeout_s=PROBE_TIMEOUT_S) as styx:
            next(styx.agents(limit=1), None)
    except (Unreachable, Unauthenticated):
        return False
    except ServerFailed as failed:
        return failed.status >= 500
    except RequestError:
        return True
    return True


def _start(loaded: Loaded) -> address.LocalServer:
    if find_spec(SERVER_PACKAGE) is None:
        raise main.MissingExtra(SERVER_PACKAGE)
    config = loaded.config
    log = config.home_path / "server.log"
    with log.open("ab") as file:
        begin = file.tell()
        process = subprocess.Popen(
            _command(loaded),
            cwd=config.home_path,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,  # a Ctrl-C for the client is none for the server
        )
    _until(lambda: process.poll() is not None or running(config) is not None, START_WITHIN_S)
    if (local := running(config)) is None:
        process.kill()
        raise SetupError(f"the server did not start: {_end_of(log, begin)}", hint=f"see {log}")
    return local


def _command(loaded: Loaded) -> list[str]:
    server = loaded.config.server
    # A port that somebody chose is that port; the usual one may be taken by anything.
    chosen = loaded.origins["server.port"] != DEFAULT
    port = server.port if chosen else free_port(server.host, server.port)
    command = [sys.executable, "-m", "styx", "serve", "--with-agent"]
    command += ["--host", server.host, "--port", str(port)]
    return [*command, "--config", loaded.file] if loaded.file else command


def free_port(host: str, first: int) -> int:
    for port in range(first, min(first + PORTS_TRIED, 65_536)):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family) as candidate:
            candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                candidate.bind((host, port))
            except OSError:
                continue
            return port
    return 0  # the kernel finds one, and server.json says which


def _end_of(log: Path, begin: int) -> str:
    with log.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(begin, size - LOG_TAIL_BYTES))
        lines = file.read().decode(errors="replace").strip().splitlines()
    return "\n  ".join(lines[-LOG_LINES:]) or "it said nothing"


@contextmanager
def _turn(config: Config) -> Generator[None]:
    """One at a time per home; the kernel lets go of the lock with its process."""
    config.home_path.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (config.home_path / "start.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _until(condition: Callable[[], bool], within_s: float) -> bool:
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True
