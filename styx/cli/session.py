"""The client of a command, and what its server has to say."""

from collections.abc import Iterable

from styx import config
from styx.cli import talk
from styx.errors import StyxError
from styx.sdk import address
from styx.sdk.client import Styx


def connect() -> Styx:
    """A client that says at once when no server is there, and is patient with one that was."""
    found = address.find(config.load().config)
    return Styx(found.url, found.token, first_contact_s=0.0, on_wait=waiting)


def waiting(failure: StyxError) -> None:
    """One line, however long it takes."""
    talk.say(f"{failure.message}; waiting for it …")


def is_local(styx: Styx) -> bool:
    """Whether the server is the one of this home, on this machine."""
    return styx.is_local()


def warn(warnings: Iterable[str]) -> None:
    for warning in warnings:
        talk.warn(warning)
