"""What changes, as it changes: server-sent events. The WebSocket /api/v1/stream says the same."""

from typing import Annotated, Final

import msgspec
from litestar import Response

from styx.api import route, stream
from styx.api.backend import Backend
from styx.api.route import Call, read_query, visit
from styx.wire import http

_encode: Final = msgspec.json.Encoder().encode


class EventsQuery(msgspec.Struct, frozen=True):
    since: Annotated[
        str, msgspec.Meta(description="The id of the last event seen; or the Last-Event-ID header.")
    ] = ""


class Events:
    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    @route.get(
        "/api/v1/events",
        "followEvents",
        http.FeedEvent,
        query=EventsQuery,
        headers={"last-event-id": "The id of the last event seen."},
        media_types=(stream.EVENT_STREAM,),
    )
    async def follow(self, call: Call) -> Response[bytes]:
        """Every change, as it happens.

        One event for each change of a task, a job or an agent; `id` resumes where a reader fell off.
        An event `reset` says that changes were missed: list again, then go on.
        """
        asked = read_query(call, EventsQuery)
        visit(call).stay()
        return stream.events(
            self._changes(call.headers.get("last-event-id") or asked.since or None)
        )

    async def _changes(self, last_id: str | None) -> stream.Parts:
        async for change in self._backend.engine.feed.since(last_id):
            yield stream.event(change.id, change.kind, _encode(change))
