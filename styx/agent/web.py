"""One file from the web, for a task that may be anybody's: only public addresses are asked, and those that the
agent's configuration allows. A name is looked up once, and the connection goes to the address that passed.
"""

import http.client
import socket
import ssl
from collections.abc import Iterator
from typing import Final
from urllib.parse import urljoin, urlsplit

from styx.agent.errand import Ended, Failed
from styx.agent.stream import PIECE_BYTES, Away, Opened
from styx.kit.reach import Reach

TIMEOUT_S: Final = 60.0  # of a server that says nothing
REDIRECTS: Final = 3
_MOVED: Final = frozenset({301, 302, 303, 307, 308})
_LATER: Final = frozenset({408, 425, 429})  # beside all from 500 on


def open_(url: str, reach: Reach, at: int, tag: str) -> Opened:
    """From byte `at`, if it is still what `tag` names; else from its beginning. Raises: Failed, Away."""
    asked = url
    for _ in range(REDIRECTS + 1):
        response = _ask(asked, reach, at, tag)
        if response.status not in _MOVED:
            return _opened(url, response, at)
        asked = urljoin(asked, response.headers.get("Location", ""))
        response.close()
    raise Failed(Ended.REFUSED, f"{url} leads on more than {REDIRECTS} times")


def _ask(url: str, reach: Reach, at: int, tag: str) -> http.client.HTTPResponse:
    headers = {"User-Agent": "styx-agent", "Accept-Encoding": "identity", "Connection": "close"}
    if at and tag:
        headers |= {"Range": f"bytes={at}-", "If-Range": tag}
    parts = urlsplit(url)
    line = _line(url, reach)
    try:
        line.request(
            "GET", (parts.path or "/") + f"?{parts.query}" * bool(parts.query), headers=headers
        )
        return line.getresponse()
    except ssl.SSLCertVerificationError as error:
        raise Failed(Ended.REFUSED, f"{url}: {error.verify_message}") from error
    except (OSError, http.client.HTTPException) as error:
        raise Away(f"it does not answer: {error}") from error


def _line(url: str, reach: Reach) -> http.client.HTTPConnection:
    """Connected to an address that may be reached."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise Failed(Ended.REFUSED, f"{url}: {error}") from error
    encrypted = parts.scheme == "https"
    port = port or (443 if encrypted else 80)
    if parts.scheme not in {"http", "https"}:
        raise _no_reach(url, "no address of the web")
    if hindrance := reach.hinders(parts.scheme, host):
        raise _no_reach(url, hindrance)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise Away(f"the name {host} is not found: {error}") from error
    addresses = [entry[4][0] for entry in found]
    passed = [str(one) for one in addresses if reach.permits(parts.scheme, host, str(one))]
    if not passed:
        raise _no_reach(url, f"{host} has no public address")
    kind = http.client.HTTPSConnection if encrypted else http.client.HTTPConnection
    line = kind(host, port, timeout=TIMEOUT_S)
    try:
        line.sock = _connected(passed, port)
        if encrypted:
            context = ssl.create_default_context()
            line.sock = context.wrap_socket(line.sock, server_hostname=host)
    except ssl.SSLCertVerificationError as error:
        raise Failed(Ended.REFUSED, f"{url}: {error.verify_message}") from error
    except OSError as error:
        raise Away(f"{host} does not answer: {error}") from error
    return line


def _connected(addresses: list[str], port: int) -> socket.socket:
    """Raises: OSError."""
    for address in addresses[:-1]:
        try:
            return socket.create_connection((address, port), TIMEOUT_S)
        except OSError:
            continue
    return socket.create_connection((addresses[-1], port), TIMEOUT_S)


def _opened(url: str, response: http.client.HTTPResponse, at: int) -> Opened:
    status = response.status
    if status not in {200, 206}:
        response.close()
        if status >= 500 or status in _LATER:
            raise Away(f"it answers {status}")
        secret = (
            " (the agent sends no credentials to web addresses)" if status in {401, 403} else ""
        )
        raise Failed(Ended.REFUSED, f"{url} answers {status}{secret}")
    begin = at if status == 206 else 0
    size = None if response.length is None else begin + response.length
    tag = response.headers.get("ETag", "")
    return Opened(begin, _pieces(response), size, "" if tag.startswith("W/") else tag)


def _pieces(response: http.client.HTTPResponse) -> Iterator[bytes]:
    try:
        while piece := response.read(PIECE_BYTES):
            yield piece
    except (OSError, http.client.HTTPException) as error:
        raise Away(f"it broke off: {error}") from error
    finally:
        response.close()


def _no_reach(url: str, why: str) -> Failed:
    cure = "the agent's `agent.allow_hosts` can name it"
    return Failed(Ended.REFUSED, f"{url} is not fetched: {why}; {cure}")
