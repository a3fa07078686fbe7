"""A task's output over HTTP: as it was written, or as server-sent events that can be resumed exactly."""

import base64
from typing import Annotated, Any, Final, Literal

import msgspec
from litestar import Response

from styx.api import finding, problems, route, stream, views
from styx.api.backend import Backend
from styx.api.following import ERR, OUT, Follower, Piece, Reading
from styx.api.route import FINDING, Call, read_query, reference, visit
from styx.core.attempt import Attempt
from styx.core.ids import TaskId
from styx.core.task import Task
from styx.errors import NotFound

TEXT: Final = "text/plain; charset=utf-8"
STREAMS: Final = {"out": OUT, "err": ERR}
NAMES: Final = {OUT: "out", ERR: "err"}
Lines = Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]
Number = Annotated[int, msgspec.Meta(ge=1)]

_encode: Final = msgspec.json.Encoder().encode


class LogsQuery(msgspec.Struct, frozen=True):
    follow: Annotated[
        bool, msgspec.Meta(description="Go on until the task is over, over its retries too.")
    ] = False
    stream: Annotated[
        Literal["out", "err", ""],
        msgspec.Meta(description="One of them, byte for byte; both mixed unless given."),
    ] = ""
    offset: Annotated[
        int,
        msgspec.Meta(
            ge=0, description="Of one stream: from that byte on. Of both: leave out so many."
        ),
    ] = 0
    tail: Annotated[
        Lines | None, msgspec.Meta(description="Only so many last lines, of each stream.")
    ] = None
    attempt: Annotated[
        Number | None, msgspec.Meta(description="Only of this try; of the last unless given.")
    ] = None
    rank: Annotated[int, msgspec.Meta(ge=0, description="The member of a gang.")] = 0


class Logs:
    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._follower = Follower(backend)

    @route.get(
        "/api/v1/tasks/{id}/logs",
        "getTaskLogs",
        str,
        query=LogsQuery,
        headers={"last-event-id": "Where the last event of a broken stream ended."},
        media_types=("text/plain", stream.EVENT_STREAM),
        refuses=FINDING,
    )
    async def logs(self, call: Call) -> Response[bytes]:
        """What it wrote; of a task that did not run, what the earlier one wrote that it was taken from.

        Bytes that are gone for good are told as a line `[styx: N bytes dropped: WHY]`. With
        `Accept: text/event-stream` the data of each event is JSON: `attempt`, `rank`, `stream`,
        `offset`, and `text`, or `base64` where the bytes are not UTF-8; an event `gap` has `bytes` and
        `why`; an event `end` closes. The id of an event is `ATTEMPT:OUT:ERR`, the offsets to resume
        from.
        """
        asked = read_query(call, LogsQuery)
        task, _ = await self._find(await finding.task_id(self._backend, reference(call)))
        if task.taken_from is not None:
            task, _ = await self._find(task.taken_from)
        as_events = stream.EVENT_STREAM in call.headers.get("accept", "")
        reading = self._reading(task, asked)
        resumed = as_events and _resume(reading, call.headers.get("last-event-id", ""))
        skip = asked.offset
        if asked.tail is not None and not resumed:
            await self._follower.skip_to_tail(reading, asked.tail)
        elif asked.stream and not resumed:
            reading.offsets[STREAMS[asked.stream]] = skip
            skip = 0
        visit(call).stay()
        if as_events:
            return stream.events(self._events(reading))
        return stream.Streamed(self._text(reading, skip), TEXT)

    def _reading(self, task: Task, asked: LogsQuery) -> Reading:
        """Raises: NotFound, for an attempt or a rank that is not there."""
        if asked.attempt is not None and asked.attempt > task.attempt:
            raise NotFound(f"{task.name} has had {task.attempt} attempts, not {asked.attempt}")
        if asked.rank >= task.spec.num_nodes:
            raise NotFound(f"{task.name} has no rank {asked.rank}")
        streams = (STREAMS[asked.stream],) if asked.stream else (OUT, ERR)
        return Reading(
            task.id,
            asked.attempt or task.attempt,
            asked.rank,
            streams,
            follow=asked.follow,
            only_n=asked.attempt is not None,
        )

    async def _text(self, reading: Reading, skip: int) -> stream.Parts:
        """Without the first `skip` bytes of what this answer would hold."""
        async for piece in self._follower.pieces(reading):
            data = _dropped(piece) if piece.why else piece.data
            if skip:
                skipped = min(skip, len(data))
                skip -= skipped
                data = data[skipped:]
            if data:
                yield data

    async def _events(self, reading: Reading) -> stream.Parts:
        async for piece in self._follower.pieces(reading):
            told = {
                "attempt": piece.key.n,
                "rank": piece.key.rank,
                "stream": NAMES[piece.stream],
                "offset": piece.offset,
            }
            if piece.why:
                told |= {"bytes": piece.lost, "why": piece.why}
                yield stream.event(_position(reading), "gap", _encode(told))
            else:
                yield stream.event(_position(reading), "log", _encode(told | _content(piece.data)))
        ended = {"status": views.status_of(*await self._find(reading.task_id))}
        yield stream.event(_position(reading), "end", _encode(ended))

    async def _find(self, task_id: TaskId) -> tuple[Task, list[Attempt]]:
        found = await self._backend.query.task(task_id)
        if found is None:
            raise finding.unknown(task_id, "task")
        return found


def _content(data: bytes) -> dict[str, Any]:
    """Text if it is; a character that two blocks share makes base64 of both, which loses nothing."""
    try:
        return {"text": data.decode()}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}


def _dropped(piece: Piece) -> bytes:
    return f"[styx: {piece.lost:,} bytes dropped: {piece.why}]\n".encode()


def _position(reading: Reading) -> str:
    return f"{reading.n}:{reading.offsets.get(OUT, 0)}:{reading.offsets.get(ERR, 0)}"


def _resume(reading: Reading, event_id: str) -> bool:
    """Go on where an event ended. Raises: HttpRefusal."""
    if not event_id:
        return False
    parts = event_id.split(":")
    if len(parts) != 3 or not all(part.isdecimal() and len(part) < 19 for part in parts):
        raise problems.HttpRefusal(f"Last-Event-ID is ATTEMPT:OUT:ERR, not {event_id[:40]!r}")
    reading.n, out, err = map(int, parts)
    reading.offsets.update({OUT: out, ERR: err})
    return True
