"""What the agent's logic asks of the system under it, so that it can run on another one.

It is imported for the type checker alone: at run time nothing of it is resident.
"""

from collections.abc import Collection
from typing import Any, Protocol

from styx.agent.errand import Outcome, Parcel, Target


class Kernel(Protocol):
    """The system under the supervisor. A process may be gone by the time it is spoken of: the answer
    is then the empty one, never an error.
    """

    terminated: bool  # the machine is going down, or somebody wants the supervisor to leave

    def now(self) -> float:
        """Seconds on a clock that both halves share and that never jumps: see `proc.now`."""
        ...

    def boot_id(self) -> str: ...
    def oom_kills(self) -> int: ...
    def peak_rss_bytes(self) -> int: ...

    # --- processes ----------------------------------------------------------------------------

    def spawn(self, argv: list[str], env: dict[str, str], cwd: str, out: str, err: str) -> int:
        """Start a process that leads its own session. Raises: SpawnRefused, MachineFull."""
        ...

    def wait(self, pid: int) -> tuple[int, int, int] | None:
        """How this child of ours died: (wait status, CPU milliseconds, most bytes resident); None
        while it lives.
        """
        ...

    def bury(self, pid: int) -> bool:
        """Let go of a child that we did not start, if it is dead (or not our child any more)."""
        ...

    def kill(self, pid: int, number: int) -> bool:
        """Send a signal. False: it is somebody else's process, which we may not touch."""
        ...

    def kill_group(self, pid: int, number: int) -> None: ...

    def group_lives(self, pid: int) -> bool:
        """Whether the process group of a dead child has a living member; its dead are let go of."""
        ...

    def children(self) -> list[int]: ...
    def marked(self, pid: int) -> str: ...
    def members(self, keys: Collection[str], roots: dict[int, str]) -> dict[str, set[int]]: ...
    def is_main(self, pid: int, claimed_at: float, key: str) -> bool: ...

    # --- descriptors --------------------------------------------------------------------------

    def watch(self, pid: int) -> int:
        """A descriptor that is ready once the process has died. Raises: OSError."""
        ...

    def unwatch(self, descriptor: int) -> None: ...
    def listen(self, address: str) -> "Acceptor": ...

    def attend(self, descriptor: int, *, writing: bool = False) -> None:
        """Have `poll` say when something can be read; with `writing`, when it can be written too."""
        ...

    def leave(self, descriptor: int) -> None:
        """The contrary of `attend`."""
        ...

    def poll(self, seconds: float) -> list[int]:
        """Sleep until one of the descriptors is ready, for so long at most."""
        ...

    def sync(self, descriptor: int) -> None:
        """Have the disk keep what the file holds, power or no power."""
        ...


class Acceptor(Protocol):
    """The supervisor's unix socket, which links connect to."""

    def fileno(self) -> int: ...
    def accept(self) -> "tuple[Peer, Any]": ...
    def close(self) -> None: ...


class Peer(Protocol):
    """The end of a connection: what is used of `socket.socket`, never blocking."""

    def fileno(self) -> int: ...
    def recv(self, size: int, /) -> bytes: ...
    def send(self, data: bytes | bytearray, /) -> int: ...
    def setblocking(self, flag: bool, /) -> None: ...
    def close(self) -> None: ...


class Courier(Protocol):
    """Brings files to this machine, and from it."""

    async def fetch(self, target: Target) -> Outcome:
        """Return once the target's directory is there, whole, or why it is not."""
        ...

    async def send(self, parcel: Parcel) -> Outcome:
        """Return once the server has it, whole, or why not; done again it is the same."""
        ...


class Rooms(Protocol):
    """The directories that jobs have on this machine."""

    def use(self, target: Target) -> bool:
        """Whether it is there, whole; then it has just been needed."""
        ...

    async def tidy(self, needed: Collection[str], kept_s: float) -> None:
        """Remove those of jobs that have not been needed for so long."""
        ...
