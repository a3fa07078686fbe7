"""One `styx serve` on a machine of its own: the real replica, engine and sessions, in a process."""

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any, Final, TypeVar, cast

import msgspec

from styx.config import Scheduler, Webhooks
from styx.engine import session
from styx.engine.loop import Engine
from styx.engine.ports import Store
from styx.engine.replica import Replica
from styx.engine.schedules import Schedules
from styx.errors import StoreUnavailable, StyxError
from styx.wire import agent as wire
from tests.sim.line import DatabaseLine, Weather
from tests.sim.loop import Clock, Process, Simulation
from tests.sim.network import Channel, Network
from tests.sim.store import MemoryElection, Tables

T = TypeVar("T")
ASK_S: Final = 15.0  # how long a caller waits for an answer


class Server:
    def __init__(
        self,
        simulation: Simulation,
        name: str,
        network: Network,
        tables: Tables,
        weather: Weather,
        scheduler: Scheduler,
        clock: Clock,
    ) -> None:
        self.name = name
        self.url = f"http://{name}:7474"
        self.clock = clock
        self.process: Process | None = None
        self.replica: Replica | None = None
        self.keep: Callable[[Engine, Store], Schedules] | None = None
        self.bound_turn = False  # a turn does a bit only, so that many are needed
        self.on_engine: Callable[[Engine], None] = lambda _: None
        self.on_heard: Callable[[str], None] = lambda _: None
        self._simulation = simulation
        self._network = network
        self._tables = tables
        self._weather = weather
        self._scheduler = scheduler
        self._boots = 0
        self._line: DatabaseLine | None = None

    @property
    def engine(self) -> Engine | None:
        return self.replica.engine if self.replica and self.alive else None

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.alive

    @property
    def holder(self) -> str:
        """What it calls itself in the database."""
        return f"{self.name}:{self._boots}"

    def boot(self) -> None:
        if self.alive:
            return
        self._boots += 1
        process = self.process = Process(self._simulation, self.name, self.clock)
        process.on_exit = self._exited
        self._line = DatabaseLine(process, self.name, self._network, self._weather)
        self._network.listen(self.url, process, self.name, self._accept)
        process.start(self._run, self._line)

    def crash(self) -> None:
        """As `kill -9`, which may happen between any two steps."""
        if self.process is not None and self.process.alive:
            self.process.kill()
            self._network.dead(self.process)

    def stop(self) -> None:
        """As SIGTERM."""
        if self.replica is not None and self.process is not None and self.process.alive:
            self.process.post(0.0, self.replica.stop)

    async def _run(self, line: DatabaseLine) -> None:
        replica = self.replica = Replica(
            MemoryElection(self._tables, line, self.holder, self.url),
            scheduler=self._scheduler,
            clock=self.clock.wall,
            monotonic=self.clock.monotonic,
            jitter=self._simulation.random.random,
            schedules=self.keep,
            on_change=self._changed,
        )
        await replica.run()
        self._simulation.after(0.0, self.crash)  # the process has come to its end

    def _changed(self) -> None:
        engine = self.engine
        if engine is None:
            return
        if self.bound_turn:
            engine.policy = msgspec.structs.replace(
                engine.policy, placements_per_turn=2, settlements_per_turn=2
            )
        self.on_engine(engine)

    def _exited(self, process: Process, error: BaseException | None) -> None:
        if error is not None:
            self._simulation.fail("crash", f"{process.name}: {_told(error)}")

    async def _accept(self, channel: Channel) -> None:
        assert self.replica is not None
        channel.on_heard = self.on_heard
        engine = self.replica.engine
        if engine is None:
            leader = self.replica.leader
            bye = wire.Bye(wire.CLOSE_NOT_LEADER, leader.address if leader else "", 0.5)
            await channel.send(wire.encode([bye]))
            await channel.close(bye.code, bye.reason)
        else:
            await session.run(channel, engine)

    async def ask(self, caller: Process, request: Callable[[Any], Awaitable[T]]) -> T:
        """Do it over the API, from `caller`'s loop. Raises: StyxError; TimeoutError: who knows."""
        simulation, latency_s = self._simulation, self._network.latency_s
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def settle(result: object, error: BaseException | None) -> None:
            if answer.done():
                return
            if error is not None:
                answer.set_exception(error)
            else:
                answer.set_result(result)

        async def serve() -> None:
            result, error = None, None
            try:
                if self.engine is None or self._line is None:
                    raise StoreUnavailable("this server does not lead")
                backend = SimpleNamespace(
                    engine=self.engine,
                    query=_Query(self._line, self._tables),
                    webhooks=Webhooks(),
                )
                result = await request(backend)
            except StyxError as refused:
                error = refused
            caller.post(simulation.now() + latency_s(), settle, result, error)

        process = self.process
        if process is None or not process.alive:
            await asyncio.sleep(latency_s())
            raise StoreUnavailable("connection refused")
        process.post(simulation.now() + latency_s(), process.start, serve)
        async with asyncio.timeout(ASK_S):
            return cast("T", await answer)


class _Query:
    """What `styx.api.submit` asks of the database."""

    def __init__(self, line: DatabaseLine, tables: Tables) -> None:
        self._line = line
        self._tables = tables

    async def job_by_key(self, project: str, key: str) -> object:
        tables = self._tables
        return await self._line.call(
            lambda: tables.jobs.get(tables.submits.get((project, key), ""))  # type: ignore[arg-type]
        )

    async def job_specs(self, job_id: str) -> list[Any]:
        return []


def _told(error: BaseException) -> str:
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(map(_told, cast("BaseExceptionGroup[BaseException]", error).exceptions))
    return repr(error)
