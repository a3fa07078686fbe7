"""HTTP to a server, or to several of one database: a kept connection, patience with a server that is away
or busy (of several, the next is asked before any wait), open streams.

Every request may be repeated: reads and cancels by nature, submits because each carries an
Idempotency-Key that stays the same over its repeats.
"""

import time
from collections.abc import AsyncGenerator, Callable
from typing import Self

import msgspec

from styx.errors import StyxError
from styx.kit.backoff import Backoff
from styx.sdk import failures
from styx.sdk.aio.connection import BROKEN, Connections, Opened, Sleep, sleep
from styx.sdk.exchange import (
    BUSY,
    CALL_TIMEOUT_S,
    JSON,
    PATIENCE_S,
    RETRY_BASE_S,
    RETRY_CAP_S,
    STREAM_IDLE_S,
    Answer,
    Headers,
    Query,
    Request,
    Server,
    cause_of,
)


class Transport:
    """`url` is one, or several separated by commas. `first_contact_s` is the patience with a server that
    never answered yet: 0 says at once that none is there. `on_wait` is told, once an outage, for what we
    wait.
    """

    def __init__(
        self,
        url: str,
        token: str = "",
        *,
        patience_s: float = PATIENCE_S,
        first_contact_s: float | None = None,
        timeout_s: float = CALL_TIMEOUT_S,
        sleep: Sleep = sleep,
        on_wait: Callable[[StyxError], None] = lambda _: None,
    ) -> None:
        self._servers = [Server.at(one) for one in url.split(",")]
        self._connections = [Connections(server) for server in self._servers]
        self._server = 0  # the one that is asked
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._patience_s = patience_s
        self._first_contact_s = patience_s if first_contact_s is None else first_contact_s
        self._timeout_s = timeout_s
        self._sleep = sleep
        self._on_wait = on_wait
        self._told = False

    @property
    def url(self) -> str:
        """Of the server that is asked at present."""
        return self._servers[self._server].url

    async def call(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        body: object = None,
        key: str = "",
        traceparent: str = "",
        media_type: str = JSON,
    ) -> Answer:
        """One request and its answer below 400. A body of bytes is sent as it is, others as JSON.

        Raises: Unreachable, ServerFailed, and the RequestErrors of `failures.from_answer`.
        """
        payload = body if isinstance(body, bytes | None) else msgspec.json.encode(body)
        given = {
            "Content-Type": media_type if payload is not None else "",
            "Idempotency-Key": key,
            "Traceparent": traceparent,
        }
        headers = self._headers | {name: value for name, value in given.items() if value}
        backoff = Backoff(base_s=RETRY_BASE_S, cap_s=RETRY_CAP_S)
        started_s = time.monotonic()
        asked = 0  # servers, since the last wait
        while True:
            server = self._server
            request = Request(method, self._servers[server].target(path, query), headers, payload)
            retry_after_s = 0.0
            try:
                answer = await self._connections[server].exchange(request, self._timeout_s)
            except BROKEN as error:
                failure = failures.Unreachable(self._servers[server].url, cause_of(error))
            else:
                self._first_contact_s = self._patience_s
                if answer.status < 400:
                    self._told = False
                    return answer
                failure = failures.from_answer(answer.status, answer.body)
                if answer.status not in BUSY:
                    raise failure
                retry_after_s = answer.retry_after_s
            await self._leave(server)
            asked += 1
            if asked < len(self._servers):
                continue
            asked = 0
            # Those who were told the same time do not return at once either.
            wait_s = retry_after_s + backoff.next_s()
            if time.monotonic() - started_s + wait_s > self._first_contact_s:
                raise failure
            self.tell(failure)
            await self._sleep(wait_s)

    async def stream(
        self, path: str, query: Query | None = None, headers: Headers | None = None
    ) -> "AsyncStream":
        """Open a GET whose body is read piece by piece. One try of each server.

        Raises: Unreachable, ServerFailed, RequestErrors.
        """
        for left in reversed(range(len(self._servers))):
            server = self._server
            try:
                return await self._open(server, path, query, headers or {})
            except (failures.Unreachable, failures.ServerFailed) as error:
                busy = isinstance(error, failures.Unreachable) or error.status in BUSY
                if busy:
                    await self._leave(server)
                if not busy or not left:
                    raise
        raise AssertionError("there is a server at least")

    def tell(self, failure: StyxError) -> None:
        """That we wait for it to pass: once, until a server has answered."""
        if not self._told:
            self._told = True
            self._on_wait(failure)

    async def close(self) -> None:
        for connections in self._connections:
            await connections.close()

    async def _leave(self, server: int) -> None:
        """Ask the next one, if nobody else has seen it first that this one is away."""
        if len(self._servers) > 1 and server == self._server:
            self._server = (server + 1) % len(self._servers)
            await self._connections[server].close()

    async def _open(
        self, server: int, path: str, query: Query | None, headers: Headers
    ) -> "AsyncStream":
        url, target = self._servers[server].url, self._servers[server].target(path, query)
        request = Request("GET", target, self._headers | headers)
        try:
            opened = await self._connections[server].stream(request, STREAM_IDLE_S)
        except BROKEN as error:
            raise failures.Unreachable(url, cause_of(error)) from error
        if isinstance(opened, Answer):
            raise failures.from_answer(opened.status, opened.body)
        self._told = False
        return AsyncStream(opened, url)


class AsyncStream:
    """An answer that is still being written, on a connection of its own."""

    def __init__(self, opened: Opened, url: str) -> None:
        self._opened = opened
        self._url = url

    async def read(self) -> bytes:
        """What is there, waiting for the first byte; b"" at the end.

        Raises: Unreachable, when the connection broke or was silent for `STREAM_IDLE_S`.
        """
        try:
            return await self._opened.read()
        except BROKEN as error:
            raise failures.Unreachable(self._url, cause_of(error)) from error

    async def blocks(self) -> AsyncGenerator[bytes]:
        """What stands between empty lines, as in server-sent events. Raises: Unreachable."""
        buffer = bytearray()
        searched = 0  # bytes in which no end of a block is
        while piece := await self.read():
            buffer += piece
            while (end := buffer.find(b"\n\n", searched)) >= 0:
                yield bytes(buffer[:end])
                del buffer[: end + 2]
                searched = 0
            searched = max(0, len(buffer) - 1)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._opened.close()
