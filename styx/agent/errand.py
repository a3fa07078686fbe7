"""What is asked of who fetches files, what they answer, and where the files of a job are."""

from enum import StrEnum
from typing import Final, NamedTuple

import msgspec

JOBS: Final = "jobs"  # of an agent's state directory: one for each job, which its tasks share
NEW: Final = ".new-"  # a directory that is being filled; without its process it is garbage
GONE: Final = ".gone-"  # one that is being removed
LAID: Final = ".laid-"  # says that a bundle was laid over what is there


class Target(NamedTuple):
    """What is wanted where: a bundle as a directory of a job, and others over what is there."""

    job: str
    bundle: str = ""
    over: tuple[tuple[str, str], ...] = ()  # "/" or "~", and the bundle

    def marks(self, home: str) -> list[str]:
        """Paths that are there once all of it is."""
        laid = [f"{home}/{JOBS}/{self.job}/{LAID}{bundle[:32]}" for _, bundle in self.over]
        return [*laid, room(home, self.job, self.bundle)] if self.bundle else laid


def room(home: str, job: str, bundle: str) -> str:
    """The directory of a bundle that the tasks of a job share."""
    return f"{home}/{JOBS}/{job}/{bundle[:32]}"


class Ended(StrEnum):
    DONE = "done"
    REFUSED = "refused"  # it will never be had
    FULL = "full"  # not on this machine
    LATER = "later"  # the server is away


class Outcome(msgspec.Struct, frozen=True):
    ended: Ended
    detail: str = ""


class Request(msgspec.Struct, frozen=True):
    """Where the server is, what proves who asks, and what is wanted."""

    host: str
    port: int
    prefix: str  # of the server's paths
    encrypted: bool
    token: str
    home: str
    target: Target
    cache_bytes: int
