"""A cron job of every minute, on servers that are killed, frozen and cut off from their database."""

import gc
import random
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple, TypeVar
from unittest import mock

import msgspec

from styx.config import Scheduler
from styx.core.audit import Entry
from styx.core.ids import JobId
from styx.core.schedule import DUE_VARIABLE, Missed, Overlap, Schedule
from styx.engine.loop import Engine
from styx.engine.ports import ScheduleRow, Store
from styx.engine.schedules import Schedules
from styx.errors import StaleWrite, StoreUnavailable
from styx.kit import uuid7
from tests.sim.line import Weather
from tests.sim.loop import EPOCH, Clock, Simulation
from tests.sim.network import Network
from tests.sim.server import Server
from tests.sim.store import MemoryStore, Tables
from tests.sim.trial import Ids, bury

T = TypeVar("T")
MINUTE: Final = timedelta(minutes=1)
HOURS: Final = 2
PEACE_S: Final = 300.0
KILLS: Final = 10
SERVERS: Final = 2
DOCUMENT: Final = '{"name": "minutely", "tasks": {"a": {"run": "true"}}}'


class MemorySchedules:
    """`engine.ports.ScheduleStore`, as `ScheduleRows` is."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self._rows = store.tables.schedules

    async def earliest(self, most: int) -> list[ScheduleRow]:
        def look() -> list[ScheduleRow]:
            due = [row for row in self._rows.values() if row.due_at and not row.paused]
            return sorted(due, key=lambda row: (row.due_at, row.id))[:most]

        return await self._store.line.call(look)

    async def find(self, project: str, name: str) -> ScheduleRow | None:
        return await self._store.line.call(lambda: self._named(project, name))

    async def page(self, after: str, limit: int) -> list[ScheduleRow]:
        def look() -> list[ScheduleRow]:
            ids = sorted(id_ for id_ in self._rows if id_ > after)[:limit]
            return [msgspec.structs.replace(self._rows[id_], document="") for id_ in ids]

        return await self._store.line.call(look)

    async def put(self, row: ScheduleRow, told: Sequence[Entry] = ()) -> bool:
        def write() -> bool:
            old = self._rows.get(row.id)
            taken = self._named(row.project, row.name) is not None
            if (old or taken) if row.version == 1 else (not old or old.version != row.version - 1):
                return False
            self._rows[row.id] = row
            self._store.tables.audit += told
            return True

        return await self._change(write)

    async def delete(self, row: ScheduleRow, told: Sequence[Entry] = ()) -> bool:
        def write() -> bool:
            old = self._rows.get(row.id)
            if old is None or old.version != row.version:
                return False
            del self._rows[row.id]
            self._store.tables.audit += told
            return True

        return await self._change(write)

    async def job_of_key(self, project: str, key: str) -> JobId | None:
        return await self._store.line.call(lambda: self._store.tables.submits.get((project, key)))

    def _named(self, project: str, name: str) -> ScheduleRow | None:
        return next(
            (r for r in self._rows.values() if (r.project, r.name) == (project, name)), None
        )

    async def _change(self, write: Callable[[], bool]) -> bool:
        term, tables = self._store.term, self._store.tables

        def land() -> bool:
            tables.fence(term)
            return write()

        try:
            return await self._store.line.call(land)
        except StaleWrite:
            if self._store.term != term:
                raise StoreUnavailable("the term has changed meanwhile") from None
            raise


class Outcome(NamedTuple):
    """`made`: how many jobs there are for each due time, by what their tasks are told."""

    made: Counter[datetime]
    settled: datetime  # every due time before was
    kills: int
    between: int  # of them, those after a job was made and before its due time was settled
    leaders: int

    @property
    def expected(self) -> Counter[datetime]:
        """Each minute, once."""
        minutes = round((self.settled - EPOCH) / MINUTE)
        return Counter(EPOCH + n * MINUTE for n in range(1, minutes))


def play(seed: int) -> Outcome:
    """Raises: Violation, for a bug that ends a server."""
    collects = gc.isenabled()
    gc.disable()  # what was killed is taken apart at the end, all at once
    cron = Cron(seed)
    try:
        cron.run()
        return cron.outcome()
    finally:
        cron.simulation.end()
        del cron
        bury()
        if collects:
            gc.enable()


class Cron:
    """One seed's world: two servers keep one schedule."""

    def __init__(self, seed: int) -> None:
        self.simulation = simulation = Simulation(seed)
        self.tables = Tables(simulation.now)
        self.kills = 0
        self.between = 0
        self.leaders: set[str] = set()
        self._dice = random.Random(seed)
        self._weather = Weather()
        self.servers = [self._server(n) for n in range(SERVERS)]
        schedule = Schedule("* * * * *", missed=Missed.ALL, overlap=Overlap.ALLOW)
        self.row = ScheduleRow(
            id="00000000-0000-7000-8000-000000000001",
            name="minutely",
            project="default",
            document=DOCUMENT,
            schedule=schedule,
            due_at=EPOCH + MINUTE,
            created_at=EPOCH,
        )
        self.tables.schedules[self.row.id] = self.row

    def run(self) -> None:
        """Raises: Violation, for a bug that ends a server."""
        simulation = self.simulation
        self.tables.on_commit = lambda _, writes: self._fate(self.servers)
        with _seeded(simulation):
            for server in self.servers:
                server.boot()
            for _ in range(KILLS):
                simulation.at(self._when(), self._kill, None)
            for _ in range(3):
                simulation.at(self._when(), self._freeze)
                simulation.at(self._when(), self._step_the_clock)
            simulation.at(self._when(), self._all_down)
            self._weather.refuse, self._weather.lose, self._weather.stall = 0.01, 0.02, 0.01
            simulation.run(HOURS * 3_600.0)
            self._weather.refuse = self._weather.lose = self._weather.stall = 0.0
            self.tables.on_commit = lambda _, writes: None
            for server in self.servers:
                server.clock.offset_s = 0.0
                if server.process is not None:
                    server.process.resume()
                server.boot()
            simulation.run(simulation.now() + PEACE_S)

    def outcome(self) -> Outcome:
        due_at = self.tables.schedules[self.row.id].due_at
        assert due_at is not None
        specs = self.tables.specs.values()
        made = Counter(datetime.fromisoformat(spec.env[DUE_VARIABLE]) for spec in specs)
        return Outcome(made, due_at, self.kills, self.between, len(self.leaders))

    def _server(self, number: int) -> Server:
        simulation = self.simulation
        clock = Clock(simulation, self._dice.uniform(0.9999, 1.0001), self._dice.uniform(-3.0, 3.0))
        server = Server(
            simulation,
            f"server{number}",
            Network(simulation, mean_latency_s=0.001),
            self.tables,
            self._weather,
            Scheduler(),
            clock,
        )
        server.keep = lambda engine, store: self._keep(server, engine, store)
        return server

    def _keep(self, server: Server, engine: Engine, store: Store) -> Schedules:
        assert isinstance(store, MemoryStore)
        self.leaders.add(server.name)
        return Schedules(engine, MemorySchedules(store), clock=server.clock.wall)

    def _when(self) -> float:
        return self._dice.uniform(60.0, HOURS * 3_600.0 - 60.0)

    def _fate(self, servers: Sequence[Server]) -> None:
        """A job has landed, and nobody knows: one time in ten nobody ever will."""
        if self._dice.random() < 0.1:
            leader = next((server for server in servers if server.engine), None)
            if leader is not None:
                self.between += 1
                self._kill(leader)

    def _kill(self, server: Server | None) -> None:
        server = server or self._dice.choice(self.servers)
        if server.alive:
            self.kills += 1
            server.crash()
            self.simulation.after(self._dice.uniform(0.1, 60.0), server.boot)

    def _freeze(self) -> None:
        """Long enough for another to lead; then it goes on where it was."""
        process = self._dice.choice(self.servers).process
        if process is not None:
            process.pause(self._dice.uniform(5.0, 60.0))

    def _step_the_clock(self) -> None:
        self._dice.choice(self.servers).clock.jump(self._dice.choice((-90.0, -600.0, 30.0)))

    def _all_down(self) -> None:
        for server in self.servers:
            server.crash()
            self.simulation.after(900.0, server.boot)


@contextmanager
def _seeded(simulation: Simulation) -> Generator[None]:
    random.seed(simulation.seed)
    with mock.patch.object(uuid7, "_source", Ids(simulation)):
        yield


async def without_key(
    submit: Callable[..., Any], self: Schedules, row: ScheduleRow, due: datetime, *more: str
) -> JobId:
    """A planted bug: the job of a due time is like any other."""
    return await submit(self, row, due, "", *more[1:])
