"""The turn: a batch of facts in, one decision, one transaction, then the acts that it owes.

Commit first, apply after, act last. Facts that arrive while a commit is in flight are the next
batch: that is the group commit, which costs nothing when idle and grows with the load.
"""

import asyncio
import random
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, Self

import structlog

from styx.config import Scheduler
from styx.core import event, step
from styx.core.policy import Policy
from styx.core.world import World
from styx.engine import bulk
from styx.engine.detector import PERIOD_S, Detector
from styx.engine.feed import Feed
from styx.engine.lease import Lease
from styx.engine.links import Links
from styx.engine.meter import Meter
from styx.engine.ports import LiveRows, LogStore, Store
from styx.engine.spans import OFF, Took, Tracer
from styx.engine.timers import Timers
from styx.errors import LimitReached, StoreUnavailable, StyxError, WriteRefused
from styx.kit import supervise
from styx.kit.backoff import Backoff
from styx.kit.clock import BEGINNING, Steady
from styx.wire import agent as wire

INBOX_LIMIT: Final = 10_000  # events; full is LimitReached, not memory
TURN_EVENTS: Final = 500  # bounds the time in which nothing else of the process runs: some 40 ms
STOPPING_S: Final = 0.05  # between two looks at what is still on its way when we stop
RELOAD_BASE_S: Final = 0.2
RELOAD_CAP_S: Final = 2.0  # seconds that a database may be back before it is noticed

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()

_Waiter = asyncio.Future[event.Answer]
_Posted = tuple[event.Event, _Waiter]


def utc_now() -> datetime:
    return datetime.now(UTC)


class Engine:
    """Owns the world. `open` it, `run` it, `post` to it, `stop` it."""

    def __init__(
        self,
        store: Store,
        logs: LogStore,
        rows: LiveRows,
        lease: Lease,
        *,
        scheduler: Scheduler,
        clock: Callable[[], datetime],
        monotonic: Callable[[], float],
        jitter: Callable[[], float],
        tracer: Tracer = OFF,
    ) -> None:
        self.store = store
        self.logs = logs
        self._lease = lease
        self.scheduler = scheduler
        self.clock = clock = Steady(clock, monotonic, _newest(rows))
        self.monotonic = monotonic
        self.jitter = jitter
        self.world = _world(rows)
        self.healthy = True
        self.meter = Meter()
        self.tracer = tracer
        self.policy = Policy(
            retry_base_s=scheduler.retry_base_s,
            retry_cap_s=scheduler.retry_cap_s,
            reserve_after_s=scheduler.reserve_after_s,
        )
        self._inbox: deque[_Posted] = deque()
        self._together = 0  # facts at its head that no turn may part, however many
        self._wake = asyncio.Event()
        self._stopping = asyncio.Event()
        self._bulk = bulk.Bulk(store, self.clock, self.policy, self._wake)
        self.feed = Feed(lambda: self.world, term=store.term, clock=clock)
        self.links = Links(
            lambda: self.world,
            term=lambda: self.store.term,
            clock=clock,
            monotonic=monotonic,
            redrive_s=scheduler.redrive_s,
            leading=lambda: self.leading,
        )
        self._timers = Timers(lambda: self.world, clock, self.post)
        self._detector = Detector(
            self.links,
            suspect_after_s=scheduler.suspect_after_s,
            lost_after_s=scheduler.lost_after_s,
            start_s=monotonic(),
        )

    @classmethod
    async def open(
        cls,
        store: Store,
        logs: LogStore,
        *,
        scheduler: Scheduler,
        clock: Callable[[], datetime] = utc_now,
        monotonic: Callable[[], float] | None = None,
        jitter: Callable[[], float] = random.random,
        tracer: Tracer = OFF,
    ) -> Self:
        """Go on where the last server fell. Raises: StoreUnavailable, StaleWrite."""
        monotonic = monotonic or asyncio.get_running_loop().time
        lease = Lease(store, monotonic)
        await lease.renew()
        return cls(
            store,
            logs,
            await _load(store, lease),
            lease,
            scheduler=scheduler,
            clock=clock,
            monotonic=monotonic,
            jitter=jitter,
            tracer=tracer,
        )

    @property
    def leading(self) -> bool:
        """Whether it may grant leases of its own, as each acknowledged heartbeat is one (R-12).

        A leader whose lease ran out is paused: it decides, acknowledges and directs nothing until a
        renewal says that nobody else has begun. (What follows a commit may go out at any time: the
        commit was fenced.)
        """
        return self.healthy and self._lease.valid

    async def post(self, fact: event.Event) -> event.Answer:
        """Return the answer once what the event changed is committed.

        Raises: StoreUnavailable (outcome unknown; repeat it), WriteRefused, LimitReached (inbox full).
        """
        return await self.submit(fact)

    def submit(self, fact: event.Event) -> _Waiter:
        """As `post`, for those who post many: queue the event now and await its answer later."""
        if not self.healthy:
            raise StoreUnavailable("the database is unavailable")
        if self._stopping.is_set():
            raise StoreUnavailable("the server is stopping")
        waiter: _Waiter = asyncio.get_running_loop().create_future()
        if isinstance(fact, event.JobSubmitted) and len(fact.task_ids) > bulk.TASKS:
            repeated = step.known(self.world, fact)
            if repeated:
                waiter.set_result(repeated)
            else:
                self._bulk.put(bulk.Posted(fact, waiter))
            return waiter
        if len(self._inbox) >= INBOX_LIMIT:
            raise LimitReached("the server has more to do than it can queue")
        self._inbox.append((fact, waiter))
        self._wake.set()
        return waiter

    async def run(self) -> None:
        """Turn until stopped. Raises: ExceptionGroup of StaleWrite (deposed) or of a bug."""
        self._look_first()
        try:
            await supervise.until_first_ends(
                turns=self._turns,
                bulk=self._bulk.run,
                lease=self._lease.run,
                timers=self._timers.run,
                redrive=self.links.run,
                detector=self._detect,
            )
        finally:
            self.healthy = False
            self._fail_inbox(StoreUnavailable("the server has stopped"))
            self.feed.close()

    def stop(self) -> None:
        """Take no more events, finish what is queued, and let `run` return."""
        self._stopping.set()
        self._bulk.fail(StoreUnavailable("the server is stopping"), under_way=False)
        self._wake.set()

    async def _turns(self) -> None:
        while self._inbox or self._bulk.busy or not self._stopping.is_set():
            if not self._lease.valid:
                await self._recover(StoreUnavailable("the lease could not be renewed"))
                continue
            if self._bulk.doubt:
                await self._recover(self._bulk.doubt, reload=True)
                if self._bulk.doubt:  # we stop: whoever leads next reads the rows
                    self._bulk.reading()
                continue
            while self._bulk.landed:
                self._take_over(self._bulk.landed.popleft())
            if not self._inbox and not self.world.unfinished:
                self._wake.clear()
                await _within(self._lease.left_s, self._wake)
                continue
            size = min(len(self._inbox), max(self._together, TURN_EVENTS))
            self._together = 0
            batch = [self._inbox.popleft() for _ in range(size)]
            try:
                await self._turn(batch)
            finally:
                # Of use only when the turn ended in an error: whatever happens, nobody waits for ever.
                _fail(batch, StoreUnavailable("the server has stopped"))
            await asyncio.sleep(0)  # a turn that committed nothing must not starve the rest

    async def _turn(self, batch: list[_Posted]) -> None:
        """One decision, whole or not at all. An empty batch goes on with what a bounded turn left."""
        facts = [fact for fact, _ in batch] or [event.Ticked()]
        began_s = self.monotonic()
        delta = step.step(self.world, facts, self.clock(), self.policy)
        committed_s = decided_s = self.monotonic()
        try:
            if not delta.empty:
                await self.store.commit(delta)
                committed_s = self.monotonic()
                self.meter.commit_s.add(committed_s - decided_s)
        except WriteRefused as refused:
            await self._turn_each(batch, refused)
        except StoreUnavailable as error:
            _fail(batch, error)
            await self._recover(error, reload=True)
        else:
            self.meter.see(delta, self.world)
            self.world.apply(delta)
            # Not strict: an empty batch has nobody who waits, and the answer to its tick.
            for (_, waiter), answer in zip(batch, delta.answers, strict=False):
                if not waiter.done():
                    waiter.set_result(answer)
            self.links.act(delta)
            self.feed.publish(delta)
            self._timers.look()
            took = Took(decided_s - began_s, committed_s - decided_s, self.monotonic() - began_s)
            self.meter.decision_s.add(took.decision_s)
            self.meter.turn_s.add(took.whole_s)
            self.meter.events.add(len(batch))
            self.tracer.turned(delta, self.world, took)

    def _take_over(self, landed: bulk.Landed) -> None:
        """Between turns, so that every turn sees all of the job or nothing."""
        (fact, waiter), delta, world = landed
        self.meter.see_whole(world.census.tasks, cached=len(fact.taken))
        self.world.join(world)
        bulk.answer(waiter, step.accepted(self.world, fact, self.clock(), self.policy))
        self.feed.publish(delta)
        self._timers.look()

    async def _turn_each(self, batch: list[_Posted], refused: WriteRefused) -> None:
        """One event of the batch breaks a constraint: only that one is refused."""
        if not batch:
            raise refused
        if len(batch) == 1:
            _fail(batch, refused)
            return
        for posted in batch:
            if self.healthy:
                await self._turn([posted])
            else:
                _fail([posted], StoreUnavailable("the database is unavailable"))

    async def _recover(self, error: StoreUnavailable, *, reload: bool = False) -> None:
        """Hold everything until the lease holds again. `reload`: whether a commit landed is unknown, so
        the truth is read again before the next turn.
        """
        self.healthy = False
        self._fail_inbox(error)
        self.links.broadcast(wire.Pause())
        log.error("database unavailable", error=error.message, **error.context)
        backoff = Backoff(base_s=RELOAD_BASE_S, cap_s=RELOAD_CAP_S, random=self.jitter)
        while not await _within(backoff.next_s(), self._stopping):
            try:
                if reload:
                    self._bulk.reading()
                rows = await self.store.load() if reload else None
                await self._lease.renew()
            except StoreUnavailable:
                continue
            if rows is not None:
                self.world = _world(rows)
                self.feed.reset()
            self.healthy = True
            self._look_first()
            self.links.broadcast(wire.Resume())
            self.links.redrive(older_than_s=0.0)
            self._timers.look()
            log.info("database available again", attempts=len(self.world.attempts))
            return
        await asyncio.sleep(STOPPING_S)  # what is on its way beside the turns must get to its end

    async def _detect(self) -> None:
        while True:
            found = self._detector.look(self.world.agents, self.monotonic())
            # What cannot be committed now is found again by the next look.
            await asyncio.gather(*map(self.post, found), return_exceptions=True)
            await asyncio.sleep(PERIOD_S)

    def _look_first(self) -> None:
        """Who is not there, or fell silent, is known before anything is placed with it (R-23)."""
        loop = asyncio.get_running_loop()
        found = self._detector.look(self.world.agents, self.monotonic())
        self._inbox.extend((fact, loop.create_future()) for fact in found)
        self._together = len(self._inbox)

    def _fail_inbox(self, error: StoreUnavailable) -> None:
        _fail(list(self._inbox), error)
        self._inbox.clear()
        self._bulk.fail(error)


async def _load(store: Store, lease: Lease) -> LiveRows:
    """Reading much takes longer than a lease lives."""
    async with asyncio.TaskGroup() as group:
        renewing = group.create_task(lease.run(), name="lease")
        rows = await store.load()
        renewing.cancel()
    return rows


async def _within(wait_s: float, event: asyncio.Event) -> bool:
    """Wait for it, but no longer; say whether it came."""
    try:
        async with asyncio.timeout(wait_s):
            return await event.wait()
    except TimeoutError:
        return False


def _newest(rows: LiveRows) -> datetime:
    """The last moment that the rows speak of, future plans aside."""
    moments = [job.created_at for job in rows.jobs]
    moments += [task.ready_at or task.created_at for task in rows.tasks]
    moments += [attempt.ended_at or attempt.assigned_at for attempt in rows.attempts]
    moments += [agent.changed_at for agent in rows.agents]
    return max(moments, default=BEGINNING)


def _world(rows: LiveRows) -> World:
    return World.load(
        rows.jobs, rows.tasks, rows.attempts, rows.agents, rows.settled, rows.tallies, rows.blocks
    )


def _fail(batch: list[_Posted], error: StyxError) -> None:
    for _, waiter in batch:
        bulk.refuse(waiter, error)
