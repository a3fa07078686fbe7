"""What only the async client has: many calls at once, and cancellation. The rest is in its neighbours."""

import asyncio
import socket
from typing import Self

import pytest

from styx.sdk.aio import connection
from styx.sdk.aio.client import AsyncStyx
from styx.sdk.aio.connection import Connections
from styx.sdk.aio.transport import Transport
from styx.sdk.exchange import Request, Server

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
GET = Request("GET", "/health", {})


class Peer:
    """Answers each request once `gate` is open; counts who is connected, and the most at once."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.open = 0
        self.most = 0
        self.made = 0
        self.hung_up = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        self.made += 1
        self.most = max(self.most, self.open)
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                waiting = asyncio.ensure_future(self.gate.wait())
                gone = asyncio.ensure_future(reader.read(1))
                await asyncio.wait({waiting, gone}, return_when=asyncio.FIRST_COMPLETED)
                if gone.done():
                    break
                gone.cancel()
                await asyncio.wait({gone})
                writer.write(ANSWER)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.open -= 1
            self.hung_up.set()
            writer.close()


async def test_many_calls_at_once_share_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "AT_ONCE", 5)
    async with Peer() as peer:
        peer.gate.set()
        connections = Connections(Server.at(peer.url))
        answers = await asyncio.gather(*(connections.exchange(GET, 5.0) for _ in range(50)))
        assert [answer.body for answer in answers] == [b"{}"] * 50
        assert 2 <= peer.most <= 5
        assert peer.made <= 5, "they are kept"
        await connections.close()


async def test_what_was_cancelled_leaves_no_half_answer_behind() -> None:
    async with Peer() as peer:
        connections = Connections(Server.at(peer.url))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(connections.exchange(GET, 60.0), 0.1)
        await asyncio.wait_for(peer.hung_up.wait(), 5.0)
        peer.gate.set()
        assert (await connections.exchange(GET, 5.0)).body == b"{}"
        assert peer.made == 2
        await connections.close()


async def test_a_server_that_says_nothing_is_given_up() -> None:
    async with Peer() as peer:
        transport = Transport(peer.url, patience_s=0.0, timeout_s=0.1)
        with pytest.raises(Exception, match=r"cannot reach .* \(timed out\)"):
            await transport.call("GET", "/health")
        await transport.close()


async def test_of_many_that_see_a_server_away_one_moves_on(unused_port: int) -> None:
    """Else the second would move on from the server that the first has just found."""
    async with Peer() as peer:
        peer.gate.set()
        transport = Transport(f"http://127.0.0.1:{unused_port},{peer.url}", patience_s=0.0)
        answers = await asyncio.gather(*(transport.call("GET", "/health") for _ in range(8)))
        assert [answer.status for answer in answers] == [200] * 8
        assert transport.url == peer.url
        await transport.close()


async def test_a_stream_that_is_left_is_closed() -> None:
    """As when a loop over the lines of a task is broken out of."""
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    gone = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head + b"3\r\nab\n\r\n")
        await reader.read()
        gone.set()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with AsyncStyx(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", "") as styx:
        pieces = styx.logs("t")
        assert await anext(pieces) == b"ab\n"
        await pieces.aclose()
        await asyncio.wait_for(gone.wait(), 5.0)
    server.close()


@pytest.fixture
def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
