"""Submissions too big for a turn: made and committed beside the turns, then taken over whole.

A job that comes touches no row that is there. So its rows need no world to be made, and their commit,
which takes seconds, need not hold up the turns: only the moment at which they enter the world is a turn's.
"""

import asyncio
import itertools
from collections import deque
from collections.abc import Callable
from datetime import datetime
from typing import Final, NamedTuple

from styx.core import event, step
from styx.core.delta import Delta
from styx.core.policy import Policy
from styx.core.world import World
from styx.engine.ports import Store
from styx.errors import LimitReached, StaleWrite, StoreUnavailable, StyxError, WriteRefused

TASKS: Final = 2_000  # a turn of so many takes some 70 ms
LIMIT: Final = 32  # submissions that wait; full is LimitReached, not memory

Waiter = asyncio.Future[event.Answer]


class Posted(NamedTuple):
    fact: event.JobSubmitted
    waiter: Waiter


class Landed(NamedTuple):
    """Committed, and not in the world yet."""

    posted: Posted
    delta: Delta
    world: World  # of the job alone


class Bulk:
    """`wake` is set when a turn has something to take over, or `doubt` to resolve."""

    def __init__(
        self, store: Store, clock: Callable[[], datetime], policy: Policy, wake: asyncio.Event
    ) -> None:
        self.landed: deque[Landed] = deque()
        self.doubt: StoreUnavailable | None = None  # the rows must be read again
        self._reads = 0  # how often they were
        self._store = store
        self._clock = clock
        self._policy = policy
        self._wake = wake
        self._waiting: deque[Posted] = deque()
        self._wanted = asyncio.Event()

    @property
    def busy(self) -> bool:
        return bool(self._waiting or self.landed or self.doubt)

    def put(self, posted: Posted) -> None:
        """Raises: LimitReached."""
        if len(self._waiting) >= LIMIT:
            raise LimitReached("too many big jobs are on their way in")
        self._waiting.append(posted)
        self._wanted.set()

    def reading(self) -> None:
        """The world is about to be made anew from the rows: what has landed by now will be in it."""
        self._reads += 1
        self.doubt = None
        for posted, delta, _ in self.landed:
            answer(posted.waiter, event.Accepted(next(iter(delta.jobs))))
        self.landed.clear()

    def fail(self, error: StyxError, *, under_way: bool = True) -> None:
        """All that waits, and the one whose commit is under way."""
        for posted in itertools.islice(self._waiting, 0 if under_way else 1, None):
            refuse(posted.waiter, error)

    async def run(self) -> None:
        """One at a time. Raises: StaleWrite."""
        while True:
            await self._wanted.wait()
            while self._waiting:
                await self._land(self._waiting[0])
                self._waiting.popleft()
                self._wake.set()
            self._wanted.clear()

    async def _land(self, posted: Posted) -> None:
        fact, waiter = posted
        if waiter.done():  # an outage came first
            return
        reads = self._reads
        delta, world = await asyncio.to_thread(step.prepare, fact, self._clock(), self._policy)
        try:
            await self._store.commit(delta)
        except WriteRefused as refused:
            refuse(waiter, refused)
        except StoreUnavailable as error:
            refuse(waiter, error)
            self.doubt = error
        except StaleWrite:
            if reads == self._reads:
                raise
            # A term of our own has ended ours: see `Store.load`.
            refuse(waiter, StoreUnavailable("the database was unavailable"))
        else:
            if reads == self._reads:
                self.landed.append(Landed(posted, delta, world))
            else:
                answer(waiter, event.Accepted(fact.job_id))
                self.doubt = StoreUnavailable("whether the rows read hold a job is unknown")


def answer(waiter: Waiter, said: event.Answer) -> None:
    if not waiter.done():
        waiter.set_result(said)


def refuse(waiter: Waiter, error: StyxError) -> None:
    if not waiter.done():
        waiter.set_exception(error)
        waiter.exception()  # marks it as seen: whoever asked may have gone
