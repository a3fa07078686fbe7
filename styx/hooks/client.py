"""One POST to a URL that somebody else chose: to an address that was judged, and nothing kept but the status.

No redirect is followed, no proxy asked, no cookie or credential sent. h11 is what the server speaks anyway;
with it the address that is connected to, and the name that the certificate has to have, are ours to say.
"""

import asyncio
import contextlib
import ssl
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple
from urllib.parse import SplitResult, urlsplit

import h11

from styx import __version__
from styx.hooks import names
from styx.kit.reach import Reach

MAX_HEAD_BYTES: Final = 32 << 10  # of the answer, provisional ones included
READ_BYTES: Final = 16 << 10
MAX_BODY_BYTES: Final = 64 << 10  # read and dropped, so that a receiver may finish its answer
REST_S: Final = 1.0  # and so long at most
ADDRESSES: Final = 4  # of one name, tried one after the other

Headers = Sequence[tuple[str, str]]


class Answer(NamedTuple):
    status: int
    retry_after: str = ""  # the header, as it came


class Refused(Exception):
    """Nothing was sent, and nothing ever will be: the URL leads where it must not. Says why."""


class Failed(Exception):
    """No answer this time. Says why, in words that tell a stranger nothing of our network."""


class Client:
    """`tls` is asked for once, when the first https comes: it takes a while to make."""

    def __init__(
        self,
        reach: Reach,
        *,
        timeout_s: float,
        tls: Callable[[], ssl.SSLContext] = ssl.create_default_context,
    ) -> None:
        self._reach = reach
        self._timeout_s = timeout_s
        self._make_tls = tls
        self._tls: ssl.SSLContext | None = None

    async def post(self, url: str, headers: Headers, body: bytes) -> Answer:
        """Raises: Refused, Failed."""
        if why := self._reach.hinders_url(url):
            raise Refused(why)
        parts = urlsplit(url)
        try:
            async with asyncio.timeout(self._timeout_s):
                reader, writer = await self._connect(parts)
                try:
                    return await _exchange(reader, writer, _request(parts, headers, body), body)
                finally:
                    writer.transport.abort()
        except TimeoutError:
            raise Failed(f"no answer within {self._timeout_s:g} s") from None
        except ssl.SSLCertVerificationError as error:
            raise Failed(f"its certificate does not hold: {error.verify_message}") from error
        except ssl.SSLError as error:
            raise Failed("TLS failed") from error
        except OSError as error:
            raise Failed("it cannot be reached") from error
        except h11.ProtocolError as error:
            raise Failed("its answer is no HTTP, or its head too long") from error

    async def _connect(
        self, parts: SplitResult
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """To the first address that is permitted and answers. Raises: Refused, Failed, OSError."""
        host, secure = parts.hostname or "", parts.scheme == "https"
        port = parts.port or (443 if secure else 80)
        try:
            found = await names.addresses(host, port)
        except OSError as error:
            raise Failed("its name is not found") from error
        permitted = [one for one in found if self._reach.permits(parts.scheme, host, one)]
        if not permitted:
            raise Refused("its name leads to no address that is permitted")
        tls = await self._secured() if secure else None
        problem: OSError | None = None
        for address in permitted[:ADDRESSES]:
            try:
                return await asyncio.open_connection(
                    address, port, ssl=tls, server_hostname=host if secure else None
                )
            except ssl.SSLError:  # it answers, and another address is the same server
                raise
            except OSError as error:
                problem = error
        assert problem is not None, "there was an address"
        raise problem

    async def _secured(self) -> ssl.SSLContext:
        if self._tls is None:
            made = await asyncio.to_thread(self._make_tls)
            made.set_alpn_protocols(["http/1.1"])
            self._tls = made
        return self._tls


def _request(parts: SplitResult, headers: Headers, body: bytes) -> h11.Request:
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return h11.Request(
        method="POST",
        target=target,
        headers=[
            ("host", parts.netloc),
            ("user-agent", f"Styx/{__version__}"),
            ("content-type", "application/json"),
            ("content-length", str(len(body))),
            ("connection", "close"),
            *headers,
        ],
    )


async def _exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: h11.Request, body: bytes
) -> Answer:
    line = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD_BYTES)
    for event in (request, h11.Data(body), h11.EndOfMessage()):
        writer.write(line.send(event) or b"")
    left = MAX_HEAD_BYTES
    while not isinstance(event := line.next_event(), h11.Response):
        if event is h11.NEED_DATA:
            if left <= 0:
                raise h11.RemoteProtocolError("the head has no end")
            data = await reader.read(min(READ_BYTES, left))
            line.receive_data(data)  # nothing more: h11 says what is missing
            left -= len(data)
    retry_after = next((value for name, value in event.headers if name == b"retry-after"), b"")
    await _drop_body(reader, line)
    return Answer(event.status_code, retry_after.decode("latin-1"))


async def _drop_body(reader: asyncio.StreamReader, line: h11.Connection) -> None:
    """What it says beside the status counts for nothing, nor does how it ends."""
    left = MAX_BODY_BYTES
    with contextlib.suppress(OSError, h11.ProtocolError):
        async with asyncio.timeout(REST_S):
            while left > 0 and not isinstance(event := line.next_event(), h11.EndOfMessage):
                if event is h11.NEED_DATA:
                    data = await reader.read(READ_BYTES)
                    line.receive_data(data)
                    left -= len(data)
