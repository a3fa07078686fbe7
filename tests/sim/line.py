"""The way from a server to the database, and what may happen on it.

A transaction is the database's own affair once it is sent: it lands whether or not the server still
lives, waits or wants it. So a failed commit means "unknown", and may mean "not yet".
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar, cast

from styx.errors import StoreUnavailable, StyxError
from tests.sim.loop import Process
from tests.sim.network import Network

T = TypeVar("T")
DATABASE: Final = "database"  # the machine
GIVE_UP_S: Final = 12.0  # `pool`'s: a statement's time and the margin
CONNECT_S: Final = 5.0


@dataclass
class Weather:
    """Shares of calls that go wrong, and until when none goes well."""

    latency_s: float = 0.001
    refuse: float = 0.0  # never sent
    lose: float = 0.0  # sent, and the answer is lost: applied, not applied, or applied later
    stall: float = 0.0  # takes seconds
    out_until: float = 0.0  # the database is down
    mute: bool = False  # of the call that is under way, nobody will hear how it went


class DatabaseLine:
    def __init__(self, process: Process, machine: str, network: Network, weather: Weather) -> None:
        self._process = process
        self._simulation = process.simulation
        self._machine = machine
        self._network = network
        self._weather = weather

    async def call(self, transaction: Callable[[], T]) -> T:
        simulation, weather = self._simulation, self._weather
        random, now = simulation.random, simulation.now()
        dice = random.random()
        if self._blocked() > now:
            await asyncio.sleep(CONNECT_S)
            raise StoreUnavailable("the database does not answer")
        if weather.out_until > now or dice < weather.refuse:
            await asyncio.sleep(random.uniform(0.001, 1.0))
            raise StoreUnavailable("connection refused")
        delay_s = weather.latency_s * (0.2 + 1.6 * random.random())
        if dice > 1.0 - weather.stall:
            delay_s += random.uniform(0.5, GIVE_UP_S - 1.0)
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        lost = weather.refuse <= dice < weather.refuse + weather.lose
        if lost:
            self._lose(transaction, answer, delay_s)
        else:
            simulation.after(delay_s, self._apply, transaction, answer)
        if lost or delay_s > CONNECT_S:
            asyncio.get_running_loop().call_later(GIVE_UP_S, _fail, answer)
        return cast("T", await answer)

    def _blocked(self) -> float:
        return max(
            self._network.blocked_until(self._machine, DATABASE),
            self._network.blocked_until(DATABASE, self._machine),
        )

    def _lose(self, transaction: Callable[[], T], answer: asyncio.Future[Any], delay_s: float):
        """The connection breaks under it: it happens, or does not, or happens when nobody waits."""
        simulation = self._simulation
        fate = simulation.random.random()
        broken_s = (
            delay_s + simulation.random.choice((0.001, 0.5, 5.0)) * simulation.random.random()
        )
        if fate < 0.4:
            simulation.after(delay_s, self._try, transaction)
        elif fate < 0.8:
            late_s = simulation.random.choice((0.05, 2.0, 20.0)) * simulation.random.random()
            simulation.after(broken_s + late_s, self._try, transaction)
        simulation.after(broken_s, self._process.post, 0.0, _fail, answer)

    def _apply(self, transaction: Callable[[], T], answer: asyncio.Future[Any]) -> None:
        now = self._simulation.now()
        if self._weather.out_until > now:
            self._process.post(now + 0.001, _fail, answer)
            return
        if self._network.blocked_until(self._machine, DATABASE) > now:
            self._process.post(now + GIVE_UP_S, _fail, answer)
            return
        try:
            result, error = transaction(), None
        except (StyxError, AssertionError) as raised:
            result, error = None, raised
        if self._network.blocked_until(DATABASE, self._machine) > now:
            self._process.post(now + GIVE_UP_S, _fail, answer)
            return
        if self._weather.mute:
            self._weather.mute = False
            self._process.post(now + 0.001, _fail, answer)
            return
        back_s = self._weather.latency_s * self._simulation.random.random()
        self._process.post(now + back_s, _settle, answer, result, error)

    def _try(self, transaction: Callable[[], T]) -> None:
        """Nobody hears how it went."""
        if self._weather.out_until <= self._simulation.now():
            try:
                transaction()
            except StyxError:
                self._simulation.note("database", "a late write was refused")


def _settle(answer: asyncio.Future[Any], result: object, error: BaseException | None) -> None:
    if answer.done():
        return
    if error is not None:
        answer.set_exception(error)
    else:
        answer.set_result(result)


def _fail(answer: asyncio.Future[Any]) -> None:
    _settle(answer, None, StoreUnavailable("connection reset while waiting for the answer"))
