"""Logs: bytes in segment files, where they are in the database. `engine.ports.LogStore`.

The first bytes of a stream are kept in its head row while they are few: most outputs are small, and a
file's sync costs more than the row. Chunks that arrive together are written and recorded together.
"""

import asyncio
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from styx.core.ids import AttemptKey
from styx.errors import StaleWrite, StoreUnavailable, WireMismatch
from styx.store import leader, pool
from styx.store.exchange import Chunk, Gap
from styx.store.logplan import STREAMS, Amounts, Head, Item, Plan, Records, StreamKey, Tail
from styx.store.postgres import Database
from styx.store.segments import Place, Segments

SEGMENT_BYTES: Final = 256 << 20
MAX_ATTEMPT_BYTES: Final = 1 << 30
BATCH_BYTES: Final = 16 << 20  # written together; more waits, in its callers, for the next batch
MAX_OFFSET: Final = 1 << 62  # sums of two fit what Postgres counts with
ELSEWHERE: Final = (
    "not on this server"  # but on the disk of the one that led when they were written
)
CACHED_HEADS: Final = 40_000  # remembered; the longest unused is read again when needed

_KEY: Final = "task_id uuid, n integer, rank integer"
_SAME: Final = "(h.task_id, h.n, h.rank) = (g.task_id, g.n, g.rank)"
_RECORD: Final = f"""
WITH fence AS MATERIALIZED ({leader.FENCE}),
heads AS MATERIALIZED (SELECT * FROM json_to_recordset($2::json) AS given
    ({_KEY}, stream smallint, was bigint, next bigint, more text)),
begun AS (INSERT INTO log_heads SELECT task_id, n, rank, stream, next, decode(more, 'base64')
    FROM heads WHERE was = 0 ON CONFLICT DO NOTHING RETURNING 1),
moved AS (UPDATE log_heads h SET next_off = g.next, opening = h.opening || decode(g.more, 'base64')
    FROM heads g WHERE g.was > 0 AND {_SAME} AND h.stream = g.stream AND h.next_off = g.was
    RETURNING 1),
written AS (INSERT INTO log_chunks
    SELECT task_id, n, rank, stream, start, "end", segment, position, why
    FROM json_to_recordset($3::json) AS given ({_KEY}, stream smallint, start bigint, "end" bigint,
        segment bigint, position bigint, why text) RETURNING 1),
grown AS (UPDATE log_chunks h SET end_off = g."end"
    FROM json_to_recordset($4::json) AS g ({_KEY}, stream smallint, start bigint, was bigint,
        "end" bigint)
    WHERE {_SAME} AND h.stream = g.stream AND h.start_off = g.start AND h.end_off = g.was
    RETURNING 1)
SELECT styx_expect('the leader''s fence', 1, (SELECT count(*) FROM fence)),
    styx_expect('log_heads', $5, (SELECT count(*) FROM begun) + (SELECT count(*) FROM moved)),
    styx_expect('log_chunks', $6, (SELECT count(*) FROM written) + (SELECT count(*) FROM grown))
"""
_HEADS: Final = f"""
SELECT h.task_id, h.n, h.rank, h.stream, h.next_off, octet_length(h.opening) AS opening,
    c.start_off, c.end_off, c.segment, c.position, c.why
FROM json_to_recordset($1::json) AS g ({_KEY}) JOIN log_heads h ON {_SAME}
LEFT JOIN LATERAL (
    SELECT * FROM log_chunks c WHERE (c.task_id, c.n, c.rank, c.stream)
        = (h.task_id, h.n, h.rank, h.stream) ORDER BY c.start_off DESC LIMIT 1) AS c ON true
"""
_OPENING: Final = """
SELECT opening FROM log_heads WHERE task_id = $1 AND n = $2 AND rank = $3 AND stream = $4
"""
_CHUNKS: Final = """
SELECT start_off, end_off, segment, position FROM log_chunks
WHERE task_id = $1 AND n = $2 AND rank = $3 AND stream = $4 AND start_off < $6 AND start_off >= (
    SELECT coalesce(max(start_off), 0) FROM log_chunks
    WHERE task_id = $1 AND n = $2 AND rank = $3 AND stream = $4 AND start_off <= $5)
ORDER BY start_off
"""
_CHUNKS_OF: Final = """
SELECT stream, start_off, end_off, segment, why FROM log_chunks
WHERE task_id = $1 AND n = $2 AND rank = $3 ORDER BY stream, start_off
"""
_encode: Final = msgspec.json.Encoder().encode


class _Batch:
    """Items of many callers that are written at once."""

    def __init__(self) -> None:
        self.items: list[Item] = []
        self.bytes = 0
        self.wanted: list[int] = []
        self.begun = False
        self.failed = ""


@dataclass(slots=True)
class Counts:
    """Since these files were opened. `gaps` are recorded ranges: one that grows is still one."""

    kept_bytes: int = 0
    over_limit_bytes: int = 0
    gone_bytes: int = 0
    gaps: int = 0


class LogFiles:
    """Logs of all attempts, in `directory`: readable by this user only."""

    def __init__(
        self,
        database: Database,
        directory: Path,
        segment_bytes: int = SEGMENT_BYTES,
        max_attempt_bytes: int = MAX_ATTEMPT_BYTES,
    ) -> None:
        self._database = database
        self._segments = Segments(directory, segment_bytes, database.term)
        self._max_attempt_bytes = max_attempt_bytes
        self._heads: dict[StreamKey, Head] = {}  # longest unused first
        self._gathering = _Batch()
        self._writing = asyncio.Lock()
        self.counts = Counts()
        self._watched: dict[AttemptKey, set[asyncio.Event]] = {}

    async def append(self, chunks: Sequence[Chunk]) -> list[int]:
        """See `engine.ports.LogStore.append`. Raises: WireMismatch, too, for a place that cannot be.

        Past `max_attempt_bytes` of an attempt, bytes are counted and not kept: a gap named `limit`.
        """
        items = [Item(c.key, c.stream, c.offset, c.offset + len(c.data), c.data) for c in chunks]
        return await self._put(items)

    async def gap(self, key: AttemptKey, stream: int, start: int, end: int, why: str) -> int:
        """See `engine.ports.LogStore.gap`. A gap that starts past the stream's end is refused."""
        word = why.replace("\0", "")  # an agent's; others' bytes in the batch must not fail with it
        return (await self._put([Item(key, stream, start, end, why=word)]))[0]

    async def heads(self, keys: Sequence[AttemptKey]) -> dict[tuple[AttemptKey, int], int]:
        """See `engine.ports.LogStore.heads`."""
        known = await self._know(_streams(keys))
        return {stream: head.next for stream, head in known.items() if head.next}

    async def read(self, key: AttemptKey, stream: int, offset: int, limit: int) -> bytes:
        """Bytes from `offset` on, at most `limit`: up to the end of what is stored here, or to a gap.

        Raises: StoreUnavailable.
        """
        async with pool.using(self._database.readers) as connection:
            opening: bytes = await connection.fetchval(_OPENING, *key, stream) or b""
            chunks: list[Any] = []
            if offset + limit > len(opening):
                chunks = await connection.fetch(_CHUNKS, *key, stream, offset, offset + limit)
        parts = [opening[offset : offset + limit]]
        at = offset + len(parts[0])
        pieces: list[tuple[Place, int]] = []
        for row in chunks:
            if row["segment"] is None or not row["start_off"] <= at < row["end_off"]:
                break
            length = min(row["end_off"], offset + limit) - at
            pieces.append((Place(row["segment"], row["position"] + at - row["start_off"]), length))
            at += length
        if pieces:
            parts += await asyncio.to_thread(self._read, pieces)
        return b"".join(parts)

    async def gaps(self, key: AttemptKey) -> list[Gap]:
        """By stream and start: what is gone for good, and what is `ELSEWHERE`."""
        async with pool.using(self._database.readers) as connection:
            found = await connection.fetch(_CHUNKS_OF, *key)
        segments = {row["segment"] for row in found} - {None}
        here = await asyncio.to_thread(lambda: set(filter(self._segments.has, segments)))
        return [
            Gap(row["stream"], row["start_off"], row["end_off"], row["why"] or ELSEWHERE)
            for row in found
            if row["segment"] not in here
        ]

    async def changed(self, key: AttemptKey, seen: Mapping[int, int], timeout_s: float) -> bool:
        """Wait until a stream of the attempt has bytes past `seen`, its offset by stream.

        False after `timeout_s`. Every stream counts, those not in `seen` from 0.
        """
        news = asyncio.Event()
        self._watched.setdefault(key, set()).add(news)
        try:
            async with asyncio.timeout(timeout_s):
                while not _passed(await self._know(_streams([key])), seen):
                    # Nothing is awaited between the look and the wait: no change is missed.
                    await news.wait()
                    news.clear()
        except TimeoutError:
            return False
        finally:
            watching = self._watched[key]
            watching.discard(news)
            if not watching:
                del self._watched[key]
        return True

    def close(self) -> None:
        self._segments.close()

    async def _put(self, items: list[Item]) -> list[int]:
        """Join the batch that gathers; whoever comes first writes it, once the one before is done."""
        for item in items:
            if item.stream not in STREAMS or not 0 <= item.start <= item.end < MAX_OFFSET:
                raise WireMismatch(f"no place in a log: stream {item.stream}, byte {item.end}")
        if self._gathering.bytes > BATCH_BYTES:
            self._gathering = _Batch()
        batch, first = self._gathering, len(self._gathering.items)
        batch.items += items
        batch.bytes += sum(len(item.data) for item in items)
        async with self._writing:
            if not batch.begun:
                batch.begun = True
                if batch is self._gathering:
                    self._gathering = _Batch()
                batch.failed = "the writer was stopped"  # unless it comes to its end
                try:
                    batch.wanted = await self._write(batch.items)
                    batch.failed = ""
                except StoreUnavailable as error:
                    batch.failed = error.message
        if batch.failed:
            raise StoreUnavailable(batch.failed)
        return batch.wanted[first : first + len(items)]

    async def _write(self, items: list[Item]) -> list[int]:
        streams = {(item.key, item.stream) for item in items}
        # A stream that begins is taken to be new: the database contradicts if it is not (nothing at all
        # would not be written, so it could not be contradicted).
        # (Asked one by one: a set less a dict's keys walks through all of the dict.)
        begun = {(item.key, item.stream) for item in items if item.start == 0 < item.end}
        new = {stream for stream in begun if stream not in self._heads}
        heads = await self._know(streams - new) | dict.fromkeys(new, Head())
        of_attempts = _streams({item.key for item in items})
        for stream in self._heads.keys() & of_attempts:  # the attempt's other one, for its limit
            heads.setdefault(stream, self._heads[stream])
        try:
            return await self._record(items, heads)
        except StaleWrite:
            self._forget(streams)
        try:
            return await self._record(items, await self._know(of_attempts))
        except StaleWrite as error:
            self._forget(streams)
            raise StoreUnavailable(f"another server writes these logs: {error}") from error

    async def _record(self, items: list[Item], heads: Mapping[StreamKey, Head]) -> list[int]:
        plan = Plan(heads, self._max_attempt_bytes)
        wanted = [plan.take(item) for item in items]
        blobs = plan.blobs()
        places = await asyncio.to_thread(self._segments.append, blobs) if blobs else []
        records = plan.records(places)
        if records.heads:
            await self._commit(records)
            self._count(plan.amounts(), records)
        return wanted

    def _count(self, amounts: Amounts, records: Records) -> None:
        counts = self.counts
        counts.kept_bytes += amounts.kept
        counts.over_limit_bytes += amounts.over_limit
        counts.gone_bytes += amounts.gone
        counts.gaps += sum(bool(chunk["why"]) for chunk in records.chunks)

    async def _commit(self, records: Records) -> None:
        self._forget(records.after)  # until it has landed, what we know of them is uncertain
        async with self._database.log_writer.using() as connection:
            await connection.fetchrow(
                _RECORD,
                self._database.term,
                _encode(records.heads).decode(),
                _encode(records.chunks).decode(),
                _encode(records.grown).decode(),
                len(records.heads),
                len(records.chunks) + len(records.grown),
            )
        self._heads.update(records.after)
        for key in {key for key, _ in records.after} & self._watched.keys():
            for news in self._watched[key]:
                news.set()

    async def _know(self, streams: Iterable[StreamKey]) -> dict[StreamKey, Head]:
        """The heads of these streams, read where they are not remembered."""
        streams = dict.fromkeys(streams)
        # Again, should one that was remembered be forgotten while another was read.
        while unknown := {key for key, stream in streams if (key, stream) not in self._heads}:
            read = dict.fromkeys(_streams(unknown), Head())
            async with pool.using(self._database.writers) as connection:
                found = await connection.fetch(
                    _HEADS, _encode([key._asdict() for key in unknown]).decode()
                )
            for row in found:
                key = AttemptKey(row["task_id"], row["n"], row["rank"])
                read[key, row["stream"]] = _head(row)
            for stream, head in read.items():
                self._heads.setdefault(stream, head)  # what was written meanwhile is newer
        known = {stream: self._heads.pop(stream) for stream in streams}
        self._heads.update(known)
        while len(self._heads) > CACHED_HEADS:
            del self._heads[next(iter(self._heads))]
        return known

    def _read(self, pieces: Sequence[tuple[Place, int]]) -> list[bytes]:
        """Up to the first of them that is not here."""
        here = itertools.takewhile(lambda piece: self._segments.has(piece[0].segment), pieces)
        return [self._segments.read(place, length) for place, length in here]

    def _forget(self, streams: Iterable[StreamKey]) -> None:
        for stream in streams:
            self._heads.pop(stream, None)


def _streams(keys: Iterable[AttemptKey]) -> list[StreamKey]:
    return [(key, stream) for key in keys for stream in STREAMS]


def _passed(heads: Mapping[StreamKey, Head], seen: Mapping[int, int]) -> bool:
    return any(head.next > seen.get(stream, 0) for (_, stream), head in heads.items())


def _head(row: Any) -> Head:
    if row["start_off"] is None:
        return Head(row["next_off"], row["opening"])
    length = row["end_off"] - row["start_off"]
    place = None if row["segment"] is None else Place(row["segment"], row["position"] + length)
    return Head(
        row["next_off"], row["opening"], Tail(row["start_off"], row["end_off"], place, row["why"])
    )
