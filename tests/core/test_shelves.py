"""Who is chosen from the shelves is who would be chosen by looking at every agent, one by one."""

import heapq
from random import Random
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st

from styx.core import event as ev
from styx.core import place, shelves
from styx.core.agent import AgentState
from styx.core.attempt import TERMINAL, Exit
from styx.core.ids import AgentId
from styx.core.match import why_never
from styx.core.policy import Policy
from styx.core.room import Room
from styx.core.spec import Priority, Requirements
from styx.core.step import step
from tests.support.desk import GIB, Desk, a_capacity, a_job, a_task

AGENTS = [AgentId(f"a{n}") for n in range(6)]


def choose_among_all(line, task, guard):
    """The rule: of all that take such work, have room and are not kept for another, the tightest fits.

    A class that is stuck need not ask those that gained nothing; a gang may need them all.
    """
    [search] = line.searches
    draft, wanted, count = line._draft, search.wanted, line.key.num_nodes
    if count > 1:
        search.was_stuck = False
    pool = draft.freed if search.was_stuck else {*draft.world.rooms, *draft.delta.agents}
    fitting = [
        (draft.room(a).leftover(wanted), a)
        for a in pool
        if draft.agent(a).state is AgentState.READY
        and why_never(wanted, draft.agent(a)) is None
        and draft.room(a).fits(wanted)
        and guard.allows(a, wanted, task)
    ]
    if len(fitting) < count:
        return None
    return place.Chosen([a for _, a in heapq.nsmallest(count, fitting)])


class Compared(Desk):
    """Each turn is decided by the rule as well."""

    chosen = stuck = reserved = 0

    def _step(self, events):
        events = tuple(events)
        with mock.patch.object(place, "_choose", choose_among_all):
            by_the_rule = step(self.world, events, self.now, self.policy)
        delta = super()._step(events)
        assert delta == by_the_rule
        self.chosen += sum(attempt.version == 1 for attempt in delta.attempts.values())
        self.stuck += any(delta.hints.stuck.values())
        self.reserved += bool(delta.hints.reserved)
        return delta


def happen(desk: Desk, kind: str, dice: Random) -> None:
    agent = dice.choice(AGENTS)
    known = desk.world.agents.get(agent)
    session = known.session if known else 0
    match kind:
        case "join":
            models = [[], [], ["t4"], ["a100"] * 2, ["t4", "t4", "a100"]]
            capacity = a_capacity(
                dice.choice([1, 2, 4]), gpus=dice.choice(models), memory_gib=dice.choice([2, 4, 8])
            )
            desk.join(agent, capacity, labels=dice.choice([{}, {"team": "x"}]), boot=str(session))
        case "submit":
            desk.turn(*(submission(desk, dice) for _ in range(dice.choice([1, 1, 3]))))
        case "exit":
            live = sorted(k for k, a in desk.world.attempts.items() if a.state not in TERMINAL)
            ended = dice.sample(live, min(len(live), dice.choice([1, 1, 2, 5])))
            owners = {key: desk.world.attempts[key].agent_id for key in ended}
            desk.turn(*(ev.AttemptExited(key, owners[key], Exit(code=0)) for key in ended))
        case "cancel":
            waiting = sorted(task for task in desk.world.tasks if desk.status(task) == "queued")
            if waiting:
                desk.turn(ev.CancelRequested((dice.choice(waiting),)))
        case "wait":
            desk.wait(dice.choice([1, 6, 20]))
        case "drain":
            desk.turn(ev.DrainRequested(agent, drain=dice.random() < 0.5))
        case "silent":
            desk.turn(ev.AgentSilent(agent, session))
        case "heard":
            desk.turn(ev.AgentHeard(agent, session))
        case "lost":
            desk.turn(ev.AgentLost(agent))
        case _:
            raise AssertionError(kind)


def submission(desk: Desk, dice: Random) -> ev.JobSubmitted:
    wanted = Requirements(
        cpus_milli=dice.choice([0, 500, 1_000, 1_000, 2_000, 4_000]),
        memory_bytes=dice.choice([0, 0, GIB, 3 * GIB]),
        disk_bytes=dice.choice([0, 0, 0, 60 * GIB]),
        gpus=dice.choice([0, 0, 0, 1, 2]),
        gpu_model=dice.choice(["", "t4"]),
        labels=dice.choice([(), (), (("team", "x"),)]),
    )
    task = a_task(
        requirements=wanted,
        num_nodes=dice.choice([1, 1, 1, 2, 3]),
        array_count=dice.choice([None, 2, 5]),
        priority=dice.choice(list(Priority)),
        exclusive=dice.random() < 0.2,
    )
    return desk.submission(a_job(task), project=dice.choice("pq"))


KINDS = ["join"] * 3 + ["submit"] * 6 + ["exit"] * 6 + ["wait"] * 2
KINDS += ["cancel", "cancel", "drain", "silent", "heard", "lost"]


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 1 << 20)), max_size=25),
    st.sampled_from([1, 3, 5_000]),
)
def test_the_shelves_decide_as_the_plain_rule_does(story, placements):
    desk = Compared(Policy(reserve_after_s=5.0, placements_per_turn=placements), check=False)
    for name in ("a0", "a1"):
        desk.join(name, a_capacity(4, gpus=["t4"]))
    for kind, seed in story:
        happen(desk, kind, Random(seed))


def test_the_stories_are_about_something():
    """Placements, classes that are stuck, and agents that are kept free: else nothing was compared."""
    desk = Compared(Policy(reserve_after_s=5.0), check=False)
    dice = Random(1)
    for _ in range(120):
        happen(desk, dice.choice(KINDS), dice)
    assert (desk.chosen > 60, desk.stuck > 30, desk.reserved > 15) == (True, True, True)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(*[st.integers(0, 3)] * 4), max_size=40), st.tuples(*[st.integers(0, 3)] * 3)
)
def test_a_walk_meets_those_with_enough_in_order_and_can_be_taken_up_anywhere(puts, wish):
    book = shelves.Shelves()
    rooms = {}
    for agent, cpus, memory, gpus in puts:
        name = AgentId(f"a{agent}")
        if (cpus, memory, gpus) == (0, 0, 0):
            rooms.pop(name, None)
            book.drop(name)
        else:
            rooms[name] = Room(a_capacity(cpus, gpus=["t4"] * gpus, memory_gib=memory))
            book.put(name, rooms[name])
    wanted = Requirements(cpus_milli=wish[0] * 1_000, memory_bytes=wish[1] * GIB, gpus=wish[2])
    enough = sorted(shelves.fit(name, r) for name, r in rooms.items() if r.fits(wanted))
    assert list(book.walk(wanted)) == enough
    for number, fit in enumerate(enough):
        assert list(book.walk(wanted, fit)) == enough[number:]
