"""The real HTTP server on a free port, in the loop of the test."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from styx.api import serve


@asynccontextmanager
async def serving(app, *, graceful_s: float = 2.0) -> AsyncIterator[tuple[str, asyncio.Event]]:
    """Yields its URL and the event that stops it; leaves when it has stopped."""
    listener = serve.bind("127.0.0.1", 0)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(serve.serve_asgi(app, listener, stop, graceful_s=graceful_s))
        try:
            yield url, stop
        finally:
            stop.set()


@pytest.fixture
def token() -> str:
    return "styx_0123456789ab_secret_00000000"
