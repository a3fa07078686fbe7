"""Leadership: the term that fences writes, and the lease that says who holds it.

Taking the lead bumps the term, which waits for the writes under way and refuses all later ones of the
old term. The lease only keeps a second server from deposing a healthy first one by accident.
"""

import contextlib
import platform
import socket
from pathlib import Path
from typing import Final

import msgspec
import psutil

from styx.errors import SetupError, StaleWrite
from styx.store.pool import Connection

RENEW_S: Final = 3.0
TTL_S: Final = 10.0


class Holder(msgspec.Struct, frozen=True):
    """A server process, such that another on the same machine can tell whether it is dead."""

    host: str
    machine: str  # boot and pid namespace: where `pid` means something
    pid: int
    started: float

    @classmethod
    def current(cls) -> "Holder":
        process = psutil.Process()
        return cls(socket.gethostname(), _machine(), process.pid, process.create_time())

    @property
    def dead(self) -> bool:
        """Known to be; False where it cannot be known from here."""
        if self.machine != _machine():
            return False
        try:
            return psutil.Process(self.pid).create_time() != self.started
        except psutil.NoSuchProcess:
            return True


async def take(connection: Connection, holder: Holder) -> int:
    """Begin a new term; return its number. Raises: SetupError, naming who holds a living lease."""
    async with connection.transaction():
        lease = await connection.fetchrow(
            "SELECT holder, expires_at > now() AS alive FROM leader_lease WHERE id = 1 FOR UPDATE"
        )
        if lease["alive"]:
            other = msgspec.json.decode(lease["holder"], type=Holder)
            if not other.dead and other != holder:
                raise SetupError(
                    f"another styx server (process {other.pid} on {other.host}) uses this database",
                    hint=f"stop it first; if its machine is gone, wait {TTL_S:.0f} s",
                )
        term: int = await connection.fetchval(
            "UPDATE leader_fence SET term = term + 1 WHERE id = 1 RETURNING term"
        )
        await connection.execute(
            "UPDATE leader_lease SET term = $1, holder = $2,"
            " expires_at = now() + make_interval(secs => $3) WHERE id = 1",
            term,
            msgspec.json.encode(holder).decode(),
            TTL_S,
        )
    return term


async def renew(connection: Connection, term: int) -> None:
    """Raises: StaleWrite, when another server has taken the lead."""
    renewed = await connection.fetchval(
        "UPDATE leader_lease SET expires_at = now() + make_interval(secs => $2)"
        " WHERE id = 1 AND term = $1 RETURNING 1",
        term,
        TTL_S,
    )
    if renewed is None:
        raise StaleWrite(f"another server has taken the lead from term {term}")


async def release(connection: Connection, term: int) -> None:
    await connection.execute(
        "UPDATE leader_lease SET expires_at = now() WHERE id = 1 AND term = $1", term
    )


async def refence(connection: Connection, term: int) -> int:
    """Move on to a new term of our own: no write of the old one, whose outcome is unknown, lands later.

    Raises: StaleWrite, when another server has taken the lead.
    """
    async with connection.transaction():
        new: int | None = await connection.fetchval(
            "UPDATE leader_fence SET term = term + 1 WHERE id = 1 AND term = $1 RETURNING term",
            term,
        )
        if new is None:
            raise StaleWrite(f"another server has taken the lead from term {term}")
        await connection.execute("UPDATE leader_lease SET term = $1 WHERE id = 1", new)
    return new


def _machine() -> str:
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{Path('/proc/self/ns/pid').stat().st_ino}"
    return f"{platform.node()}/{psutil.boot_time():.0f}"
