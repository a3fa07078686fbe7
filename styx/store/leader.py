"""Leadership: the term that fences writes, and the lease that says who holds it.

Taking the lead bumps the term, which waits for the writes under way and refuses all later ones of the
old term. The lease only keeps a second server from deposing a healthy first one by accident.
"""

import contextlib
import hashlib
import platform
import socket
from pathlib import Path
from typing import Final

import msgspec
import psutil

from styx.errors import StaleWrite
from styx.store.pool import Connection

# Share-locked at the writer's own term by every write there is: a new term waits for those that are under
# way, and those that come later find no row. Reading it without the lock is no fence (E8).
FENCE: Final = "SELECT 1 FROM leader_fence WHERE id = 1 AND term = $1 FOR SHARE"
RENEW_S: Final = 3.0
TTL_S: Final = 10.0

_EXPIRE: Final = f"""
WITH fence AS MATERIALIZED ({FENCE})
UPDATE leader_lease SET expires_at = now() + make_interval(secs => $2)
WHERE id = 1 AND term = $1 AND EXISTS (SELECT 1 FROM fence) RETURNING 1
"""
# A restored dump is another table, and a restored base backup another timeline; nobody can copy either.
_ORIGIN: Final = """
SELECT system_identifier || '/' || left(pg_walfile_name(pg_current_wal_lsn()), 8) || '/'
    || (SELECT oid FROM pg_database WHERE datname = current_database()) || '/'
    || 'leader_fence'::regclass::oid::bigint
FROM pg_control_system()
"""
_RENEWED: Final = "generation = 1 + floor(random() * 1e15)::bigint"  # never one of before


class Holder(msgspec.Struct, frozen=True):
    """A server process, such that another on the same machine can tell whether it is dead; and what the
    others must know of it.
    """

    host: str
    machine: str  # boot and pid namespace: where `pid` means something
    pid: int
    started: float
    address: str = ""  # URL at which replicas and agents reach it
    token: str = ""  # a fingerprint: replicas speak to each other with one administrator's token

    @classmethod
    def current(cls, address: str = "", token: str = "") -> "Holder":
        process = psutil.Process()
        return cls(
            socket.gethostname(),
            _machine(),
            process.pid,
            process.create_time(),
            address,
            fingerprint(token) if token else "",
        )

    @property
    def dead(self) -> bool:
        """Known to be; False where it cannot be known from here."""
        if self.machine != _machine():
            return False
        try:
            return psutil.Process(self.pid).create_time() != self.started
        except psutil.NoSuchProcess:
            return True


def fingerprint(token: str) -> str:
    """What tells two tokens apart and gives neither away."""
    return hashlib.sha256(b"styx replica\0" + token.encode()).hexdigest()[:16]


async def other(connection: Connection, me: Holder) -> tuple[int, Holder] | None:
    """Another server whose lease lives, and its term."""
    lease = await connection.fetchrow(
        "SELECT term, holder, expires_at > now() AS alive FROM leader_lease WHERE id = 1"
    )
    if not lease["alive"]:
        return None
    holder = msgspec.json.decode(lease["holder"], type=Holder)
    return None if holder == me or holder.dead else (lease["term"], holder)


async def take(connection: Connection, holder: Holder) -> int | None:
    """Begin a new term; return its number, or None while another server's lease lives.

    Everybody locks the fence before the lease.
    """
    async with connection.transaction():
        await connection.execute("SELECT 1 FROM leader_fence WHERE id = 1 FOR UPDATE")
        if await other(connection, holder) is not None:
            return None
        term: int = await connection.fetchval(
            "UPDATE leader_fence SET term = term + 1 WHERE id = 1 RETURNING term"
        )
        await connection.execute(
            "UPDATE leader_lease SET term = $1, holder = $2,"
            " expires_at = clock_timestamp() + make_interval(secs => $3) WHERE id = 1",
            term,
            msgspec.json.encode(holder).decode(),
            TTL_S,
        )
        await connection.execute(
            f"UPDATE leader_fence SET {_RENEWED}, origin = $1 WHERE id = 1 AND origin <> $1",
            await connection.fetchval(_ORIGIN),
        )
    return term


async def generation(connection: Connection) -> int:
    """The id of this database's history: another one means that a backup was restored (4.6)."""
    number: int = await connection.fetchval("SELECT generation FROM leader_fence WHERE id = 1")
    return number


async def surpass(connection: Connection, term: int, seen: int) -> None:
    """An agent has seen a later term than there ever was: this database is an older one, restored.

    A new history begins, and the next term is above any that agents have seen. Ends our own term.
    Raises: StaleWrite, when another server has taken the lead.
    """
    if not await connection.fetchval(
        f"UPDATE leader_fence SET term = $2, {_RENEWED} WHERE id = 1 AND term = $1 RETURNING 1",
        term,
        seen,
    ):
        raise _deposed(term)


async def renew(connection: Connection, term: int) -> None:
    """Raises: StaleWrite, when another server has taken the lead."""
    if not await connection.fetchval(_EXPIRE, term, TTL_S):
        raise _deposed(term)


async def release(connection: Connection, term: int) -> None:
    await connection.fetchval(_EXPIRE, term, 0.0)


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
            raise _deposed(term)
        await connection.execute("UPDATE leader_lease SET term = $1 WHERE id = 1", new)
    return new


def _deposed(term: int) -> StaleWrite:
    return StaleWrite(f"another server has taken the lead from term {term}")


def _machine() -> str:
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{Path('/proc/self/ns/pid').stat().st_ino}"
    return f"{platform.node()}/{psutil.boot_time():.0f}"
