"""Leadership, as this process may rely on it: for a little less than the database grants it."""

import asyncio
from collections.abc import Callable
from typing import Final

from styx.engine.ports import Store
from styx.errors import StoreUnavailable
from styx.store.leader import RENEW_S, TTL_S

MARGIN_S: Final = 2.0  # no other server can begin before we have stopped to trust the lease


class Lease:
    """Counted from when a renewal was sent, on this machine's own clock."""

    def __init__(self, store: Store, monotonic: Callable[[], float]) -> None:
        self._store = store
        self._monotonic = monotonic
        self._until_s = monotonic()

    @property
    def valid(self) -> bool:
        return self.left_s > 0

    @property
    def left_s(self) -> float:
        """Negative once it has run out."""
        return self._until_s - self._monotonic()

    async def renew(self) -> None:
        """Raises: StoreUnavailable, StaleWrite (deposed)."""
        sent_s = self._monotonic()
        await self._store.renew_lease()
        self._until_s = max(self._until_s, sent_s + TTL_S - MARGIN_S)

    async def run(self) -> None:
        """Raises: StaleWrite."""
        while True:
            await asyncio.sleep(RENEW_S)
            try:
                await self.renew()
            except StoreUnavailable:
                continue  # it runs out by itself
