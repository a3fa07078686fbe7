"""What is asked of who fetches files, what they answer, and where the files of a job are."""

from enum import StrEnum
from typing import Final, NamedTuple

import msgspec

JOBS: Final = "jobs"  # of an agent's state directory: one for each job, which its tasks share
NEW: Final = ".new-"  # a directory that is being filled; without its process it is garbage
GONE: Final = ".gone-"  # one that is being removed


class Target(NamedTuple):
    """What is wanted where: a bundle, by the tasks of a job."""

    job: str
    bundle: str

    def path(self, home: str) -> str:
        return f"{home}/{JOBS}/{self.job}/{self.bundle[:32]}"


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
    job: str
    bundle: str
    cache_bytes: int
