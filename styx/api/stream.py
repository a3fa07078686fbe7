"""Answers without a known end: logs and events, written as they come and as fast as the client reads."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Final

import structlog
from litestar import Response

from styx.api.asgi import Headers, Receive, Scope, Send
from styx.errors import StyxError
from styx.kit import supervise

EVENT_STREAM: Final = "text/event-stream"
KEEP_ALIVE_S: Final = 15.0  # below the idle limits of common proxies
RETRY_MS: Final = 1_000

log: structlog.stdlib.BoundLogger = structlog.get_logger()

Parts = AsyncGenerator[bytes, None]


class Streamed(Response[bytes]):
    """Sends `parts` until they or the client end. `keep_alive` goes out now and then in between."""

    def __init__(self, parts: Parts, media_type: str, *, keep_alive: bytes = b"") -> None:
        super().__init__(b"", media_type=media_type)
        self._parts = parts
        self._keep_alive = keep_alive

    def to_asgi_response(self, *_: Any, **__: Any) -> Any:
        """The framework's hook: the application that answers."""
        return self._answer

    async def _answer(self, _: Scope, receive: Receive, send: Send) -> None:
        headers: Headers = [
            (b"content-type", str(self.media_type).encode()),
            (b"cache-control", b"no-store"),
            (b"x-accel-buffering", b"no"),  # nginx would hold a quiet stream back
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})

        async def write() -> None:
            async with aclosing(self._parts) as parts:
                async for part in parts:
                    await send({"type": "http.response.body", "body": part, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})

        async def listen() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass

        async def keep_alive() -> None:
            while True:
                await asyncio.sleep(KEEP_ALIVE_S)
                body = self._keep_alive
                await send({"type": "http.response.body", "body": body, "more_body": True})

        loops = {"write": write, "listen": listen}
        if self._keep_alive:
            loops["keep_alive"] = keep_alive
        try:
            await supervise.until_first_ends(**loops)
        except* StyxError as errors:
            # The status has been sent: all that can be said is that this is not the end.
            log.warning("stream broken off", error=str(errors.exceptions[0]))


def events(parts: Parts) -> Streamed:
    """Server-sent events, with a comment now and then so that both ends notice a dead line."""
    return Streamed(_opened(parts), EVENT_STREAM, keep_alive=b": still here\n\n")


def event(event_id: str, kind: str, data: bytes) -> bytes:
    """`data` is one line, as JSON is."""
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (event_id.encode(), kind.encode(), data)


async def _opened(parts: Parts) -> Parts:
    yield b"retry: %d\n\n" % RETRY_MS
    async with aclosing(parts) as opened:
        async for part in opened:
            yield part
