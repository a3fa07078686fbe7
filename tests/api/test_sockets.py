"""The sockets at the level of bytes."""

import asyncio
from urllib.parse import urlsplit

from styx.wire import agent as wire

ENDS_WITHIN_S = 20.0
NO_MESSAGE = b"\x82\x81\0\0\0\0\xc1"  # a frame of one byte, which msgpack never uses


async def test_who_sends_on_after_its_session_has_ended_does_not_keep_the_connection(site, token):
    port = urlsplit(site.url).port
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(
        f"GET {wire.PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
        f"Sec-WebSocket-Protocol: {wire.SUBPROTOCOL}\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
    )
    async with asyncio.timeout(ENDS_WITHIN_S):
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
        writer.write(NO_MESSAGE * 200)
        writer.write_eof()
        assert b"not a frame of the agent protocol" in await reader.read()
    writer.close()
    await writer.wait_closed()
