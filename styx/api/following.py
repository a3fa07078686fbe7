"""Reading what a task writes, from the first byte asked for to the last there will ever be.

A reader holds offsets, never a buffer: each block is read when its client has taken the one before.
Nothing is polled; new bytes wake it, and so does the end of the attempt.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from styx.api.backend import Backend
from styx.core.agent import AgentState
from styx.core.attempt import TERMINAL, Attempt, AttemptState
from styx.core.ids import AttemptKey, TaskId
from styx.errors import StoreUnavailable
from styx.kit import supervise
from styx.store.exchange import Gap

OUT: Final = 1
ERR: Final = 2
BLOCK_BYTES: Final = 512 << 10  # what a reader holds at most
TAIL_BLOCK_BYTES: Final = 64 << 10
TAIL_BYTES_MAX: Final = 16 << 20  # searched for line ends; a longer line is cut there
LOOK_S: Final = 30.0  # a wait is looked at again after so long, whatever woke it not


class Piece(NamedTuple):
    """Bytes of one stream from `offset` on; or, with `why`, so many that are gone for good."""

    key: AttemptKey
    stream: int
    offset: int
    data: bytes = b""
    lost: int = 0
    why: str = ""

    @property
    def end(self) -> int:
        return self.offset + len(self.data) + self.lost


@dataclass(slots=True)
class Reading:
    """What a reader asked for, and how far it is: `offsets` by stream, of attempt `n`."""

    task_id: TaskId
    n: int  # the attempt being read; 0 before the first
    rank: int
    streams: Sequence[int]
    follow: bool
    only_n: bool  # never another attempt
    offsets: dict[int, int] = field(default_factory=dict[int, int])

    @property
    def key(self) -> AttemptKey:
        return AttemptKey(self.task_id, self.n, self.rank)


class Follower:
    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def pieces(self, reading: Reading) -> AsyncGenerator[Piece, None]:
        """In the order of their streams; attempt after attempt. Raises: StoreUnavailable."""
        while True:
            if reading.n:
                async for piece in self._attempt(reading):
                    yield piece
            if not reading.follow or reading.only_n or not await self._next(reading):
                return

    async def skip_to_tail(self, reading: Reading, lines: int) -> None:
        """Move each stream to the beginning of its last lines. Raises: StoreUnavailable."""
        heads = await self._backend.logs.heads([reading.key])
        for stream in reading.streams:
            end = heads.get((reading.key, stream), 0)
            reading.offsets[stream] = await self._tail(reading.key, stream, end, lines)

    async def _attempt(self, reading: Reading) -> AsyncGenerator[Piece, None]:
        while True:
            # Looked at before reading: what was complete then is read to its end now.
            more = reading.follow and self._awaited(reading)
            idle = True
            for stream in reading.streams:
                async for piece in self._stored(
                    reading.key, stream, reading.offsets.get(stream, 0)
                ):
                    idle = False
                    reading.offsets[stream] = piece.end
                    yield piece
            if not more:
                return
            if idle:
                await self._news(reading)

    async def _stored(
        self, key: AttemptKey, stream: int, offset: int
    ) -> AsyncGenerator[Piece, None]:
        """Everything stored of a stream from there on."""
        logs = self._backend.logs
        end = (await logs.heads([key])).get((key, stream), 0)
        gaps: list[Gap] | None = None
        while offset < end:
            data = await logs.read(key, stream, offset, min(BLOCK_BYTES, end - offset))
            if data:
                yield Piece(key, stream, offset, data)
                offset += len(data)
                continue
            gaps = await logs.gaps(key) if gaps is None else gaps
            gap = next((g for g in gaps if g.stream == stream and g.start <= offset < g.end), None)
            if gap is None:
                raise StoreUnavailable(f"byte {offset} of {key} cannot be read")
            yield Piece(key, stream, offset, lost=gap.end - offset, why=gap.why)
            offset = gap.end

    async def _news(self, reading: Reading) -> None:
        """Wait for bytes, or for the word that no more will come."""
        seen = {OUT: 1 << 62, ERR: 1 << 62}  # a stream that nobody asked for wakes nobody
        seen |= {stream: reading.offsets.get(stream, 0) for stream in reading.streams}

        async def bytes_came() -> None:
            await self._backend.logs.changed(reading.key, seen, LOOK_S)

        async def ended() -> None:
            engine = self._backend.engine
            while engine.healthy and self._awaited(reading):
                await engine.feed.wait(reading.task_id)

        await supervise.until_first_ends(bytes_came=bytes_came, ended=ended)

    def _awaited(self, reading: Reading) -> bool:
        """Whether bytes may still come. Of a lost agent none are waited for: it may never return."""
        world = self._backend.engine.world
        attempt = world.attempts.get(reading.key)
        if attempt is None:
            return False
        if attempt.state not in TERMINAL:
            return True
        agent = world.agents.get(attempt.agent_id)
        if attempt.state is AttemptState.LOST or agent is None or agent.state is AgentState.GONE:
            return False
        final = _lengths(attempt)
        return any(reading.offsets.get(s, 0) < final[s] for s in reading.streams)

    async def _next(self, reading: Reading) -> bool:
        """Go on to the next attempt once there is one; False when the task is over without."""
        engine = self._backend.engine
        while (task := engine.world.tasks.find(reading.task_id)) and task.attempt <= reading.n:
            if not engine.healthy:
                raise StoreUnavailable("the database is unavailable")
            await engine.feed.wait(reading.task_id)
        last = task.attempt if task else await self._last_attempt(reading.task_id)
        if last <= reading.n:
            return False
        reading.n += 1
        reading.offsets.clear()
        return True

    async def _last_attempt(self, task_id: TaskId) -> int:
        found = await self._backend.query.task(task_id)
        return found[0].attempt if found else 0

    async def _tail(self, key: AttemptKey, stream: int, end: int, lines: int) -> int:
        """Where the last `lines` lines before `end` begin; a gap ends the search."""
        # The newline that ends the last line does not begin another.
        wanted = lines + 1
        start = end
        while start > max(0, end - TAIL_BYTES_MAX):
            begin = max(0, start - TAIL_BLOCK_BYTES)
            block = await self._backend.logs.read(key, stream, begin, start - begin)
            if len(block) < start - begin:
                return start
            if start == end and not block.endswith(b"\n"):
                wanted -= 1
            found = block.count(b"\n")
            if found >= wanted:
                for _ in range(wanted):
                    block = block[: block.rindex(b"\n")]
                return begin + len(block) + 1 if lines else end
            wanted -= found
            start = begin
        return start


def _lengths(attempt: Attempt) -> Mapping[int, int]:
    """The final length of each stream, as its agent measured it."""
    end = attempt.exit
    return {OUT: end.out_bytes if end else 0, ERR: end.err_bytes if end else 0}
