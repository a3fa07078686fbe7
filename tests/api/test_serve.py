"""The seam to the HTTP server: what it does with connections."""

import asyncio
import contextlib
import resource
from typing import Any

import psutil
import pytest

from styx.api import serve
from tests.api.conftest import serving

VISITS = 10  # more than the loop opens for itself with the first
BODY = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n"


class App:
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            return
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"well"})

    def close(self) -> None:
        """Nothing goes on for long."""


@pytest.mark.parametrize(
    "said",
    [b"", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", BODY, BODY + b"123456789"],
    ids=["nothing", "half a head", "a request", "half a body", "a body"],
)
async def test_a_connection_that_its_client_has_closed_keeps_no_descriptor(said: bytes) -> None:
    async with serving(App()) as (url, _):
        host, _, port = url.removeprefix("http://").partition(":")
        before = psutil.Process().num_fds()
        for _ in range(VISITS):
            _, writer = await asyncio.open_connection(host, int(port))
            writer.write(said)
            await writer.drain()
            writer.close()
            await writer.wait_closed()
        async with asyncio.timeout(30):
            while psutil.Process().num_fds() >= before + VISITS:
                await asyncio.sleep(0.02)


async def test_the_last_descriptors_are_not_for_connections(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They are the database's and the stored logs'."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with serving(App()) as (url, _):
        host, _, port = url.removeprefix("http://").partition(":")
        answers: list[bytes] = []
        for headroom in (serve.HEADROOM, limits[1]):
            monkeypatch.setattr(serve, "HEADROOM", headroom)
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            answer = b""
            with contextlib.suppress(ConnectionError):
                answer = await reader.read()
            answers.append(answer)
            writer.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert answers[0].startswith(b"HTTP/1.1 200")
    assert answers[1] == b""
