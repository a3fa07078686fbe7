"""The real core in virtual time: events of one moment are one turn, as in the engine."""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, assert_never

from styx.core import choice
from styx.core import event as ev
from styx.core.attempt import TERMINAL, Attempt, AttemptState
from styx.core.delta import Delta
from styx.core.ids import AgentId
from styx.core.policy import Policy
from styx.core.step import prepare, step
from styx.core.world import World
from styx.simulate import fleet as fleets
from styx.simulate import tally
from styx.simulate.agenda import (
    Agenda,
    Arrived,
    Booted,
    Died,
    Happening,
    Idled,
    Left,
    Reported,
    Silence,
)
from styx.simulate.fleet import Fleet, Machine
from styx.simulate.load import LABEL, Ids, Load
from styx.simulate.plan import Plan

START: Final = datetime(2026, 1, 1, tzinfo=UTC)
TURN_EVENTS: Final = 2_000  # as the engine takes
BULK_TASKS: Final = 5_000  # jobs of so many the engine makes beside the turns
_TICK: Final = (ev.Ticked(),)


class Simulation:
    """`clock` (seconds) measures what the core costs; nothing that is decided depends on it."""

    def __init__(self, plan: Plan, *, seed: int, clock: Callable[[], float]) -> None:
        self.plan = plan
        self.world = World()
        self.policy = Policy()
        self._clock = clock
        self._agenda = Agenda()
        self._machines: dict[AgentId, Machine] = {}
        ids = Ids()
        self.loads = {w.name: Load(w, seed, ids) for w in plan.workloads}
        self.fleets = [Fleet(g, self._agenda, self._machines, seed) for g in plan.agents]
        self._cheapest = sorted(
            (f for f in self.fleets if f.group.rent), key=lambda f: f.group.price_usd_per_hour
        )
        self.tally = tally.Tally(self.loads, self.fleets)
        self._arrivals = 0
        self._now_s = 0.0
        self._next: list[ev.Event] = []  # follows from the last turn

    def run(self, progress: Callable[[int], None] = lambda _: None) -> None:
        """To the end of the last task, or until nothing can run any more."""
        for one in self.fleets:
            one.open()
        for load in self.loads.values():
            self._expect(load)
        while self._goes_on():
            facts = self._gather()
            for first in range(0, max(1, len(facts)), TURN_EVENTS):
                self._turn(facts[first : first + TURN_EVENTS])
            while self._next or self.world.unfinished:
                following, self._next = self._next, []
                self._turn(following or _TICK)
            fleets.order(self._cheapest, self.tally.waiting, self._now_s)
            progress(self.tally.ended)

    def _goes_on(self) -> bool:
        if self._arrivals:
            return True
        if not self.tally.live or (self._agenda.next_s() is None and not self.world.timers):
            return False
        if any(one.level.held for one in self.fleets) or self.world.timers:
            return True
        waiting = [wanted for wanted, count in self.tally.waiting.items() if count]
        return any(
            one.hopeful(self._now_s) and fleets.suits(one.group, wanted)
            for one in self.fleets
            for wanted in waiting
        )

    def _gather(self) -> list[ev.Event]:
        """Go to the next moment at which something happens; what happens within the window of it."""
        deadline = self.world.next_deadline()
        due_s = None if deadline is None else (deadline - START).total_seconds()
        next_s = self._agenda.next_s()
        first_s = min(moment for moment in (due_s, next_s) if moment is not None)
        until_s = first_s + self.plan.window_s
        now_s = max(self._now_s, first_s)
        if due_s is not None and due_s <= until_s:
            now_s = max(now_s, due_s)
        facts: list[ev.Event] = []
        while (next_s := self._agenda.next_s()) is not None and next_s <= until_s:
            at_s, happening = self._agenda.pop()
            now_s = max(now_s, at_s)
            if not isinstance(happening, Reported):  # it may change what is there from now on
                self.tally.advance(now_s)
            facts += self._happen(happening, at_s)
        self.tally.advance(now_s)
        self._now_s = now_s
        return facts

    def _happen(self, happening: Happening, at_s: float) -> Iterator[ev.Event]:
        match happening:
            case Reported():
                machine = self._machines[happening.fact.agent_id]
                if machine.up and machine.boot == happening.boot:
                    yield happening.fact
            case Arrived():
                self._arrivals -= 1
                yield happening.load.submission()
                self._expect(happening.load)
            case Booted():
                machine = self._machines[happening.agent_id]
                yield from machine.fleet.boot(machine, at_s)
            case Died():
                machine = self._machines[happening.agent_id]
                machine.fleet.die(machine, at_s)
            case Silence():
                machine = self._machines[happening.agent_id]
                yield from machine.fleet.silence(machine, happening.boot, lost=happening.lost)
            case Left():
                machine = self._machines[happening.agent_id]
                yield from machine.fleet.leave(machine)
            case Idled():
                machine = self._machines[happening.agent_id]
                yield from machine.fleet.idle(machine, happening.assignments, at_s)
            case _:
                assert_never(happening)

    def _expect(self, load: Load) -> None:
        at_s = load.next_arrival_s()
        if at_s is not None:
            self._arrivals += 1
            self._agenda.put(at_s, Arrived(load))

    # --- one turn ---------------------------------------------------------------------------------

    def _turn(self, facts: Sequence[ev.Event]) -> None:
        now = START + timedelta(seconds=self._now_s)
        inside: list[ev.Event] = []
        for fact in facts:
            if isinstance(fact, ev.JobSubmitted) and fact.spec.width >= BULK_TASKS:
                self._bring(fact, now)
            else:
                inside.append(fact)
        began_s = self._clock()
        delta = step(self.world, inside, now, self.policy)
        decided_s = self._clock()
        self._observe(delta)
        resumed_s = self._clock()
        self.world.apply(delta)
        spent_s = self._clock() - resumed_s + decided_s - began_s
        self.tally.turn(spent_s, len(inside))
        self._answer(inside, delta)

    def _bring(self, fact: ev.JobSubmitted, now: datetime) -> None:
        began_s = self._clock()
        delta, world = prepare(fact, now, self.policy)
        self.tally.preparing_s += self._clock() - began_s
        self._observe(delta)
        self.world.join(world)

    def _observe(self, delta: Delta) -> None:
        """Before the world takes the delta over: what was is still to be seen."""
        for task in delta.tasks.values():
            self.tally.task(task, self.world.tasks.find(task.id))
        for attempt in delta.attempts.values():
            machine = self._machines[attempt.agent_id]
            before = self.world.attempts.get(attempt.key)
            if before is None:
                self._assigned(delta, attempt, machine)
            elif attempt.state in TERMINAL and before.state not in TERMINAL:
                self._ended(delta, attempt, machine)
            elif attempt.state is AttemptState.RUNNING and before.state is not attempt.state:
                self._started(attempt, machine)

    def _assigned(self, delta: Delta, attempt: Attempt, machine: Machine) -> None:
        task = delta.tasks[attempt.task_id]
        self.tally.assigned(task, attempt, delta.now, machine)
        if machine.up:
            self._start(attempt, machine)

    def _started(self, attempt: Attempt, machine: Machine) -> None:
        """The dice are thrown when it starts: what is assigned to a dead machine never does."""
        load = self.loads[self.world.tasks[attempt.task_id].spec.labels[LABEL]]
        drawn = load.draw()
        exited = ev.AttemptExited(attempt.key, machine.id, drawn.exit)
        self._agenda.put(self._now_s + drawn.lasts_s, Reported(machine.boot, exited))

    def _ended(self, delta: Delta, attempt: Attempt, machine: Machine) -> None:
        task = delta.tasks.get(attempt.task_id) or self.world.tasks[attempt.task_id]
        self.tally.released(choice.held(task, attempt), attempt, machine)
        if not machine.held:
            self._next += machine.fleet.emptied(machine)
            if not machine.gone:
                machine.fleet.watch(machine, self._now_s)

    def _start(self, attempt: Attempt, machine: Machine) -> None:
        fact = ev.AttemptStarted(attempt.key, machine.id)
        self._agenda.put(self._now_s + self.plan.start_s, Reported(machine.boot, fact))

    def _answer(self, facts: Sequence[ev.Event], delta: Delta) -> None:
        """A new connection comes into step at once, and gets again what was assigned to it meanwhile."""
        for fact, answer in zip(facts, delta.answers, strict=True):
            if isinstance(fact, ev.AgentConnected) and isinstance(answer, ev.Welcomed):
                self._machines[fact.agent_id].session = answer.session
                self._next.append(ev.AgentSynced(fact.agent_id, answer.session, ()))
            elif isinstance(fact, ev.AgentSynced):
                machine = self._machines[fact.agent_id]
                for key in self.world.attempts_of(machine.id):
                    attempt = self.world.attempts[key]
                    if attempt.state is AttemptState.ASSIGNED and attempt.key not in delta.attempts:
                        self._start(attempt, machine)
