"""A database that falls silent (stopped, stalled, cut off): noticed by whoever waits for it, and known to
everybody at once, so that nobody hangs.

A statement that takes long is no outage, and neither is a full pool. So a clock decides nothing: whoever
has waited for a while asks the database on a connection of its own, and only silence there is an outage.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Final, Protocol

from styx.errors import StoreUnavailable

QUIET_S: Final = 0.5  # waited for a statement before the database is asked whether it lives
ROUNDS: Final = 4  # an answer is waited for a second, so that an outage is told within two
ROUND_S: Final = 0.25
RETRY_S: Final = 0.5  # while it is silent, it is asked again so often


class Terminable(Protocol):
    def terminate(self) -> None: ...


class Breaker:
    """`ask` puts a question to the database: True for any answer, an error included."""

    def __init__(self, ask: Callable[[], Awaitable[bool]]) -> None:
        self._ask = ask
        self._asking = asyncio.Lock()
        self._shut_until_s: float | None = None

    async def enter(self) -> None:
        """Raises: StoreUnavailable, at once, while the database is known to be silent."""
        if self._shut_until_s is None:
            return
        loop = asyncio.get_running_loop()
        if loop.time() < self._shut_until_s:
            raise _silent()
        self._shut_until_s = loop.time() + RETRY_S + ROUNDS * ROUND_S  # one asks, others stay out
        if not await self._hears():
            self._shut_until_s = loop.time() + RETRY_S
            raise _silent()
        self._shut_until_s = None

    @contextlib.asynccontextmanager
    async def watching(self, connection: Terminable) -> AsyncGenerator[None]:
        """Cut the connection off, and so end what is waited for on it, once the database is silent."""
        watches: list[asyncio.Task[None]] = []
        try:
            async with asyncio.TaskGroup() as group:

                def begin() -> None:
                    watch = self._watch(connection)
                    watches.append(group.create_task(watch, name="watch a connection"))

                # Only for a statement that takes long: a task costs as much as most statements.
                due = asyncio.get_running_loop().call_later(QUIET_S, begin)
                try:
                    yield
                finally:
                    due.cancel()
                    for watch in watches:
                        watch.cancel()
        except BaseExceptionGroup as errors:  # the group's wrapping of the one error of the body
            raise errors.exceptions[0] from None

    async def _watch(self, connection: Terminable) -> None:
        while True:
            async with self._asking:
                # Of several who wait, the first asks for all.
                alive = self._shut_until_s is None and await self._hears()
                if not alive and self._shut_until_s is None:
                    self._shut_until_s = asyncio.get_running_loop().time() + RETRY_S
            if not alive:
                break
            await asyncio.sleep(QUIET_S)
        connection.terminate()

    async def _hears(self) -> bool:
        async with asyncio.TaskGroup() as group:
            asking = group.create_task(_said(self._ask), name="ask the database")
            for _ in range(ROUNDS):
                # In rounds: a loop that was held up loses one of them, not the answer that has come.
                if (await asyncio.wait([asking], timeout=ROUND_S))[0]:
                    return asking.result()
            asking.cancel()
        return False


async def _said(ask: Callable[[], Awaitable[bool]]) -> bool:
    return await ask()


def _silent() -> StoreUnavailable:
    return StoreUnavailable("the database does not answer")
