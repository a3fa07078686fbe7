"""The seam to the HTTP server: hypercorn with every trap of it set, and a stop that keeps its deadline."""

import asyncio
import logging
import resource
import socket
from contextlib import suppress
from typing import Any, Final, Protocol, cast

import hypercorn.asyncio
import hypercorn.asyncio.run
import hypercorn.config
from hypercorn.asyncio.tcp_server import TCPServer
from hypercorn.events import Closed, Event, RawData, Updated

from styx.api import limits
from styx.api.asgi import Application
from styx.api.listener import BACKLOG
from styx.wire import agent as wire

KEEP_ALIVE_S: Final = 75.0  # also bounds an unfinished head; longer than the 60 s of common proxies
HEAD_BYTES: Final = 32 << 10  # of an unfinished one; of a whole one see `gate`
REQUESTS_PER_CONNECTION: Final = 1 << 30  # hypercorn closes after 1,000, under the client's feet
WRITE_BYTES: Final = 16 << 10  # and so many are not kept back
HEADROOM: Final = 64  # descriptors that no connection may take: for the database and stored logs
CANCEL_S: Final = 0.5  # after the graceful time, for what hypercorn itself has to put away


class Server(Application, Protocol):
    def close(self) -> None:
        """The server stops: end what would otherwise go on for as long as its client likes."""
        ...


class _Connection(TCPServer):
    """One that is closed as soon as its client has: hypercorn itself keeps the descriptor of a connection
    that has ended until it would have been too idle, and few clients a second were too many.

    What is sent in one go is written in one go: hypercorn writes an answer's head, body and end each for
    itself, and each wakes the client.

    One that would take a descriptor which the server itself needs is closed at once; one whose client does
    not say who it is, soon.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._unwritten: list[bytes] = []
        self._unwritten_bytes = 0

    async def run(self) -> None:
        transport = self.writer.transport
        if not _spare(self.writer.get_extra_info("socket").fileno()):
            transport.abort()
            return
        peer: tuple[str, int] | None = self.writer.get_extra_info("peername")
        entered = _newcomers.enter(limits.network(peer[0] if peer else ""), transport.abort)
        limits.newcomer.set(entered)
        try:
            await super().run()
        finally:
            entered.known()

    async def _read_data(self) -> None:
        await super()._read_data()
        await self.idle_task.stop()

    async def protocol_send(self, event: Event) -> None:
        if isinstance(event, RawData):
            if not self._unwritten:
                asyncio.get_running_loop().call_soon(self._write)
            self._unwritten.append(event.data)
            self._unwritten_bytes += len(event.data)
            waits = self.writer.transport.get_write_buffer_size() > 0
            if self._unwritten_bytes < WRITE_BYTES and not waits:
                return
            event = RawData(self._taken())  # and wait until the client has taken enough of it
        elif isinstance(event, Closed):
            self._write()
        elif isinstance(event, Updated) and event.idle and self.reader.at_eof():
            return
        await super().protocol_send(event)

    def _write(self) -> None:
        if data := self._taken():
            with suppress(ConnectionError, RuntimeError):  # reading says that it has gone
                self.writer.write(data)

    def _taken(self) -> bytes:
        data = b"".join(self._unwritten)
        self._unwritten.clear()
        self._unwritten_bytes = 0
        return data


def _spare(descriptor: int) -> bool:
    """Whether a connection may have it. The limit is raised only when that is needed, since an agent and
    a Postgres of ours inherit it.
    """
    for _ in range(2):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft == resource.RLIM_INFINITY or descriptor < soft - HEADROOM:
            return True
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return False


_newcomers: Final = limits.Newcomers()
hypercorn.asyncio.run.TCPServer = _Connection  # pyright: ignore[reportPrivateImportUsage]: no other way in


async def serve_asgi(
    app: Server, listener: socket.socket, stop: asyncio.Event, *, graceful_s: float
) -> None:
    """Serve until `stop` is set, then finish what runs, for at most `graceful_s` and a half second.

    The listener is closed at the end.
    """
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(None) as deadline:

            async def stopping() -> None:
                await stop.wait()
                # hypercorn waits for WebSockets and slow requests without end on some loops (#308).
                deadline.reschedule(loop.time() + graceful_s + CANCEL_S)
                app.close()

            await hypercorn.asyncio.serve(  # pyright: ignore[reportUnknownMemberType]: its WSGI half
                cast("Any", app),
                _config(listener, graceful_s),
                shutdown_trigger=stopping,
                mode="asgi",
            )
    except TimeoutError:
        if not stop.is_set():
            raise
    finally:
        listener.close()


def _config(listener: socket.socket, graceful_s: float) -> hypercorn.config.Config:
    config = hypercorn.config.Config()
    config.bind = [f"fd://{listener.dup().detach()}"]  # hypercorn closes what it is given
    config.backlog = BACKLOG
    config.keep_alive_timeout = KEEP_ALIVE_S
    config.keep_alive_max_requests = REQUESTS_PER_CONNECTION
    config.h11_max_incomplete_size = HEAD_BYTES
    config.websocket_max_message_size = wire.MAX_FRAME_BYTES
    config.alpn_protocols = ["http/1.1"]
    config.graceful_timeout = graceful_s
    config.include_server_header = False
    config.accesslog = None
    config.errorlog = logging.getLogger("hypercorn.error")
    config.errorlog.setLevel(logging.WARNING)  # "Running on …" is ours to say
    return config
