"""An agent: our process on a machine, as the server sees it."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Final, NamedTuple

import msgspec
from msgspec import Meta

from styx.core import machine
from styx.core.ids import COUNT, SIZE, AgentId


class AgentState(StrEnum):
    JOINING = "joining"  # connected, not yet in step with the server
    READY = "ready"
    SUSPECT = "suspect"  # silent for a while; no new work
    DISCONNECTED = "disconnected"
    DRAINING = "draining"  # connected, told to take no new work
    GONE = "gone"


_CONNECTED: Final = frozenset({AgentState.READY, AgentState.SUSPECT, AgentState.DRAINING})
NEXT: Final = {
    AgentState.JOINING: _CONNECTED | {AgentState.DISCONNECTED, AgentState.GONE},
    AgentState.READY: _CONNECTED | {AgentState.JOINING, AgentState.DISCONNECTED, AgentState.GONE},
    AgentState.SUSPECT: _CONNECTED | {AgentState.JOINING, AgentState.DISCONNECTED, AgentState.GONE},
    AgentState.DRAINING: _CONNECTED
    | {AgentState.JOINING, AgentState.DISCONNECTED, AgentState.GONE},
    AgentState.DISCONNECTED: frozenset({AgentState.JOINING, AgentState.GONE}),
    # Not terminal: a machine that comes back joins again under its own name, its old attempts lost.
    AgentState.GONE: frozenset({AgentState.JOINING}),
}
TERMINAL: Final = machine.terminal(NEXT)


# Linux's word for each, whoever says it how: macOS reports arm64.
ARCHITECTURES: Final = {
    "x86_64": "x86_64",
    "amd64": "x86_64",
    "x64": "x86_64",
    "aarch64": "aarch64",
    "arm64": "aarch64",
}


FeatureName = Annotated[str, Meta(max_length=64, pattern=r"\A[a-z][a-z0-9_-]*\Z")]


class Gpu(msgspec.Struct, frozen=True, gc=False):
    """One device as the driver names it: `nvidia h100 80gb hbm3`."""

    model: str
    memory_bytes: Annotated[int, SIZE] = 0


class Capacity(msgspec.Struct, frozen=True, omit_defaults=True):
    """What an agent offers in total. Detected, or lowered by its flags."""

    cpus_milli: Annotated[int, COUNT] = 0
    memory_bytes: Annotated[int, SIZE] = 0
    disk_bytes: Annotated[int, SIZE] = 0
    gpus: tuple[Gpu, ...] = ()
    arch: str = ""  # a value of ARCHITECTURES, or what the machine calls itself
    ahead: Annotated[int, COUNT] = 0  # tasks that it takes beyond its room: see `core.ahead`
    features: Annotated[tuple[FeatureName, ...], Meta(max_length=64)] = ()  # see `core.feature`


class Kind(NamedTuple):
    """Agents of one kind could run the same tasks, were they idle."""

    capacity: Capacity
    labels: frozenset[tuple[str, str]]


class Agent(msgspec.Struct, frozen=True, kw_only=True):
    id: AgentId
    name: str
    state: AgentState = AgentState.JOINING
    session: int = 0  # connection number; a newer one closes the older
    store_id: str = ""
    boot_id: str = ""
    version_text: str = ""  # of the program, for people
    address: str = ""  # where gang members reach it
    capacity: Capacity = Capacity()
    labels: dict[str, str] = {}
    drain: bool = False  # the operator's wish, or what its rejects led to; survives reconnects
    rejects: int = 0  # in a row of them that is not over: see `policy.REJECTS_ALLOWED`
    rejects_since: datetime | None = None
    preempt_at: datetime | None = None  # its machine is taken away then, until it boots again
    joined_at: datetime
    changed_at: datetime
    version: int = 0

    @property
    def kind(self) -> Kind:
        return Kind(self.capacity, frozenset(self.labels.items()))
