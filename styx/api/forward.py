"""One HTTP exchange with another replica: a connection, a request, an answer as it comes."""

import asyncio
import ssl
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, NamedTuple
from urllib.parse import urlsplit

import h11

from styx.api.asgi import Headers

CONNECT_S: Final = 2.0  # in one network; beyond, the leader counts as away
READ_BYTES: Final = 64 << 10

LOST: Final = (OSError, h11.ProtocolError)  # what an exchange may break with


class Answer(NamedTuple):
    status: int
    headers: Headers  # names in lower case
    body: AsyncIterator[bytes]


@asynccontextmanager
async def exchange(
    url: str, method: str, target: bytes, headers: Headers, body: bytes
) -> AsyncGenerator[Answer]:
    """`target` is the path and query. Raises: `LOST`, then or while the body is read."""
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    host, port = parts.hostname or "", parts.port or (443 if secure else 80)
    async with asyncio.timeout(CONNECT_S):
        reader, writer = await asyncio.open_connection(
            host, port, ssl=ssl.create_default_context() if secure else None
        )
    try:
        line = h11.Connection(h11.CLIENT)
        request = h11.Request(
            method=method,
            target=parts.path.rstrip("/").encode() + target,
            headers=[
                (b"host", parts.netloc.rpartition("@")[2].encode()),
                (b"content-length", str(len(body)).encode()),
                (b"connection", b"close"),
                *headers,
            ],
        )
        for event in (request, h11.Data(body), h11.EndOfMessage()):
            writer.write(line.send(event) or b"")
        await writer.drain()
        while not isinstance(event := await _next(line, reader), h11.Response):
            pass  # 1xx
        fields = [(bytes(name), bytes(value)) for name, value in event.headers]
        yield Answer(event.status_code, fields, _body(line, reader))
    finally:
        writer.transport.abort()


async def _next(line: h11.Connection, reader: asyncio.StreamReader) -> h11.Event:
    while not isinstance(event := line.next_event(), h11.Event):
        assert event is h11.NEED_DATA, "one exchange a connection is never paused"
        line.receive_data(await reader.read(READ_BYTES))  # nothing more: h11 says what is missing
    return event


async def _body(line: h11.Connection, reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while isinstance(event := await _next(line, reader), h11.Data):
        yield bytes(event.data)
