"""A block of HTTP: a request to Styx is sent to the page's server, one of Styx's to others is looked at."""

import http.client
from typing import Final

import msgspec

from tests.docs import wire
from tests.docs.block import Block
from tests.support.site import DEADLINE_S

OURS: Final = ("/api/", "/health", "/readyz", "/metrics", "/schema")


def check(block: Block, port: int) -> None:
    """Raises: AssertionError, with the block's place."""
    head, _, body = block.text.partition("\n\n")
    line, *rest = head.splitlines()
    method, _, target = line.removesuffix(" HTTP/1.1").partition(" ")
    headers = dict(field.split(": ", 1) for field in rest)
    if target.startswith(OURS):
        code = status(method, target, port, body, headers)
        assert 200 <= code < 400, f"{block.place}: answered {code or 'by nobody'}"
    elif body:
        assert wire.knows(msgspec.json.decode(body)), f"{block.place}: none of our bodies"


def status(
    method: str, target: str, port: int, body: str = "", headers: dict[str, str] | None = None
) -> int:
    """0: nobody listens."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE_S)
    given = {name: value for name, value in (headers or {}).items() if name != "Host"}
    try:
        connection.request(method, target, body.encode() or None, given)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()
