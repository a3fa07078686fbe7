"""A WebSocket client over plain or TLS sockets, on wsproto: the lightest of those measured."""

import asyncio
import contextlib
import ssl
from collections.abc import Callable
from typing import Final, NamedTuple, cast
from urllib.parse import urlsplit

import wsproto
from wsproto import events
from wsproto.utilities import LocalProtocolError, ProtocolError

from styx.agent.buffered import BufferedReader
from styx.errors import LinkLost, SetupError, Unauthenticated

CONNECT_S: Final = 10.0
WRITE_HIGH_BYTES: Final = 256 << 10  # unsent bytes above which logs wait, so that control does not
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_SCHEMES: Final = {"http": False, "ws": False, "https": True, "wss": True}


class WebSocket(BufferedReader):
    """One connection. Frames are binary messages."""

    def __init__(self, max_frame_bytes: int) -> None:
        super().__init__()
        self._max_frame_bytes = max_frame_bytes
        self._ws = wsproto.WSConnection(wsproto.ConnectionType.CLIENT)
        self._transport: asyncio.Transport | None = None
        self._opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._partial = bytearray()
        self._early: list[bytes] = []  # frames that came before anybody listened
        self._on_frame: Callable[[bytes], None] = self._early.append
        self._on_pause: Callable[[], None] = lambda: None
        self.writable = True
        self.on_writable: Callable[[], None] = lambda: None
        self.heard_at = asyncio.get_running_loop().time()

    @property
    def local_address(self) -> str:
        """The address by which others on the way to the server reach this machine."""
        assert self._transport is not None
        return str(self._transport.get_extra_info("sockname")[0])

    def send(self, frame: bytes) -> None:
        """Queue a frame. Sent into a connection that has ended, it is lost, as on any cut line."""
        self._write(events.BytesMessage(frame))

    def ping(self) -> None:
        self._write(events.Ping())

    def listen(self, on_frame: Callable[[bytes], None], on_pause: Callable[[], None]) -> None:
        """Hand over every frame as it arrives, and say when there are no more for the moment."""
        self._on_frame, self._on_pause = on_frame, on_pause
        for frame in self._early:
            on_frame(frame)
        self._early.clear()
        on_pause()

    def close(self, code: int = 1000) -> None:
        """End the connection, after what is queued has been sent."""
        self._write(events.CloseConnection(code))
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """End it now."""
        if self._transport is not None:
            self._transport.abort()

    # --- asyncio's protocol -------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # other loops bring their own class
        self._transport.set_write_buffer_limits(high=WRITE_HIGH_BYTES)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._transport = None
        if not self._opened.done():
            self._opened.set_exception(LinkLost(f"the connection was closed: {exc or 'no answer'}"))

    def pause_writing(self) -> None:
        self.writable = False

    def resume_writing(self) -> None:
        self.writable = True
        self.on_writable()

    def received(self, data: bytes) -> None:
        self.heard_at = asyncio.get_running_loop().time()
        try:
            self._ws.receive_data(data)
            for event in self._ws.events():
                self._handle(event)
            self._on_pause()
        except ProtocolError as error:
            if not self._opened.done():
                self._opened.set_exception(LinkLost(f"no WebSocket answers there: {error}"))
            self.abort()

    def _handle(self, event: events.Event) -> None:
        match event:
            case events.BytesMessage():
                self._partial += event.data
                if len(self._partial) > self._max_frame_bytes:
                    self.abort()
                elif event.message_finished:
                    frame = bytes(self._partial)
                    self._partial.clear()
                    self._on_frame(frame)
            case events.AcceptConnection():
                self._opened.set_result(None)
            case events.RejectConnection():
                self._opened.set_exception(_rejected(event.status_code))
            case events.Ping():
                self._write(event.response())
            case events.CloseConnection():
                self.close()
            case _:
                pass

    def _write(self, event: events.Event) -> None:
        if self._transport is not None:
            with contextlib.suppress(LocalProtocolError):  # it is closing
                self._transport.write(self._ws.send(event))

    async def open(self, host: str, target: str, subprotocol: str, token: str) -> None:
        """Upgrade the connection. Raises: LinkLost, Unauthenticated."""
        headers = [(b"Authorization", f"Bearer {token}".encode())] if token else []
        self._write(events.Request(host, target, [], headers, [subprotocol]))
        await self._opened


class Address(NamedTuple):
    """Where a server is: what its URL says."""

    host: str
    port: int
    path: str
    encrypted: bool

    @property
    def local(self) -> bool:
        return self.host in _LOOPBACK

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse(url: str) -> Address:
    """Raises: SetupError, for a URL of no use."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    encrypted = _SCHEMES.get(parts.scheme)
    if encrypted is None or not parts.hostname:
        raise SetupError(
            f"{url!r} is not the URL of a server; write http://HOST:PORT or https://HOST"
        )
    standard = 443 if encrypted else 80
    return Address(parts.hostname, port or standard, parts.path.rstrip("/"), encrypted)


async def connect(
    address: Address, path: str, *, subprotocol: str, token: str, max_frame_bytes: int
) -> WebSocket:
    """Connect and upgrade. Raises: LinkLost, Unauthenticated."""
    tls = ssl.create_default_context() if address.encrypted else None
    loop = asyncio.get_running_loop()
    socket: WebSocket | None = None
    try:
        async with asyncio.timeout(CONNECT_S):
            _, socket = await loop.create_connection(
                lambda: WebSocket(max_frame_bytes), address.host, address.port, ssl=tls
            )
            await socket.open(str(address), address.path + path, subprotocol, token)
    except (OSError, TimeoutError) as error:
        if socket is not None:
            socket.abort()
        why = "no answer in time" if isinstance(error, TimeoutError) else str(error)
        raise LinkLost(why) from error
    except (LinkLost, Unauthenticated):
        if socket is not None:
            socket.abort()
        raise
    return socket


def _rejected(status: int) -> LinkLost | Unauthenticated:
    match status:
        case 401:
            return Unauthenticated(
                "the server does not accept this agent's credential",
                hint="give it one with STYX_TOKEN or --token",
            )
        case 403:
            return Unauthenticated("the server does not let this credential run an agent")
        case _:
            return LinkLost(f"the server answered the upgrade with HTTP {status}")
