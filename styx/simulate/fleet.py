"""The machines: they come, fail, are repaired, are rented while tasks wait, and go."""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from typing import Final

from styx.core import choice
from styx.core import event as ev
from styx.core.agent import Agent
from styx.core.effect import LOST_AFTER_S
from styx.core.ids import AgentId
from styx.core.match import why_never
from styx.core.spec import Requirements
from styx.simulate.agenda import Agenda, Booted, Died, Idled, Left, Silence
from styx.simulate.plan import Group

SUSPECT_AFTER_S: Final = 15.0  # the server's own default
_START: Final = datetime(2026, 1, 1, tzinfo=UTC)


def suits(group: Group, wanted: Requirements) -> bool:
    """Whether an agent of the group, idle, could run it."""
    sample = Agent(
        id=AgentId("sample"),
        name="sample",
        capacity=group.capacity,
        joined_at=_START,
        changed_at=_START,
    )
    return why_never(wanted, sample) is None


@dataclass(slots=True)
class Machine:
    id: AgentId
    fleet: "Fleet"
    boot: int = 0
    session: int = 0
    up: bool = False
    leaving: bool = False
    gone: bool = False
    held: int = 0  # attempts
    assignments: int = 0  # attempts ever


@dataclass(slots=True)
class Level:
    """What a group has, and what of it attempts hold, at one moment."""

    there: int = 0  # paid for
    up: int = 0
    held: int = 0
    cpus_milli: int = 0
    memory_bytes: int = 0
    gpus: int = 0


@dataclass
class Fleet:
    """One group of agents."""

    group: Group
    agenda: Agenda
    machines: dict[AgentId, Machine]  # of every group
    seed: int
    level: Level = field(default_factory=Level)
    most: int = 0
    failures: int = 0
    coming: int = 0  # will boot for the first time
    _named: int = 0

    def __post_init__(self) -> None:
        self._dice = Random(f"{self.seed}/{self.group.name}/failures")  # noqa: S311

    def open(self) -> None:
        rent = self.group.rent
        for _ in range(rent.min_count if rent else self.group.count):
            self._expect(self.group.arrive_s)

    def hopeful(self, now_s: float) -> bool:
        """Whether an agent is there or will be."""
        leaves = self.group.leave_s
        rents = self.group.rent is not None and (leaves is None or now_s < leaves)
        return bool(rents or self.level.there or self.coming)

    # --- what happens to a machine ----------------------------------------------------------------

    def boot(self, machine: Machine, now_s: float) -> Iterator[ev.Event]:
        if machine.gone:
            return
        group, level = self.group, self.level
        if not machine.boot:
            self.coming -= 1
            level.there += 1
            self.most = max(self.most, level.there)
        machine.boot += 1
        machine.up = True
        level.up += 1
        if group.failing_every_s is not None:
            ahead_s = self._dice.expovariate(1 / group.failing_every_s)
            self.agenda.put(now_s + ahead_s, Died(machine.id))
        self.watch(machine, now_s)
        yield ev.AgentConnected(
            machine.id, machine.id, "store", f"{machine.boot}", "", "", group.capacity, {}
        )

    def die(self, machine: Machine, now_s: float) -> None:
        if machine.gone or not machine.up:
            return
        self.failures += 1
        machine.up = False
        self.level.up -= 1
        self.agenda.put(now_s + SUSPECT_AFTER_S, Silence(machine.id, machine.boot, lost=False))
        self.agenda.put(now_s + LOST_AFTER_S, Silence(machine.id, machine.boot, lost=True))
        if not machine.leaving:
            self.agenda.put(now_s + self.group.repair_s, Booted(machine.id))

    def silence(self, machine: Machine, boot: int, *, lost: bool) -> Iterator[ev.Event]:
        if machine.gone or machine.up or machine.boot != boot:
            return
        if lost:
            yield ev.AgentLost(machine.id)
            if machine.leaving:
                self._remove(machine)
        else:
            yield ev.AgentSilent(machine.id, machine.session)

    def leave(self, machine: Machine) -> Iterator[ev.Event]:
        if machine.gone or machine.leaving:
            return
        machine.leaving = True
        if not machine.boot:
            self.coming -= 1
            machine.gone = True
        elif machine.up:
            yield ev.DrainRequested(machine.id, drain=True)
            yield from self.emptied(machine)
        else:
            yield ev.AgentLost(machine.id)
            self._remove(machine)

    def emptied(self, machine: Machine) -> Iterator[ev.Event]:
        """Its last attempt may have ended: if it is to go, it goes."""
        if machine.leaving and machine.up and not machine.held and not machine.gone:
            self._remove(machine)
            yield ev.AgentLost(machine.id)

    def idle(self, machine: Machine, assignments: int, now_s: float) -> Iterator[ev.Event]:
        rent = self.group.rent
        if rent is None or not machine.up or machine.held or machine.assignments != assignments:
            return
        if self.level.there > rent.min_count:
            yield from self.leave(machine)
        else:
            self.watch(machine, now_s)

    def watch(self, machine: Machine, now_s: float) -> None:
        """Look again when it may have been idle for long."""
        rent = self.group.rent
        if rent and not machine.held and not machine.leaving:
            self.agenda.put(now_s + rent.idle_s, Idled(machine.id, machine.assignments))

    # --- renting ----------------------------------------------------------------------------------

    def order(self, waiting: dict[Requirements, int], now_s: float) -> None:
        """Order agents for the waiting tasks that they suit, and take these out of `waiting`."""
        rent, leaves = self.group.rent, self.group.leave_s
        if rent is None or now_s < self.group.arrive_s or (leaves is not None and now_s >= leaves):
            return
        wanted, room = 0.0, float(self.group.count - self.level.there)
        for requirements, count in waiting.items():
            if count and suits(self.group, requirements):
                times = max(map(self._times, self._suiting(requirements)))
                agents = min(room - wanted, count / times)
                wanted += agents
                waiting[requirements] = count - round(agents * times)
        for _ in range(math.ceil(wanted) - self.coming):
            self._expect(now_s + rent.provision_s)

    def _suiting(self, wanted: Requirements) -> list[Requirements]:
        return [each for each in choice.among(wanted) if suits(self.group, each)]

    def _times(self, wanted: Requirements) -> int:
        """How many tasks fit an agent at a time."""
        have = self.group.capacity
        shares = [
            (have.cpus_milli, wanted.cpus_milli),
            (have.memory_bytes, wanted.memory_bytes),
            (have.disk_bytes, wanted.disk_bytes),
            (len(have.gpus), wanted.gpus),
        ]
        return min(whole // part for whole, part in shares if part)

    def _expect(self, at_s: float) -> None:
        self._named += 1
        machine = Machine(AgentId(f"{self.group.name}-{self._named:06}"), self)
        self.machines[machine.id] = machine
        self.coming += 1
        self.agenda.put(at_s, Booted(machine.id))
        if self.group.leave_s is not None:
            self.agenda.put(self.group.leave_s, Left(machine.id))

    def _remove(self, machine: Machine) -> None:
        machine.gone = True
        self.level.there -= 1
        if machine.up:
            machine.up = False
            self.level.up -= 1


def order(fleets: Iterable[Fleet], waiting: Mapping[Requirements, int], now_s: float) -> None:
    """Rent for what waits, the cheapest group first."""
    left = dict(waiting)
    for fleet in fleets:
        fleet.order(left, now_s)
