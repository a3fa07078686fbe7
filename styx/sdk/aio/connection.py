"""HTTP/1.1 to one server over asyncio's streams, worded by h11: idle connections are kept for the next
request, an open stream has one of its own.
"""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from functools import cached_property
from typing import Final

import h11

from styx.sdk.exchange import MAX_ANSWER_BYTES, READ_BYTES, Answer, Request, Server

BROKEN: Final = (OSError, h11.RemoteProtocolError)
AT_ONCE: Final = 100  # requests; more wait for their turn

Sleep = Callable[[float], Awaitable[None]]
sleep: Final = asyncio.sleep


class Connections:
    """For any number of tasks of one event loop."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._idle: list[_Line] = []
        self._turn = asyncio.Semaphore(AT_ONCE)

    async def exchange(self, request: Request, timeout_s: float) -> Answer:
        """Raises: `BROKEN`."""
        async with self._turn:
            while self._idle:
                line = self._idle.pop()
                try:
                    return await self._ask(line, request, timeout_s)
                except (ConnectionError, h11.RemoteProtocolError):
                    if line.heard:
                        raise
                    # The server closed an idle connection just when we used it.
            return await self._ask(await self._connect(timeout_s), request, timeout_s)

    async def stream(self, request: Request, idle_s: float) -> "Opened | Answer":
        """A stream if the server agrees, else its refusal. Raises: `BROKEN`."""
        line = await self._connect(idle_s)
        agreed = False
        try:
            response = await line.ask(request, idle_s)
            agreed = response.status_code < 400
            if agreed:
                return Opened(line, idle_s)
            return _answer(response, await line.body(idle_s))
        finally:
            if not agreed:
                line.close()

    async def close(self) -> None:
        for line in self._idle:
            line.close()
        self._idle.clear()
        await asyncio.sleep(0)  # in which the loop lets go of their sockets

    async def _ask(self, line: "_Line", request: Request, timeout_s: float) -> Answer:
        again = False
        try:
            answer = _answer(await line.ask(request, timeout_s), await line.body(timeout_s))
            again = line.again()
        finally:
            if again:
                self._idle.append(line)
            else:  # half an answer may be left in it, as when we are cancelled
                line.close()
        return answer

    @cached_property
    def _tls(self) -> ssl.SSLContext | None:
        return ssl.create_default_context() if self._server.secure else None

    async def _connect(self, timeout_s: float) -> "_Line":
        server = self._server
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection(server.host, server.port, ssl=self._tls)
        return _Line(server, reader, writer)


class Opened:
    """An answer that is still being written."""

    def __init__(self, line: "_Line", idle_s: float) -> None:
        self._line = line
        self._idle_s = idle_s

    async def read(self) -> bytes:
        """What is there, waiting for the first byte; b"" at the end.

        Raises: `BROKEN`, also after a silence of `idle_s`.
        """
        return await self._line.piece(self._idle_s)

    async def close(self) -> None:
        self._line.close()
        await asyncio.sleep(0)


class _Line:
    """One connection. `heard`: anything came back since the last request."""

    def __init__(
        self, server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.heard = False
        self._always = {"Host": server.host_header, "Accept-Encoding": "identity"}
        self._http = h11.Connection(h11.CLIENT)
        self._reader = reader
        self._writer = writer

    async def ask(self, request: Request, timeout_s: float) -> h11.Response:
        self.heard = False
        body = request.body or b""
        headers = self._always | request.headers | {"Content-Length": str(len(body))}
        asked = h11.Request(
            method=request.method, target=request.target, headers=list(headers.items())
        )
        events = (asked, h11.Data(body), h11.EndOfMessage())
        self._writer.write(b"".join(self._http.send(event) or b"" for event in events))
        async with asyncio.timeout(timeout_s):
            await self._writer.drain()
        while not isinstance(event := await self._next(timeout_s), h11.Response):
            pass  # 1xx
        return event

    async def body(self, timeout_s: float) -> bytes:
        """The whole of it. Raises: `BROKEN`."""
        whole = bytearray()
        while piece := await self.piece(timeout_s):
            whole += piece
            if len(whole) > MAX_ANSWER_BYTES:
                raise OSError("the answer does not end")
        return bytes(whole)

    async def piece(self, timeout_s: float) -> bytes:
        event = await self._next(timeout_s)
        return bytes(event.data) if isinstance(event, h11.Data) else b""

    def again(self) -> bool:
        """Whether it takes another request; it is ready for one then."""
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            return False
        self._http.start_next_cycle()
        return True

    def close(self) -> None:
        self._writer.transport.abort()

    async def _next(self, timeout_s: float) -> h11.Event:
        while not isinstance(event := self._http.next_event(), h11.Event):
            async with asyncio.timeout(timeout_s):
                data = await self._reader.read(READ_BYTES)
            self.heard = self.heard or bool(data)
            self._http.receive_data(data)  # nothing: h11 says what is missing
        return event


def _answer(response: h11.Response, body: bytes) -> Answer:
    headers = {name.decode(): value.decode("latin-1") for name, value in response.headers}
    return Answer(response.status_code, headers, body)
