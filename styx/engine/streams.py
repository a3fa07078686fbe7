"""One session's log bytes, and the exits behind them, in the order in which they arrived.

A lane of its own: log bytes wait here for the disk while control messages pass by. An exit is posted
after the bytes that came before it are durable, so that one row update ends the task and its logs.
"""

import asyncio
import zlib
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import Final, TypeVar

from styx.core import event
from styx.core.attempt import TERMINAL, Attempt, AttemptState, Exit, StopReason
from styx.core.ids import AttemptKey
from styx.engine.links import Link
from styx.engine.loop import Engine
from styx.engine.ports import Chunk
from styx.engine.reports import Report, Reports
from styx.errors import LimitReached, StoreUnavailable, WireMismatch
from styx.kit.backoff import Backoff
from styx.wire import agent as wire

OUT: Final = 1
ERR: Final = 2
QUEUE_LIMIT: Final = 20_000  # messages; beyond, the agent has lost all measure
RETRY_BASE_S: Final = 0.2
RETRY_CAP_S: Final = 2.0
TOLD_LIMIT: Final = 1_000  # attempts told to stop because of their bytes; beyond, told once more
KEPT: Final = 4_096  # offsets, before those of attempts that are over are dropped

Message = wire.Log | wire.Gap | Report
T = TypeVar("T")


class Streams:
    def __init__(self, engine: Engine, link: Link, reports: Reports, *, credit_bytes: int) -> None:
        self._engine = engine
        self._link = link
        self._reports = reports
        self._credit_bytes = credit_bytes
        self._queue: deque[Message] = deque()
        self._unstored_bytes = 0
        self._wake = asyncio.Event()
        self._heads: dict[tuple[AttemptKey, int], int] = {}
        self._kept = KEPT
        self._ended: dict[AttemptKey, Exit] = {}  # whose last bytes are still to come
        self._told: dict[AttemptKey, float] = {}  # when, on the monotonic clock

    def put(self, message: Message) -> None:
        """Queue it behind what came before. Raises: WireMismatch, for damage or exceeded credit."""
        _check(message)
        if isinstance(message, wire.Log):
            self._unstored_bytes += len(message.data)
        if self._unstored_bytes > self._credit_bytes or len(self._queue) >= QUEUE_LIMIT:
            raise WireMismatch("more log bytes under way than the session's credit")
        self._queue.append(message)
        self._wake.set()

    async def adopt(self, held: Sequence[wire.Held]) -> tuple[tuple[AttemptKey, int, int], ...]:
        """Learn where the streams of the held attempts stand; return that for the agent.

        Raises: StoreUnavailable.
        """
        self._heads = await self._engine.logs.heads([entry.key for entry in held])
        self._ended = {entry.key: entry.exit for entry in held if entry.exit}
        return tuple((key, stream, offset) for (key, stream), offset in self._heads.items())

    async def settle(self, keys: Iterable[AttemptKey]) -> None:
        """Post what had ended before its last bytes came, and is now durable to the last of them."""
        settled = [
            key
            for key in dict.fromkeys(keys)
            if key in self._ended and self._complete(key, self._ended[key])
        ]
        posts = (
            self._durably(partial(self._engine.post, event.LogsStored(key))) for key in settled
        )
        await asyncio.gather(*posts)
        for key in settled:
            del self._ended[key]

    async def run(self) -> None:
        while True:
            while not self._queue:
                self._wake.clear()
                await self._wake.wait()
            batch = list(self._queue)
            self._queue.clear()
            await self._store(batch)
            await self.settle(message.key for message in batch)
            reports = (message for message in batch if isinstance(message, Report))
            await self._reports.post(reports, self._logs_stored)
            self._prune()

    async def _store(self, batch: list[Message]) -> None:
        chunks: list[Chunk] = []
        self._answer(batch)
        for message in batch:
            match message:
                case wire.Log(key, stream, offset, data):
                    if self._wanted(message):
                        chunks.append(Chunk(key, stream, offset, data))
                case wire.Gap(key, stream, start, end, why):
                    await self._append(chunks)
                    chunks = []
                    await self._gap(key, stream, start, end, why)
                case _:
                    pass  # reports wait until the bytes before them are stored
        await self._append(chunks)

    async def _append(self, chunks: list[Chunk]) -> None:
        if not chunks:
            return
        offsets = await self._durably(lambda: self._engine.logs.append(chunks))
        for chunk, offset in zip(chunks, offsets, strict=True):
            self._stored(chunk.key, chunk.stream, offset)
            self._unstored_bytes -= len(chunk.data)

    async def _gap(self, key: AttemptKey, stream: int, start: int, end: int, why: str) -> None:
        logs = self._engine.logs
        if self._owned(key):
            self._stored(
                key, stream, await self._durably(lambda: logs.gap(key, stream, start, end, why))
            )
        else:
            self._link.send(wire.LogOk(key, stream, end))

    def _stored(self, key: AttemptKey, stream: int, offset: int) -> None:
        self._heads[key, stream] = offset
        self._link.send(wire.LogOk(key, stream, offset))

    def _wanted(self, message: wire.Log) -> bool:
        """False for bytes that nobody can ever read: they are let go."""
        key = message.key
        if self._owned(key):
            return True
        length = len(message.data)
        self._engine.meter.unwanted_log_bytes += length
        self._unstored_bytes -= length
        self._link.send(wire.LogOk(key, message.stream, message.offset + length))
        return False

    def _answer(self, batch: Sequence[Message]) -> None:
        """Who still writes and should not run (any more) is told so, before its bytes are
        acknowledged (R-31): once in each redrive period, however much it writes.
        """
        ending = {message.key for message in batch if isinstance(message, Report)}
        now_s = self._engine.monotonic()
        for key in dict.fromkeys(message.key for message in batch):
            told_s = self._told.get(key)
            lately = told_s is not None and now_s - told_s < self._engine.scheduler.redrive_s
            attempt = self._owned(key)
            ended = attempt is not None and (key in ending or key in self._ended)
            if ended or lately or not _unwelcome(attempt):
                continue
            if len(self._told) >= TOLD_LIMIT:
                self._told.clear()
            self._told[key] = now_s
            self._engine.links.remind(self._link, key)

    def _owned(self, key: AttemptKey) -> Attempt | None:
        attempt = self._engine.world.attempts.get(key)
        return attempt if attempt and attempt.agent_id == self._link.agent_id else None

    def _logs_stored(self, report: wire.EvExited) -> bool:
        if self._complete(report.key, report.exit):
            return True
        self._ended[report.key] = report.exit
        return False

    def _complete(self, key: AttemptKey, end: Exit) -> bool:
        out, err = self._heads.get((key, OUT), 0), self._heads.get((key, ERR), 0)
        return out >= end.out_bytes and err >= end.err_bytes

    async def _durably(self, call: Callable[[], Awaitable[T]]) -> T:
        """Repeat a call until the database takes it: what it writes is idempotent, and it is owed."""
        backoff = Backoff(base_s=RETRY_BASE_S, cap_s=RETRY_CAP_S, random=self._engine.jitter)
        while True:
            try:
                return await call()
            except (StoreUnavailable, LimitReached):
                await asyncio.sleep(backoff.next_s())

    def _prune(self) -> None:
        """Drop what is known of attempts that are over, each time that it has doubled."""
        if max(len(self._heads), len(self._ended)) <= self._kept:
            return
        live = self._engine.world.attempts
        self._heads = {head: offset for head, offset in self._heads.items() if head[0] in live}
        self._ended = {key: end for key, end in self._ended.items() if key in live}
        self._kept = max(KEPT, 2 * len(self._heads), 2 * len(self._ended))


def _unwelcome(attempt: Attempt | None) -> bool:
    """Whether no process of it should run (any more), while one may."""
    if attempt is None or attempt.state is AttemptState.REJECTED:
        return True
    if attempt.state in TERMINAL:
        return attempt.exit is None  # with an exit, these are its last words
    return attempt.stop_reason is not StopReason.NONE


def _check(message: Message) -> None:
    match message:
        case wire.Log(key, stream, offset, data, crc):
            if len(data) > wire.MAX_LOG_BYTES or zlib.crc32(data) != crc:
                raise WireMismatch(f"log bytes of {key} were damaged on the way")
            _check_range(stream, offset, offset)
        case wire.Gap(_, stream, start, end):
            _check_range(stream, start, end)
        case _:
            pass


def _check_range(stream: int, start: int, end: int) -> None:
    if stream not in (OUT, ERR) or not 0 <= start <= end:
        raise WireMismatch(f"no such range of a log: {start} to {end} of stream {stream}")
