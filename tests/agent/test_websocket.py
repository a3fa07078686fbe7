"""The WebSocket client against sockets that behave, and that do not."""

import asyncio
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from styx.agent import websocket
from styx.errors import LinkLost, SetupError, Unauthenticated
from styx.wire import agent as wire
from tests.support.agent_server import AgentServer
from tests.support.supervised import eventually

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], object]


class Client:
    """`received` is every frame so far."""

    def __init__(self, socket: websocket.WebSocket) -> None:
        self.socket = socket
        self.received: list[bytes] = []
        socket.listen(self.received.append, lambda: None)

    async def next(self) -> bytes:
        await eventually(lambda: self.received)
        return self.received.pop(0)


async def connect(url: str, max_frame_bytes: int = 1 << 20) -> websocket.WebSocket:
    return await websocket.connect(
        websocket.parse(url),
        "/path",
        subprotocol=wire.SUBPROTOCOL,
        token="token",
        max_frame_bytes=max_frame_bytes,
    )


@asynccontextmanager
async def listening(answer: bytes) -> AsyncIterator[str]:
    """A server that says one thing to whoever comes."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        host, port = server.sockets[0].getsockname()
        yield f"http://{host}:{port}"


async def test_frames_go_both_ways_whatever_their_size(server: AgentServer) -> None:
    socket = await connect(server.url)
    client = Client(socket)
    connection = await server.accept()
    for size in (0, 1, 125, 126, 65_535, 65_536, 900_000):
        # A detail that long is no word of the protocol: many short ones fill a frame as well.
        whole, rest = divmod(size, 4_000)
        messages = [
            *[wire.Notice("disk_low", "x" * 4_000)] * whole,
            wire.Notice(f"last of {size}", "x" * rest),
        ]
        socket.send(wire.encode(list[wire.FromAgent](messages)))
        await connection.wait(wire.Notice, lambda got, want=messages[-1]: got == want)
        assert connection.frames[-1] == messages
        answers = [*[wire.Bye(1, "y" * 4_000)] * whole, wire.Bye(1, "y" * rest)]
        connection.send(*answers)
        assert wire.decode_from_server(await client.next()) == answers
    socket.close()
    await connection.wait_closed()
    await socket.ended.wait()


async def test_a_path_in_the_url_is_kept(server: AgentServer) -> None:
    socket = await connect(f"{server.url}/base/")
    connection = await server.accept()
    assert connection.request is not None
    assert connection.request.target == "/base/path"
    socket.abort()


async def test_a_cut_ends_what_waits(server: AgentServer) -> None:
    socket = await connect(server.url)
    (await server.accept()).cut()
    await socket.ended.wait()
    socket.send(b"lost")  # into the void, and nobody minds
    socket.ping()
    socket.close()


async def test_a_frame_too_large_ends_the_connection(server: AgentServer) -> None:
    socket = await connect(server.url, max_frame_bytes=1000)
    (await server.accept()).send(wire.Bye(1, "x" * 2000))
    await socket.ended.wait()


async def test_what_comes_before_anybody_listens_is_kept(server: AgentServer) -> None:
    socket = await connect(server.url)
    connection = await server.accept()
    for number in range(3):
        connection.send(wire.HeartbeatOk(number))
    await asyncio.sleep(0.1)
    client = Client(socket)
    connection.send(wire.HeartbeatOk(3))
    frames = [await client.next() for _ in range(4)]
    assert frames == [wire.encode([wire.HeartbeatOk(number)]) for number in range(4)]
    socket.abort()


@pytest.mark.parametrize("status", [401, 403])
async def test_an_unwelcome_credential_is_told_apart(server: AgentServer, status: int) -> None:
    server.reject = status
    with pytest.raises(Unauthenticated):
        await connect(server.url)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "HTTP 404"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", "HTTP 200"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "no WebSocket answers there"),
        (b"", "closed"),
    ],
)
async def test_anything_else_is_a_link_that_failed(answer: bytes, why: str) -> None:
    async with listening(answer) as url:
        with pytest.raises(LinkLost, match=why):
            await connect(url)


async def test_a_host_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket, "CONNECT_S", 0.2)
    released = asyncio.Event()

    async def hold(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await released.wait()
        writer.close()

    async with await asyncio.start_server(hold, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        with pytest.raises(LinkLost, match="no answer in time"):
            await connect(f"http://{host}:{port}")
        released.set()


@pytest.mark.parametrize(
    "url", ["", "localhost:8080", "ftp://host", "http://", "http://host:port", "http://[::1"]
)
async def test_what_is_no_url_of_a_server_is_said_so(url: str) -> None:
    with pytest.raises(SetupError, match="write http://HOST:PORT"):
        await connect(url)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make a certificate")
async def test_tls_is_spoken_and_its_certificate_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=DNS:localhost",
            "-keyout",
            str(key),
            "-out",
            str(certificate),
        ],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    peer = AgentServer()
    async with await asyncio.start_server(peer.serve, "localhost", 0, ssl=context) as server:
        url = f"https://localhost:{server.sockets[0].getsockname()[1]}"
        with pytest.raises(LinkLost, match="certificate verify failed"):
            await connect(url)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        socket = await connect(url)
        connection = await peer.accept()
        connection.send(wire.HeartbeatOk(1))
        assert await Client(socket).next() == wire.encode([wire.HeartbeatOk(1)])
        socket.abort()
        await connection.wait_closed()
