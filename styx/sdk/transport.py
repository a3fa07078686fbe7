"""HTTP to a server, or to several of one database: a kept connection, patience with a server that is away
or busy (of several, the next is asked before any wait), open streams.

Every request may be repeated: reads and cancels by nature, submits because each carries an
Idempotency-Key that stays the same over its repeats. Not for use by several threads at once; open
streams have their own connections.
"""

import http.client
import ssl
import time
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple, Self
from urllib.parse import urlencode, urlsplit

import msgspec

from styx.errors import StyxError
from styx.kit.backoff import Backoff
from styx.sdk import failures

PATIENCE_S: Final = 300.0  # a server's restart, a database's failover
RETRY_BASE_S: Final = 0.2
RETRY_CAP_S: Final = 10.0
CALL_TIMEOUT_S: Final = 60.0  # of one try; the server answers slow submits well within it
STREAM_IDLE_S: Final = 60.0  # a stream silent for so long is opened anew: its peer may be gone
READ_BYTES: Final = 256 << 10
MAX_ANSWER_BYTES: Final = 256 << 20
_BUSY: Final = frozenset({429, 502, 503, 504})  # of the server, or of a proxy before it

Query = dict[str, str | int | None]


class Answer(msgspec.Struct, frozen=True):
    status: int
    headers: http.client.HTTPMessage
    body: bytes


class _Server(NamedTuple):
    url: str
    secure: bool
    host: str
    port: int | None
    prefix: str

    @classmethod
    def at(cls, url: str) -> "_Server":
        parts = urlsplit(url)
        secure, host = parts.scheme == "https", parts.hostname or ""
        return cls(url, secure, host, parts.port, parts.path.rstrip("/"))


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
        sleep: Callable[[float], None] = time.sleep,
        on_wait: Callable[[StyxError], None] = lambda _: None,
    ) -> None:
        self._servers = [_Server.at(one) for one in url.split(",")]
        self._server = 0  # the one that is asked
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._patience_s = patience_s
        self._first_contact_s = patience_s if first_contact_s is None else first_contact_s
        self._timeout_s = timeout_s
        self._sleep = sleep
        self._on_wait = on_wait
        self._told = False
        self._kept: http.client.HTTPConnection | None = None

    @property
    def url(self) -> str:
        """Of the server that is asked at present."""
        return self._servers[self._server].url

    def call(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        body: object = None,
        key: str = "",
        traceparent: str = "",
        media_type: str = "application/json",
    ) -> Answer:
        """One request and its answer below 400. A body of bytes is sent as it is, others as JSON.

        Raises: Unreachable, ServerFailed, and the RequestErrors of `failures.from_answer`.
        """
        headers = dict(self._headers)
        payload = None
        if body is not None:
            payload = body if isinstance(body, bytes) else msgspec.json.encode(body)
            headers["Content-Type"] = media_type
        if key:
            headers["Idempotency-Key"] = key
        if traceparent:
            headers["Traceparent"] = traceparent
        backoff = Backoff(base_s=RETRY_BASE_S, cap_s=RETRY_CAP_S)
        started = time.monotonic()
        asked = 0  # servers, since the last wait
        while True:
            retry_after_s = None
            try:
                answer = self._once(method, self._target(path, query), payload, headers)
            except (OSError, http.client.HTTPException) as error:
                failure = failures.Unreachable(self.url, cause_of(error))
            else:
                self._first_contact_s = self._patience_s
                if answer.status < 400:
                    self._told = False
                    return answer
                failure = failures.from_answer(answer.status, answer.body)
                if answer.status not in _BUSY:
                    raise failure
                retry_after_s = _retry_after_s(answer.headers)
            self._next_server()
            asked += 1
            if asked < len(self._servers):
                continue
            asked = 0
            wait_s = retry_after_s or backoff.next_s()
            if time.monotonic() - started + wait_s > self._first_contact_s:
                raise failure
            self.tell(failure)
            self._sleep(wait_s)

    def stream(
        self, path: str, query: Query | None = None, headers: dict[str, str] | None = None
    ) -> "Stream":
        """Open a GET whose body is read piece by piece. One try of each server.

        Raises: Unreachable, ServerFailed, RequestErrors.
        """
        for left in reversed(range(len(self._servers))):
            try:
                return self._open(path, query, headers or {})
            except (failures.Unreachable, failures.ServerFailed) as error:
                busy = isinstance(error, failures.Unreachable) or error.status in _BUSY
                if busy:
                    self._next_server()
                if not busy or not left:
                    raise
        raise AssertionError("there is a server at least")

    def tell(self, failure: StyxError) -> None:
        """That we wait for it to pass: once, until a server has answered."""
        if not self._told:
            self._told = True
            self._on_wait(failure)

    def close(self) -> None:
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    def _next_server(self) -> None:
        if len(self._servers) > 1:
            self.close()
            self._server = (self._server + 1) % len(self._servers)

    def _open(self, path: str, query: Query | None, headers: dict[str, str]) -> "Stream":
        connection = self._connect(STREAM_IDLE_S)
        try:
            connection.request("GET", self._target(path, query), headers=self._headers | headers)
            response = connection.getresponse()
            if response.status < 400:
                self._told = False
                return Stream(connection, response, self.url)
            body = response.read(MAX_ANSWER_BYTES)
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise failures.Unreachable(self.url, cause_of(error)) from error
        connection.close()
        raise failures.from_answer(response.status, body)

    def _once(
        self, method: str, target: str, payload: bytes | None, headers: dict[str, str]
    ) -> Answer:
        fresh = self._kept is None
        connection = self._kept or self._connect(self._timeout_s)
        self._kept = None  # kept again only after a whole answer
        try:
            connection.request(method, target, payload, headers)
            response = connection.getresponse()
            body = response.read(MAX_ANSWER_BYTES)
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            # The server may close an idle connection just when we use it.
            if not fresh and isinstance(error, ConnectionError | http.client.BadStatusLine):
                return self._once(method, target, payload, headers)
            raise
        if response.isclosed() and not response.will_close:
            self._kept = connection
        else:
            connection.close()
        return Answer(response.status, response.headers, body)

    def _connect(self, timeout_s: float) -> http.client.HTTPConnection:
        server = self._servers[self._server]
        if server.secure:
            context = ssl.create_default_context()
            return http.client.HTTPSConnection(
                server.host, server.port, timeout=timeout_s, context=context
            )
        return http.client.HTTPConnection(server.host, server.port, timeout=timeout_s)

    def _target(self, path: str, query: Query | None) -> str:
        given = {name: value for name, value in (query or {}).items() if value not in {None, ""}}
        return self._servers[self._server].prefix + path + ("?" + urlencode(given) if given else "")


class Stream:
    """An answer that is still being written, on a connection of its own."""

    def __init__(
        self,
        connection: http.client.HTTPConnection,
        response: http.client.HTTPResponse,
        url: str,
    ) -> None:
        self.headers = response.headers
        self._connection = connection
        self._response = response
        self._url = url

    def read(self, most: int = READ_BYTES) -> bytes:
        """What is there, waiting for the first byte; b"" at the end.

        Raises: Unreachable, when the connection broke or was silent for `STREAM_IDLE_S`.
        """
        try:
            return self._response.read1(most)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise failures.Unreachable(self._url, cause_of(error)) from error

    def blocks(self) -> Iterator[bytes]:
        """What stands between empty lines, as in server-sent events. Raises: Unreachable."""
        buffer = bytearray()
        searched = 0  # bytes in which no end of a block is
        while piece := self.read():
            buffer += piece
            while (end := buffer.find(b"\n\n", searched)) >= 0:
                yield bytes(buffer[:end])
                del buffer[: end + 2]
                searched = 0
            searched = max(0, len(buffer) - 1)

    def close(self) -> None:
        self._response.close()
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def cause_of(error: Exception) -> str:
    """The system's word: `connection refused`, `timed out`, `name or service not known`."""
    if isinstance(error, TimeoutError):
        return "timed out"
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return text[:1].lower() + text[1:]


def _retry_after_s(headers: http.client.HTTPMessage) -> float | None:
    """Seconds; the date form of the header is not used by the server."""
    try:
        return max(0.0, float(headers.get("Retry-After", "")))
    except ValueError:
        return None
