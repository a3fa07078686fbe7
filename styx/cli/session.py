"""The client of a command, and the server behind it: the configured one, the local one, or one that is
started now.
"""

from collections.abc import Iterable
from typing import Final

from styx import config
from styx.cli import local, talk
from styx.errors import Unauthenticated
from styx.sdk import address
from styx.sdk.client import Styx
from styx.sdk.failures import ServerFailed, Unreachable

PROBE_TIMEOUT_S: Final = 3.0  # for whatever listens at the usual port to say what it is


def connect() -> Styx:
    """A client that says at once when no server is there, and is patient with one that was."""
    found = address.find(config.load().config)
    return Styx(found.url, found.token, first_contact_s=0.0)


def connect_or_start() -> Styx:
    """As `connect`, but where no server is configured and none listens, one is started for this user."""
    loaded = config.load()
    found = address.find(loaded.config)
    if not found.chosen and not _serves_us(found):
        with talk.passing("starting a local server …"):
            server, started = local.start(loaded)
        if started:
            talk.say(f"started a local server: {server.url}  (stop it with: styx server stop)")
        found = address.find(loaded.config)
    return Styx(found.url, found.token, first_contact_s=0.0)


def is_local(styx: Styx) -> bool:
    """Whether the server is the one of this home, on this machine."""
    server = address.local_server(config.load().config)
    return server is not None and server.url == styx.url


def warn(warnings: Iterable[str]) -> None:
    for warning in warnings:
        talk.warn(warning)


def _serves_us(found: address.Address) -> bool:
    """Whether a Styx server listens there and knows us; a busy one does. Another user's does not."""
    try:
        with Styx(found.url, found.token, patience_s=0.0, timeout_s=PROBE_TIMEOUT_S) as styx:
            next(styx.agents(limit=1), None)
    except (Unreachable, Unauthenticated):
        return False
    except ServerFailed as failed:
        return failed.status >= 500
    return True
