"""Long answers that survive their connections: a task's output, and events, by the ids of server-sent
events.
"""

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

import msgspec

from styx.errors import LimitReached
from styx.kit.backoff import Backoff
from styx.sdk import failures
from styx.sdk.aio.connection import sleep
from styx.sdk.aio.transport import Transport
from styx.sdk.events import Event, Written, parsed
from styx.sdk.exchange import PATIENCE_S, RETRY_BASE_S, RETRY_CAP_S, Query
from styx.wire import http as wire

BEGINNING: Final = "0:0:0"  # of the first attempt, as an event's id
_SSE: Final = {"Accept": "text/event-stream"}


async def text(transport: Transport, path: str, query: Query) -> AsyncGenerator[bytes]:
    """A whole answer as it comes. Raises: Unreachable, RequestErrors."""
    async with await transport.stream(path, query) as stream:
        while piece := await stream.read():
            yield piece


async def output(
    transport: Transport, path: str, query: Query, *, last_id: str = ""
) -> AsyncGenerator[Written]:
    """What a task writes until it is over, each byte once, however often the line breaks."""
    async with aclosing(_events(transport, path, query, last_id)) as events:
        async for event in events:
            if event.kind == "end":
                return
            yield msgspec.json.decode(event.data, type=Written)


async def changes(
    transport: Transport, path: str, *, last_id: str = ""
) -> AsyncGenerator[wire.FeedEvent]:
    """Changes of anything, without end."""
    async with aclosing(_events(transport, path, {}, last_id)) as events:
        async for event in events:
            yield msgspec.json.decode(event.data, type=wire.FeedEvent)


async def _events(
    transport: Transport, path: str, query: Query, last_id: str
) -> AsyncGenerator[Event]:
    """Server-sent events without end, going on after the last one seen when the line breaks.

    Raises: Unreachable, when the server stayed away for `PATIENCE_S`; the RequestErrors.
    """
    backoff = Backoff(base_s=RETRY_BASE_S, cap_s=RETRY_CAP_S)
    heard_s = time.monotonic()
    while True:
        try:
            async with aclosing(_once(transport, path, query, last_id)) as events:
                async for event in events:
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
            await sleep(wait_s)


async def _once(
    transport: Transport, path: str, query: Query, last_id: str
) -> AsyncGenerator[Event | None]:
    """Over one connection; None for a sign of life. Raises: Unreachable, also at its end."""
    headers = _SSE | ({"Last-Event-ID": last_id} if last_id else {})
    async with await transport.stream(path, query, headers) as stream:
        async for block in stream.blocks():
            yield parsed(block)
    raise failures.Unreachable(transport.url, "the stream ended")
