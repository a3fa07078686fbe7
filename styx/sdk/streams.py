"""Long answers that survive their connections: a task's output, and events, by the ids of server-sent
events.
"""

import base64
import time
from collections.abc import Iterator
from typing import Final, TypeVar

import msgspec

from styx.errors import LimitReached
from styx.kit.backoff import Backoff
from styx.sdk import failures
from styx.sdk.transport import PATIENCE_S, RETRY_BASE_S, RETRY_CAP_S, Query, Transport
from styx.wire import http as wire

BEGINNING: Final = "0:0:0"  # of the first attempt, as an event's id
_SSE: Final = {"Accept": "text/event-stream"}

E = TypeVar("E")


class Written(msgspec.Struct, frozen=True):
    """What a task wrote to `stream` (`out` or `err`) at `offset`; or, with `why`, bytes lost for good."""

    attempt: int
    rank: int
    stream: str
    offset: int
    text: str = ""
    base64: str = ""
    lost: int = msgspec.field(name="bytes", default=0)
    why: str = ""

    @property
    def data(self) -> bytes:
        return base64.b64decode(self.base64) if self.base64 else self.text.encode()


class Event(msgspec.Struct, frozen=True):
    id: str
    kind: str
    data: bytes


def text(transport: Transport, path: str, query: Query) -> Iterator[bytes]:
    """A whole answer as it comes. Raises: Unreachable, RequestErrors."""
    with transport.stream(path, query) as stream:
        while piece := stream.read():
            yield piece


def output(
    transport: Transport, path: str, query: Query, *, last_id: str = ""
) -> Iterator[Written]:
    """What a task writes until it is over, each byte once, however often the line breaks."""
    for event in _events(transport, path, query, last_id):
        if event.kind == "end":
            return
        yield msgspec.json.decode(event.data, type=Written)


def changes(transport: Transport, path: str, *, last_id: str = "") -> Iterator[wire.FeedEvent]:
    """Changes of anything, without end."""
    for event in _events(transport, path, {}, last_id):
        yield msgspec.json.decode(event.data, type=wire.FeedEvent)


def _events(transport: Transport, path: str, query: Query, last_id: str) -> Iterator[Event]:
    """Server-sent events without end, going on after the last one seen when the line breaks.

    Raises: Unreachable, when the server stayed away for `PATIENCE_S`; the RequestErrors.
    """
    backoff = Backoff(base_s=RETRY_BASE_S, cap_s=RETRY_CAP_S)
    heard_s = time.monotonic()
    while True:
        try:
            for event in _once(transport, path, query, last_id):
                heard_s = time.monotonic()
                backoff.reset()
                if event is not None:
                    last_id = event.id
                    yield event
        except (failures.Unreachable, failures.ServerFailed, LimitReached) as error:
            wait_s = backoff.next_s()
            refused = isinstance(error, failures.ServerFailed) and error.status < 500
            if refused or time.monotonic() - heard_s + wait_s > PATIENCE_S:
                raise
            transport.tell(error)
            time.sleep(wait_s)


def _once(transport: Transport, path: str, query: Query, last_id: str) -> Iterator[Event | None]:
    """Over one connection; None for a sign of life. Raises: Unreachable, also at its end."""
    headers = _SSE | ({"Last-Event-ID": last_id} if last_id else {})
    with transport.stream(path, query, headers) as stream:
        for block in stream.blocks():
            yield _parsed(block)
    raise failures.Unreachable(transport.url, "the stream ended")


def _parsed(block: bytes) -> Event | None:
    """None for what is no event: a comment, a word about retries."""
    fields = {"id": b"", "event": b"", "data": b""}
    for line in block.split(b"\n"):
        name, _, value = line.partition(b":")
        if (key := name.decode()) in fields:
            fields[key] = value.removeprefix(b" ")
    if not fields["data"]:
        return None
    return Event(fields["id"].decode(), fields["event"].decode(), fields["data"])
