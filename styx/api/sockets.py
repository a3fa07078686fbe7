"""The two WebSockets: agents' sessions, and the stream of changes.

Both are plain ASGI: the framework's own handling of frames costs more than what is in them.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final
from urllib.parse import parse_qs

import msgspec

from styx.api import problems
from styx.api.asgi import Receive, Scope, Send
from styx.api.auth import BEARER_SUBPROTOCOL
from styx.api.gate import Visit, reject, respond
from styx.engine.loop import Engine
from styx.errors import LinkLost, WireMismatch
from styx.kit import supervise
from styx.wire import agent as wire

STREAM_PATH: Final = "/api/v1/stream"
STREAM_SUBPROTOCOL: Final = "styx.stream.1"
LINGER_S: Final = 2.0  # silent for so long after our close: nothing more will come
REASON_BYTES: Final = 123  # of a close frame: RFC 6455, section 5.5, less two for the code

_encode: Final = msgspec.json.Encoder().encode


class Channel:
    """One accepted WebSocket as `engine.session` wants it."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._gone = False
        self.left = False  # by itself; there is nothing more to take

    async def receive(self) -> bytes | None:
        if self._gone:
            return None
        message = await self._receive()
        if message["type"] == "websocket.disconnect":
            self._gone = self.left = True
            return None
        frame = message.get("bytes")
        if frame is None:
            raise WireMismatch("frames of this protocol are binary")
        return frame

    async def send(self, frame: bytes) -> None:
        if self._gone:
            raise LinkLost("the agent went away")
        await self._send({"type": "websocket.send", "bytes": frame})

    async def close(self, code: int, reason: str) -> None:
        if not self._gone:
            self._gone = True
            short = reason.encode()[:REASON_BYTES].decode(errors="ignore")
            await self._send({"type": "websocket.close", "code": code, "reason": short})


class AgentSocket:
    """WS /api/agent/v1: `serve` is a session, or the word that there is none here."""

    def __init__(self, serve: Callable[[Channel], Awaitable[None]]) -> None:
        self._serve = serve

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if await _refused(scope, receive, send, wire.SUBPROTOCOL, required=True):
            return
        await _accept(receive, send, wire.SUBPROTOCOL)
        channel = Channel(receive, send)
        await self._serve(channel)
        if not channel.left:
            await _discard(receive)


class StreamSocket:
    """WS /api/v1/stream: what /api/v1/events says, one JSON object a message."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if await _refused(scope, receive, send, STREAM_SUBPROTOCOL, required=False):
            return
        visit: Visit = scope["state"]["visit"]
        visit.stay()
        offered: list[str] = scope.get("subprotocols") or []
        spoken = STREAM_SUBPROTOCOL if STREAM_SUBPROTOCOL in offered else None
        await _accept(receive, send, spoken)
        last_id = _since(scope)

        async def write() -> None:
            async for change in self._engine.feed.since(last_id):
                await send({"type": "websocket.send", "text": _encode(change).decode()})
            await send({"type": "websocket.close", "code": wire.CLOSE_RESTART})

        left = False

        async def read() -> None:
            nonlocal left
            while (await receive())["type"] != "websocket.disconnect":
                pass
            left = True

        await supervise.until_first_ends(write=write, read=read)
        if not left:
            await _discard(receive)


async def _accept(receive: Receive, send: Send, subprotocol: str | None) -> None:
    await receive()  # websocket.connect
    await send({"type": "websocket.accept", "subprotocol": subprotocol})


async def _refused(
    scope: Scope, receive: Receive, send: Send, subprotocol: str, *, required: bool
) -> bool:
    """Turn away what is no WebSocket, or speaks something else."""
    visit: Visit = scope["state"]["visit"]
    if scope["type"] == "http":
        error = problems.UpgradeRequired("this route is a WebSocket", hint=f"speak {subprotocol}")
        await respond(send, visit.refuse(error))
        return True
    offered: list[str] = scope.get("subprotocols") or []
    others = [name for name in offered if not name.startswith(BEARER_SUBPROTOCOL)]
    if (required or others) and subprotocol not in others:
        other = problems.HttpRefusal(f"the subprotocol {subprotocol} is spoken here")
        await reject(receive, send, other, visit)
        return True
    return False


async def _discard(receive: Receive) -> None:
    """Take what a peer sends that does not know yet that it is over.

    The HTTP server puts it into a queue, and stalls for ever on a full one: it would keep the connection
    and its descriptor, and not even see that the peer has gone.
    """
    with suppress(TimeoutError):
        while True:
            async with asyncio.timeout(LINGER_S):
                if (await receive())["type"] == "websocket.disconnect":
                    return


def _since(scope: Scope) -> str | None:
    headers: dict[bytes, bytes] = dict(scope["headers"])
    asked = parse_qs(scope["query_string"].decode("latin-1")).get("since", [""])[0]
    return headers.get(b"last-event-id", b"").decode("latin-1") or asked or None
