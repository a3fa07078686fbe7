"""`styx agent`: join a server, run tasks here. Outbound connections only."""

import asyncio
import fcntl
import gc
import logging
import os
import signal
import subprocess
import sys
from typing import Final

import msgspec

from styx.agent import executor, home, identity, order, probe
from styx.agent.link import Link
from styx.config import Config
from styx.errors import Conflict, SetupError, StyxError

log: Final = logging.getLogger("styx.agent")


def run(config: Config, *, url: str, token: str) -> int:
    """Be this home's agent until SIGTERM or SIGINT (0), or until the server refuses it for good (1).

    Tasks that are running go on under their supervisor, and the next agent of this home takes them up.
    """
    logging.basicConfig(
        format="%(message)s", level=config.logs.level.upper(), stream=sys.stderr, force=True
    )
    try:
        return _run(config, url=url, token=token)
    except StyxError as error:
        log.critical("%s%s", error.message, f" ({error.hint})" if error.hint else "")
        return 1


def _run(config: Config, *, url: str, token: str) -> int:
    directory = str(config.agent_home.absolute())
    try:
        home.prepare(directory)
        lock = _lock(directory)
        who = identity.load(directory, config.agent.name)
    except (OSError, msgspec.DecodeError) as error:
        raise SetupError(f"the agent home {directory} cannot be used: {error}") from error
    # The one place that reads the whole environment: tasks inherit it.
    env = order.base_environment(os.environ)
    supervisor = executor.launch(directory, env)
    try:
        return asyncio.run(_serve(config, directory, who, supervisor, env, url=url, token=token))
    finally:
        os.close(lock)


async def _serve(
    config: Config,
    directory: str,
    who: identity.Identity,
    supervisor: subprocess.Popen[bytes],
    env: dict[str, str],
    *,
    url: str,
    token: str,
) -> int:
    found = await probe.machine(config.agent, directory)
    link = Link(directory, config.agent, who, found, supervisor, env, url=url, token=token)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, link.stop)
    gc.freeze()
    await link.run()
    if running := link.running():
        log.info("%d running tasks go on; the next agent of %s takes them up", running, directory)
    return 0


def _lock(directory: str) -> int:
    """The home's lock, for as long as the descriptor is open. Raises: Conflict."""
    lock = os.open(os.path.join(directory, home.AGENT_LOCK), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise Conflict(
            f"another agent is running on {directory}",
            hint="give each agent of a machine its own STYX_AGENT_HOME",
        ) from None
    return lock
