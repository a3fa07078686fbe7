"""HTTP/1.1 to one server by the standard library: a connection that is kept, and one for each stream."""

import http.client
import ssl
import time
from collections.abc import Callable
from functools import cached_property
from typing import Final

from styx.sdk.exchange import MAX_ANSWER_BYTES, READ_BYTES, Answer, Request, Server

BROKEN: Final = (OSError, http.client.HTTPException)

Sleep = Callable[[float], None]
sleep: Final = time.sleep


class Connections:
    """Not for use by several threads at once; open streams have their own connections."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._kept: http.client.HTTPConnection | None = None

    def exchange(self, request: Request, timeout_s: float) -> Answer:
        """Raises: `BROKEN`."""
        fresh = self._kept is None
        connection = self._kept or self._connect(timeout_s)
        self._kept = None  # kept again only after a whole answer
        try:
            connection.request(request.method, request.target, request.body, request.headers)
            response = connection.getresponse()
            body = response.read(MAX_ANSWER_BYTES)
        except BROKEN as error:
            connection.close()
            # The server may close an idle connection just when we use it.
            if not fresh and isinstance(error, ConnectionError | http.client.BadStatusLine):
                return self.exchange(request, timeout_s)
            raise
        if response.isclosed() and not response.will_close:
            self._kept = connection
        else:
            connection.close()
        return Answer(response.status, _headers(response), body)

    def stream(self, request: Request, idle_s: float) -> "Opened | Answer":
        """A stream if the server agrees, else its refusal. Raises: `BROKEN`."""
        connection = self._connect(idle_s)
        try:
            connection.request(request.method, request.target, request.body, request.headers)
            response = connection.getresponse()
            if response.status < 400:
                return Opened(connection, response)
            body = response.read(MAX_ANSWER_BYTES)
        except BROKEN:
            connection.close()
            raise
        connection.close()
        return Answer(response.status, _headers(response), body)

    def close(self) -> None:
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        return ssl.create_default_context()

    def _connect(self, timeout_s: float) -> http.client.HTTPConnection:
        server = self._server
        if server.secure:
            return http.client.HTTPSConnection(
                server.host, server.port, timeout=timeout_s, context=self._tls
            )
        return http.client.HTTPConnection(server.host, server.port, timeout=timeout_s)


class Opened:
    """An answer that is still being written."""

    def __init__(
        self, connection: http.client.HTTPConnection, response: http.client.HTTPResponse
    ) -> None:
        self._connection = connection
        self._response = response

    def read(self) -> bytes:
        """What is there, waiting for the first byte; b"" at the end.

        Raises: `BROKEN`, also after a silence of `idle_s`.
        """
        try:
            return self._response.read1(READ_BYTES)
        except ValueError as error:  # the size of a chunk is none
            raise http.client.HTTPException(str(error)) from error

    def close(self) -> None:
        self._response.close()
        self._connection.close()


def _headers(response: http.client.HTTPResponse) -> dict[str, str]:
    return {name.lower(): value for name, value in response.getheaders()}
