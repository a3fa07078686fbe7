"""The supervisor's end of its unix socket: JSON lines from and to the link, the newest one only."""

from __future__ import annotations

import json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from styx.agent import ports

MAX_LINE_BYTES: Final = 8 << 20  # a task's spec is at most a frame of 1 MiB; JSON may escape it
MAX_UNSENT_BYTES: Final = 64 << 20  # a link this far behind is stuck; the next gets a snapshot
_READ_BYTES: Final = 1 << 16


class Listener:
    """`fileno` for newcomers, `peer` (a descriptor, or -1) for the link that is connected."""

    def __init__(self, acceptor: ports.Acceptor) -> None:
        self._acceptor = acceptor
        self._link: ports.Peer | None = None
        self._received = bytearray()
        self._unsent = bytearray()

    def fileno(self) -> int:
        return self._acceptor.fileno()

    @property
    def peer(self) -> int:
        return -1 if self._link is None else self._link.fileno()

    @property
    def backlog(self) -> bool:
        """Whether `flush` waits for the peer to become writable."""
        return bool(self._unsent)

    def accept(self) -> ports.Peer | None:
        """A newcomer, to be given to `take`; None if it went away again or no descriptor is free."""
        try:
            return self._acceptor.accept()[0]
        except OSError:
            return None

    def take(self, link: ports.Peer) -> None:
        """Speak with this one from now on."""
        self.drop()
        link.setblocking(False)
        self._link = link

    def drop(self) -> None:
        if self._link is not None:
            self._link.close()
            self._link = None
        self._received.clear()
        self._unsent.clear()

    def receive(self) -> list[dict[str, Any]] | None:
        """The whole lines that have arrived; None when the link is gone or talks nonsense."""
        assert self._link is not None
        try:
            data = self._link.recv(_READ_BYTES)
        except BlockingIOError:
            return []
        except OSError:
            return None
        self._received += data
        *lines, rest = self._received.split(b"\n")
        self._received = rest
        if not data or len(rest) > MAX_LINE_BYTES:
            return None
        try:
            return [json.loads(line) for line in lines]
        except ValueError:
            return None

    def send(self, line: str) -> None:
        """Queue for the link, if there is one."""
        if self._link is not None:
            self._unsent += line.encode() + b"\n"

    def flush(self) -> bool:
        """Send what the socket takes. False: the link is gone or stuck, and has to be dropped."""
        if self._link is None or not self._unsent:
            return True
        try:
            del self._unsent[: self._link.send(self._unsent)]
        except BlockingIOError:
            pass
        except OSError:
            return False
        return len(self._unsent) <= MAX_UNSENT_BYTES

    def close(self) -> None:
        self.drop()
        self._acceptor.close()
