"""Files that are sent with tasks: bundles and their blobs, in the database, which all servers share.

A blob's name is its content, so writing one twice is no conflict and needs no fence. Removing one does: a
server that was deposed does not know what its successor has promised to keep.
"""

import asyncio
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Final

import msgspec
import structlog

from styx.core import bundle
from styx.core.bundle import Blob
from styx.core.ids import JobId, TaskId
from styx.core.spec import Input
from styx.errors import InvalidSpec, LimitReached
from styx.store import leader, outputs, pool
from styx.store.postgres import Database

TOUCH_S: Final = (
    3_600.0  # a use is written down when the last one is older: most uses cost no write
)
GRACE_S: Final = 900.0  # what was used so lately is not collected: its submit may be on the way
AT_A_TIME: Final = 2  # connections that files may take of all that read
RECENT_S: Final = 60.0  # who was just sent is as good as used
ROUND: Final = 8  # bundles removed before it is looked whether that is enough
DROPPED: Final = 2_000  # blobs, by one statement

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()

_MISSING: Final = """
SELECT wanted FROM unnest($1::bytea[]) AS wanted
WHERE NOT EXISTS (SELECT 1 FROM blobs WHERE sha256 = wanted)
"""
_TOUCH: Final = """
UPDATE blobs SET used_at = now()
WHERE sha256 = ANY($1) AND used_at < now() - make_interval(secs => $2)
"""
_KEEP: Final = """
WITH kept AS (INSERT INTO blobs (sha256, size, used_at, data)
    SELECT sha256, octet_length(data), now(), data
    FROM unnest($1::bytea[], $2::bytea[]) AS given (sha256, data)
    ON CONFLICT (sha256) DO NOTHING RETURNING size)
SELECT coalesce(sum(size), 0)::bigint FROM kept
"""
_KEEP_BUNDLE: Final = """
INSERT INTO bundles (id, size, used_at, manifest) VALUES ($1, $2, now(), $3)
ON CONFLICT (id) DO UPDATE SET used_at = now() RETURNING xmax = 0
"""
_HERE: Final = """
SELECT id, used_at < now() - make_interval(secs => $2) AS stale FROM bundles WHERE id = ANY($1)
"""
_USE: Final = "UPDATE bundles SET used_at = now() WHERE id = ANY($1)"
_TOTAL: Final = """
SELECT (SELECT coalesce(sum(size), 0) FROM blobs)::bigint
    + (SELECT coalesce(sum(octet_length(manifest)), 0) FROM bundles)::bigint
"""
_WANTED: Final = """
SELECT body FROM specs WHERE job_id IN (SELECT id FROM jobs WHERE state = 'running')
AND (body LIKE '%"bundle":"%' OR body LIKE '%"files":{%' OR body LIKE '%"inputs":[%')
"""
_SCHEDULED: Final = """
SELECT document FROM schedules WHERE document LIKE '%"bundle":"%' OR document LIKE '%"files":{%'
"""
_OLDEST: Final = """
SELECT id, used_at FROM bundles
WHERE id <> ALL($1) AND used_at < now() - make_interval(secs => $2) ORDER BY used_at LIMIT $3
"""
_MANIFESTS: Final = "SELECT manifest FROM bundles WHERE id = ANY($1)"
_FENCED: Final = f"WITH fence AS MATERIALIZED ({leader.FENCE}) "
_DROP_BUNDLES: Final = (
    _FENCED + "DELETE FROM bundles WHERE id = ANY($2) AND EXISTS (SELECT 1 FROM fence) RETURNING 1"
)
# A bundle's blobs were used no earlier than it, less what a use may go unwritten.
_DROP_BLOBS: Final = (
    _FENCED
    + """, gone AS (DELETE FROM blobs WHERE EXISTS (SELECT 1 FROM fence) AND sha256 IN (
    SELECT sha256 FROM blobs WHERE used_at
        < least($2::timestamptz, now() - make_interval(secs => $4)) - make_interval(secs => $3)
    LIMIT $5) RETURNING 1)
SELECT count(*) FROM gone
"""
)


class _Wants(msgspec.Struct):
    """Of a task, what is asked for here."""

    bundle: str | None = None
    files: dict[str, object] | None = None
    inputs: tuple[Input, ...] = ()


class _Job(msgspec.Struct):
    """Of a schedule's document, as much."""

    tasks: dict[str, _Wants] | list[_Wants]


class Files:
    """`max_bundle_bytes` of one bundle, `max_total_bytes` of all."""

    def __init__(self, database: Database, *, max_bundle_bytes: int, max_total_bytes: int) -> None:
        self.max_bundle_bytes = max_bundle_bytes
        self.max_total_bytes = max_total_bytes
        self._database = database
        self._total: int | None = None  # counted once; from then on by what is added
        self._turns = asyncio.Semaphore(AT_A_TIME)
        self._collecting = asyncio.Lock()

    async def total_bytes(self) -> int:
        """Kept, or a little more: what two sent at the same time counts twice until the next collection."""
        if self._total is None:
            async with self._turns, pool.using(self._database.readers) as connection:
                self._total = int(await connection.fetchval(_TOTAL))
        return self._total

    async def offer(
        self, id_: str, manifest: bytes, size: int, blobs: Collection[str]
    ) -> list[str]:
        """The blobs that are not here yet. Once there are none, the bundle is kept.

        Raises: InvalidSpec, LimitReached, StoreUnavailable.
        """
        if size > self.max_bundle_bytes:
            raise InvalidSpec(
                f"a bundle of {size:,} bytes; {self.max_bundle_bytes:,} are allowed "
                "(files.max_bundle_bytes)"
            )
        wanted = [bytes.fromhex(blob) for blob in blobs]
        async with self._turns, pool.using(self._database.readers) as connection:
            await connection.execute(_TOUCH, wanted, TOUCH_S)
            rows = await connection.fetch(_MISSING, wanted)
        if rows:
            return [row["wanted"].hex() for row in rows]
        await self._make_room(len(manifest))
        async with self._turns, pool.using(self._database.readers) as connection:
            new = await connection.fetchval(_KEEP_BUNDLE, bytes.fromhex(id_), size, manifest)
        self._grow(len(manifest) if new else 0)
        return []

    async def keep(self, blobs: Sequence[Blob]) -> None:
        """Raises: LimitReached, StoreUnavailable."""
        await self._make_room(sum(len(blob.data) for blob in blobs))
        # In one order, or two clients that send the same blobs might wait for each other.
        ordered = sorted({blob.sha256: blob.data for blob in blobs}.items())
        names = [name for name, _ in ordered]
        data = [content for _, content in ordered]
        async with self._turns, pool.using(self._database.readers) as connection:
            self._grow(await connection.fetchval(_KEEP, names, data))

    async def manifest(self, id_: str) -> bytes | None:
        async with self._turns, pool.using(self._database.readers) as connection:
            return await connection.fetchval(
                "SELECT manifest FROM bundles WHERE id = $1", bytes.fromhex(id_)
            )

    async def blobs(self, names: Iterable[str], most_bytes: int) -> list[Blob] | None:
        """Those of them that are here; None, if together they are more than `most_bytes`."""
        wanted = [bytes.fromhex(name) for name in names]
        async with self._turns, pool.using(self._database.readers) as connection:
            size = await connection.fetchval(
                "SELECT coalesce(sum(size), 0) FROM blobs WHERE sha256 = ANY($1)", wanted
            )
            if size > most_bytes:
                return None
            rows = await connection.fetch(
                "SELECT sha256, data FROM blobs WHERE sha256 = ANY($1)", wanted
            )
        return [Blob(row["sha256"], row["data"]) for row in rows]

    async def use(self, ids: Collection[str]) -> set[str]:
        """Those of the bundles that are here: they stay for as long as a submit may take."""
        wanted = [bytes.fromhex(id_) for id_ in sorted(ids)]
        async with self._turns, pool.using(self._database.readers) as connection:
            here = await connection.fetch(_HERE, wanted, RECENT_S)
            if stale := [row["id"] for row in here if row["stale"]]:
                await self._touch(connection, stale, TOUCH_S)
                await connection.execute(_USE, stale)
        return {row["id"].hex() for row in here}

    async def left_by(self, ids: Collection[TaskId]) -> dict[TaskId, str]:
        """See `outputs.of_tasks`."""
        async with self._turns, pool.using(self._database.readers) as connection:
            return await outputs.of_tasks(connection, ids)

    async def left_by_spec(self, job_id: JobId, name: str) -> list[outputs.Left]:
        """By the tasks of a spec of a job."""
        async with self._turns, pool.using(self._database.readers) as connection:
            return await outputs.of_spec(connection, job_id, name)

    async def inputs(self, job_id: JobId, name: str) -> tuple[Input, ...] | None:
        """See `outputs.inputs`."""
        async with self._turns, pool.using(self._database.readers) as connection:
            return await outputs.inputs(connection, job_id, name)

    @staticmethod
    async def _touch(connection: pool.Connection, ids: list[bytes], older_than_s: float) -> None:
        """The blobs of these bundles are in use."""
        for row in await connection.fetch(_MANIFESTS, ids):
            blobs = await asyncio.to_thread(_blobs, row["manifest"])
            await connection.execute(_TOUCH, blobs, older_than_s)

    async def _make_room(self, size: int) -> None:
        """Raises: LimitReached."""
        if await self.total_bytes() + size <= self.max_total_bytes:
            return
        async with self._collecting:
            if await self._collect(self.max_total_bytes - size) > self.max_total_bytes - size:
                raise LimitReached(
                    f"there is no room for more files: {self.max_total_bytes:,} bytes are kept for "
                    "tasks that are not over, or were used just now (files.max_total_bytes)",
                    retry_after_s=GRACE_S,
                    hint="wait for tasks to end, or raise files.max_total_bytes",
                )

    async def _collect(self, most: int) -> int:
        """Remove what was unused longest until no more than `most` bytes are left, or nothing may go.

        Returns what is left.
        """
        async with pool.using(self._database.readers) as connection:
            self._total = int(await connection.fetchval(_TOTAL))
            bodies = [row["body"] for row in await connection.fetch(_WANTED)]
            documents = [row["document"] for row in await connection.fetch(_SCHEDULED)]
            wanted, jobs = await asyncio.to_thread(_wanted, bodies, documents)
            wanted += await outputs.of_live_jobs(connection, jobs)
            await self._touch(connection, wanted, 0.0)
            before = self._total
            while self._total > most:
                oldest = await connection.fetch(_OLDEST, wanted, GRACE_S, ROUND)
                until = max((row["used_at"] for row in oldest), default=None)
                ids = [row["id"] for row in oldest]
                await connection.execute(_DROP_BUNDLES, self._database.term, ids)
                await self._drop_blobs(connection, until)
                self._total = int(await connection.fetchval(_TOTAL))
                if not ids:
                    break
        log.info("files collected", bytes=before - self._total, left_bytes=self._total)
        return self._total

    async def _drop_blobs(self, connection: pool.Connection, until: datetime | None) -> None:
        dropped = DROPPED
        while dropped == DROPPED:
            dropped = await connection.fetchval(
                _DROP_BLOBS, self._database.term, until, TOUCH_S, GRACE_S, DROPPED
            )

    def _grow(self, size: int) -> None:
        if self._total is not None:
            self._total += size


def _wanted(bodies: Iterable[str], documents: Iterable[str]) -> tuple[list[bytes], set[JobId]]:
    """The bundles of the specs of tasks that are not over, and of the jobs that schedules will make; and the
    jobs whose outputs such tasks are given.
    """
    wanted = [msgspec.json.decode(body, type=_Wants) for body in bodies]
    jobs = {given.job for each in wanted for given in each.inputs if given.job}
    for document in documents:
        tasks = msgspec.json.decode(document, type=_Job).tasks
        wanted += tasks.values() if isinstance(tasks, dict) else tasks
    ids = {id_ for each in wanted for id_ in (each.bundle, *(each.files or {}).values())}
    named = [bytes.fromhex(id_) for id_ in ids if isinstance(id_, str) and bundle.is_id(id_)]
    return named, jobs


def _blobs(manifest: bytes) -> list[bytes]:
    return [bytes.fromhex(blob) for blob in bundle.decode(manifest).blobs()]
