"""What is asked of who fetches files or sends them, what they answer, and where the files of a job are."""

import errno
import hashlib
from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final, NamedTuple

import msgspec

from styx.core import source

JOBS: Final = "jobs"  # of an agent's state directory: one for each job, which its tasks share
NEW: Final = ".new-"  # a directory that is being filled; without its process it is garbage
NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM})
GONE: Final = ".gone-"  # one that is being removed
LAID: Final = ".laid-"  # says that a bundle was laid over what is there
LEFT: Final = ".out-"  # what an attempt has left
GIVEN: Final = ".in-"  # what those that a task needs have left


class Target(NamedTuple):
    """What is wanted where: a bundle as a directory of a job, and others over what is there. A source from afar
    goes into that directory, too, unless its destination is elsewhere. `inputs` names the spec for which there
    is to be what those that it needs have left.
    """

    job: str
    bundle: str = ""
    over: tuple[tuple[str, str], ...] = ()  # "/" or "~", and the bundle; or any, and a source
    inputs: str = ""

    def marks(self, home: str) -> list[str]:
        """Paths that are there once all of it is."""
        inside = self.inside
        laid = [self.mark(home, to, what) for to, what in self.over if to not in inside]
        path = room(home, self.job, self.bundle, inside)
        given = inputs(home, self.job, self.inputs) if self.inputs else ""
        return [*laid, *filter(None, (path, given))]

    def mark(self, home: str, to: str, what: str) -> str:
        """Says that this was laid there."""
        name = _digest(to, what) if source.is_source(what) else what
        return f"{home}/{JOBS}/{self.job}/{LAID}{name[:32]}"

    @property
    def inside(self) -> dict[str, str]:
        return source.inside(dict(self.over))


def room(home: str, job: str, bundle: str, inside: Mapping[str, str] = MappingProxyType({})) -> str:
    """The directory of a bundle, and of what from afar is `inside`, that the tasks of a job share; "" of none."""
    if not bundle and not inside:
        return ""
    name = _digest(bundle, *(word for item in sorted(inside.items()) for word in item))
    return f"{home}/{JOBS}/{job}/{(name if inside else bundle)[:32]}"


def inputs(home: str, job: str, spec: str) -> str:
    """What `$STYX_INPUT_DIR` is for the tasks of a spec."""
    return f"{home}/{JOBS}/{job}/{GIVEN}{_digest(spec)[:32]}"


def left(home: str, job: str, key: str) -> str:
    """What `$STYX_OUTPUT_DIR` is for an attempt."""
    return f"{home}/{JOBS}/{job}/{LEFT}{key}"


def _digest(*words: str) -> str:
    return hashlib.sha256("\0".join(words).encode()).hexdigest()


class Ended(StrEnum):
    DONE = "done"
    REFUSED = "refused"  # it will never be had
    FULL = "full"  # not on this machine
    LATER = "later"  # the server is away
    AWAY = "away"  # who has it is, and may be for long


class Outcome(msgspec.Struct, frozen=True):
    ended: Ended
    detail: str = ""
    bundle: str = ""  # of what was sent


class Failed(Exception):
    def __init__(self, ended: Ended, detail: str) -> None:
        super().__init__(detail)
        self.outcome = Outcome(ended, detail)


class Asked(msgspec.Struct, frozen=True):
    """Where the server is, and what proves who asks."""

    host: str
    port: int
    prefix: str  # of the server's paths
    encrypted: bool
    token: str


class Request(Asked, frozen=True):
    """What is wanted of it."""

    home: str
    target: Target
    cache_bytes: int
    allow_hosts: tuple[str, ...] = ()  # beside the public internet's


class Parcel(msgspec.Struct, frozen=True):
    """What an attempt has left: each path or pattern below `cwd`, "" is all below `left`, and the bucket it goes
    to, "" is the server.
    """

    left: str
    cwd: str
    outputs: tuple[tuple[str, str], ...]


class Delivery(Asked, frozen=True):
    """What is brought there."""

    parcel: Parcel
