"""One `styx serve`: it follows the leader, leads when there is none, and follows again when deposed.

    follower ── take ──▶ leading ⇄ paused (the lease ran out: see `Engine.leading`)
       ▲                    │
       └──── deposed ───────┘

A leader that stands alone is the same: its lease never ends.
"""

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Final, cast

import structlog

from styx.config import Scheduler
from styx.engine.loop import Engine
from styx.engine.ports import Election, Leader, LogStore, Store
from styx.engine.schedules import Schedules
from styx.engine.spans import OFF, Tracer
from styx.errors import SetupError, StaleWrite, StoreUnavailable
from styx.kit import supervise
from styx.wire import agent as wire

# What a clean handover may wait; one small query. LISTEN would be quicker by so much, and needs a session
# of its own that a broken line ends in silence: so this would be needed beside it.
POLL_S: Final = 0.25
RETURN_WITHIN_S: Final = 2.0  # agents come back spread over so long

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


class Replica:
    """`run` it, `stop` it. `on_change` is called after `engine` or `leader` has changed."""

    def __init__(
        self,
        election: Election,
        *,
        scheduler: Scheduler,
        clock: Callable[[], datetime],
        monotonic: Callable[[], float],
        jitter: Callable[[], float],
        tracer: Tracer = OFF,
        schedules: Callable[[Engine, Store], Schedules] | None = None,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self.engine: Engine | None = None  # while this one leads
        self.schedules: Schedules | None = None  # as long
        self.leader: Leader | None = None  # while another does, as far as is known
        self.reading = False  # whether the database answered when it was last asked
        self._election = election
        self._scheduler = scheduler
        self._clock = clock
        self._monotonic = monotonic
        self._jitter = jitter
        self._tracer = tracer
        self._schedules = schedules
        self._on_change = on_change
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Follow and lead until stopped. Raises: SetupError (see `Election.leader`)."""
        while (taken := await self._follow()) is not None:
            store, logs = taken
            try:
                await self._lead(store, logs)
            finally:
                await self._election.release(store)

    def stop(self) -> None:
        """Finish what is queued, give up the lead, and let `run` return. Tasks go on (R-16)."""
        self._stopping.set()
        if self.engine is not None:
            self.engine.links.close_all(self._goodbye)
            self.engine.stop()

    async def _follow(self) -> tuple[Store, LogStore] | None:
        """Return once the lead is ours; None once stopped. Raises: SetupError."""
        while not self._stopping.is_set():
            try:
                leader = await self._election.leader()
                self.reading = True
                if leader != self.leader:
                    self._see(leader)
                if leader is None and (taken := await self._election.take()) is not None:
                    return taken
            except StoreUnavailable as error:
                if self.reading:
                    log.warning("database unavailable", error=error.message)
                self.reading = False
            await self._poll()
        return None

    async def _lead(self, store: Store, logs: LogStore) -> None:
        """From the beginning of a term to its end; whatever belongs to it ends with it."""
        engine = await self._open(store, logs)
        if engine is None:
            await self._poll()
            return
        log.info("leading", term=store.term, attempts=len(engine.world.attempts))
        self.engine, self.leader = engine, None
        self.schedules = self._schedules(engine, store) if self._schedules else None
        self._on_change()
        if self._stopping.is_set():
            engine.stop()
        try:
            await self._run(engine)
        except* StaleWrite as errors:
            log.warning("deposed", term=store.term, error=_first(errors))
            await self._depose(engine)
        finally:
            self.engine = self.schedules = None
            self._on_change()

    async def _run(self, engine: Engine) -> None:
        if self.schedules is None:
            await engine.run()
        else:
            await supervise.until_first_ends(engine=engine.run, schedules=self.schedules.run)

    async def _open(self, store: Store, logs: LogStore) -> Engine | None:
        engine = None
        try:
            engine = await Engine.open(
                store,
                logs,
                scheduler=self._scheduler,
                clock=self._clock,
                monotonic=self._monotonic,
                jitter=self._jitter,
                tracer=self._tracer,
            )
        except* (StoreUnavailable, StaleWrite) as errors:
            log.warning("cannot lead", term=store.term, error=str(errors.exceptions[0]))
        return engine

    async def _depose(self, engine: Engine) -> None:
        """Send the agents to the new leader."""
        self.engine = self.schedules = None
        try:
            self._see(await self._election.leader())
        except (StoreUnavailable, SetupError):
            self._see(None)
        address = self.leader.address if self.leader else ""
        engine.links.close_all(lambda: wire.Bye(wire.CLOSE_NOT_LEADER, address))
        await self._poll()  # a fault of our own must not make a storm of terms

    def _see(self, leader: Leader | None) -> None:
        self.leader = leader
        if leader is not None:
            log.info("following", leader=leader.address, term=leader.term)
        self._on_change()

    def _goodbye(self) -> wire.Bye:
        return wire.Bye(wire.CLOSE_RESTART, "the server stops", RETURN_WITHIN_S * self._jitter())

    async def _poll(self) -> None:
        try:
            async with asyncio.timeout(POLL_S):
                await self._stopping.wait()
        except TimeoutError:
            pass


def _first(error: BaseException) -> str:
    """What the first of them said: groups hold groups."""
    while isinstance(error, BaseExceptionGroup):
        error = cast("BaseExceptionGroup[BaseException]", error).exceptions[0]
    return str(error)
