"""Long answers that survive their connections: a task's output by byte offset, events by their ids."""

import time
from collections.abc import Iterator
from typing import Final

import msgspec

from styx.errors import LimitReached
from styx.kit.backoff import Backoff
from styx.sdk import failures
from styx.sdk.transport import PATIENCE_S, RETRY_BASE_S, RETRY_CAP_S, Query, Transport
from styx.wire import http as wire

OFFSET_HEADER: Final = "X-Log-Offset"  # of the first byte of an answer
_DATA: Final = b"data:"
_SSE: Final = {"Accept": "text/event-stream"}
_AWAY: Final = (failures.Unreachable, LimitReached)  # of a server that comes back


class Output:
    """One stream of one attempt, piece by piece: each byte once, however often the line breaks.

    Iterating raises Unreachable when the server stayed away for `PATIENCE_S`, and the RequestErrors.
    """

    def __init__(self, transport: Transport, path: str, query: Query, offset: int) -> None:
        self.offset = (
            offset  # of the next byte; behind a `tail` known once the first piece is there
        )
        self._transport = transport
        self._path = path
        self._query = query

    def __iter__(self) -> Iterator[bytes]:
        patience = _Patience()
        query = self._query if self._query.get("tail") else self._from_offset()
        while True:
            try:
                with self._transport.stream(self._path, query) as stream:
                    patience.renew()
                    self.offset = int(stream.headers.get(OFFSET_HEADER, self.offset))
                    while piece := stream.read():
                        self.offset += len(piece)
                        yield piece
                    return
            except _AWAY as error:
                patience.wait(error)
            except failures.ServerFailed as error:
                if error.status < 500:
                    raise
                patience.wait(error)
            query = self._from_offset()

    def _from_offset(self) -> Query:
        return {**self._query, "tail": None, "offset": self.offset}


def events(transport: Transport, path: str, last_id: str = "") -> Iterator[wire.FeedEvent]:
    """Changes without end, going on after the last one seen."""
    patience = _Patience()
    while True:
        headers = _SSE | ({"Last-Event-ID": last_id} if last_id else {})
        try:
            with transport.stream(path, headers=headers) as stream:
                patience.renew()
                for line in stream.lines():
                    if line.startswith(_DATA):
                        event = msgspec.json.decode(line[len(_DATA) :], type=wire.FeedEvent)
                        last_id = event.id
                        yield event
                raise failures.Unreachable(transport.url, "the stream ended")
        except _AWAY as error:
            patience.wait(error)


class _Patience:
    """How long to wait for a server that went away in the middle."""

    def __init__(self) -> None:
        self._backoff = Backoff(base_s=RETRY_BASE_S, cap_s=RETRY_CAP_S)
        self._last_heard_s = time.monotonic()

    def renew(self) -> None:
        self._last_heard_s = time.monotonic()
        self._backoff.reset()

    def wait(self, error: Exception) -> None:
        wait_s = self._backoff.next_s()
        if time.monotonic() - self._last_heard_s + wait_s > PATIENCE_S:
            raise error
        time.sleep(wait_s)
