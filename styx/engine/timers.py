"""When time alone changes something: sleep until the world's next deadline, then say that it came."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import datetime
from typing import Final

from styx.core import event
from styx.core.world import World
from styx.errors import LimitReached, StoreUnavailable

LEAST_S: Final = 0.01  # between two ticks, so that a deadline which stays due cannot spin the loop
RETRY_S: Final = 1.0  # after a tick that could not be committed

Post = Callable[[event.Event], Awaitable[event.Answer]]


class Timers:
    def __init__(
        self,
        world: Callable[[], World],
        clock: Callable[[], datetime],
        post: Post,
    ) -> None:
        self._world = world
        self._clock = clock
        self._post = post
        self._due: datetime | None = None
        self._moved = asyncio.Event()

    def look(self) -> None:
        """The world has changed: its next deadline may be another one."""
        if self._world().next_deadline() != self._due:
            self._moved.set()

    async def run(self) -> None:
        while True:
            self._moved.clear()
            self._due = self._world().next_deadline()
            if self._due is None:
                await self._moved.wait()
                continue
            wait_s = (self._due - self._clock()).total_seconds()
            if wait_s > 0:
                await self._moved_within(wait_s)
                continue
            try:
                await self._post(event.Ticked())
                await asyncio.sleep(LEAST_S)
            except (LimitReached, StoreUnavailable):
                await asyncio.sleep(RETRY_S)

    async def _moved_within(self, wait_s: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._moved.wait()
