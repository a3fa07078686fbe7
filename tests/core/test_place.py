"""Who runs where, and in which order."""

import random

from msgspec.structs import replace

from styx.core.policy import Policy
from styx.core.spec import Priority, Requirements
from tests.support.desk import GIB, Desk, a_capacity, a_task


def desk(**policy) -> Desk:
    return Desk(Policy(**policy))


def names_on(desk: Desk, agent: str) -> set[str]:
    return {
        desk.world.tasks[a.task_id].name
        for a in desk.world.attempts.values()
        if a.agent_id == agent
    }


def test_order_is_priority_then_age():
    d = Desk()
    d.join(capacity=a_capacity(1))
    (busy,) = d.submit(a_task("busy"))
    priorities = [p for p in Priority for _ in range(25)]
    random.Random(7).shuffle(priorities)
    for i, priority in enumerate(priorities):
        d.submit(a_task(f"{priority}-{i:03}", priority=priority))
    d.exit(busy)
    d.run_all()
    wanted = sorted(
        (f"{p}-{i:03}" for i, p in enumerate(priorities)),
        key=lambda name: (-list(Priority).index(Priority(name[:-4])), name[-3:]),
    )
    assert d.finished[1:] == wanted


def test_a_small_task_overtakes_a_big_one_that_does_not_fit():
    d = Desk()
    d.join(capacity=a_capacity(2))
    d.submit(a_task("one"))
    d.submit(a_task("big", cpus=2, priority=Priority.HIGH))
    d.submit(a_task("small"))
    assert names_on(d, "a1") == {"one", "small"}


def test_an_alternative_is_taken_held_and_given_back():
    d = Desk()
    d.join("big", a_capacity(8, memory_gib=32))
    d.join("small", a_capacity(2))
    one, four = Requirements(cpus_milli=2_000), Requirements(cpus_milli=5_000)
    either = replace(four, any_of=(four, one))
    ids = d.submit(*(a_task(f"t{n}", requirements=either) for n in range(3)))
    assert [(d.live(i).agent_id, d.live(i).choice) for i in ids] == [
        ("small", 1),  # leaves nothing over
        ("big", 0),  # leaves less than the other one there
        ("big", 1),  # all that fits
    ]
    assert d.world.rooms["big"].cpus_milli == 1_000
    d.exit(ids[1])
    assert d.world.rooms["big"].cpus_milli == 6_000
    (ordered,) = d.submit(a_task("first", requirements=replace(either, ordered=True)))
    assert d.live(ordered).choice == 0
    gang = Requirements(cpus_milli=1_000, any_of=(replace(one, cpus_milli=3_000), Requirements()))
    (waits,) = d.submit(a_task("gang", requirements=gang, num_nodes=2))
    d.exit(ids[0])
    members = d.world.attempts_of_task(waits)
    assert sorted((a.agent_id, a.choice) for a in members) == [("big", 1), ("small", 1)]


def test_an_alternative_that_was_not_taken_is_there_for_the_next():
    d = Desk()
    for name in ("x", "y"):
        d.join(name, a_capacity(5))
    for name in ("b1", "b2"):
        d.join(name, a_capacity(2))
    two, four = Requirements(cpus_milli=2_000), Requirements(cpus_milli=4_000)
    either = replace(four, any_of=(four, two))
    tasks = [a_task(f"gang{n}", requirements=either, num_nodes=2) for n in range(2)]
    gangs = d.submit(*tasks)  # both in one turn
    taken = [{(a.agent_id, a.choice) for a in d.world.attempts_of_task(gang)} for gang in gangs]
    assert taken == [{("b1", 1), ("b2", 1)}, {("x", 0), ("y", 0)}]


def stream_of_small_ones(d: Desk, until: str, rounds: int = 300) -> int:
    """Keep two slots busy with one-cpu tasks, one ending each second; return when `until` started."""
    running = [d.submit(a_task(f"s{i}"))[0] for i in range(2)]
    backlog = [d.submit(a_task(f"q{i}"))[0] for i in range(2)]
    (big,) = d.submit(a_task(until, cpus=2))
    for second in range(rounds):
        if d.status(big) == "assigned":
            return second
        d.wait(1)
        live = [t for t in running + backlog if d.status(t) == "assigned"]
        d.exit(min(live))
        backlog.append(d.submit(a_task(f"n{second}"))[0])
    return rounds


def test_a_big_task_is_not_starved_by_a_stream_of_small_ones():
    d = desk(reserve_after_s=30)
    d.join(capacity=a_capacity(2))
    # Older small tasks are served first; later ones may overtake for 30 s, not for ever.
    assert 29 <= stream_of_small_ones(d, "big") <= 40


def test_without_reservation_the_same_stream_would_starve_it():
    d = desk(reserve_after_s=1e9)
    d.join(capacity=a_capacity(2))
    assert stream_of_small_ones(d, "big", rounds=100) == 100


def test_a_reservation_lets_through_what_leaves_room_for_it():
    d = desk(reserve_after_s=10)
    d.join(capacity=a_capacity(4))
    (long,) = d.submit(a_task("long", cpus=2))
    (big,) = d.submit(a_task("big", cpus=3))
    d.wait(11)
    (in_the_way,) = d.submit(a_task("in-the-way", cpus=2))
    (beside,) = d.submit(a_task("beside", cpus=1))
    assert d.status(big) == "queued"
    assert d.status(in_the_way) == "queued", "it would keep 3 cpus from coming free"
    assert d.status(beside) == "queued", "2 run already: with this one, 3 never come free together"
    d.exit(long)
    assert d.status(big) == "assigned"
    assert d.status(beside) == "assigned", "1 of 4 cpus is left beside the big one"


def test_a_reservation_ends_with_the_task_it_was_for():
    d = desk(reserve_after_s=10)
    d.join(capacity=a_capacity(4))
    d.submit(a_task("long", cpus=2))
    (big,) = d.submit(a_task("big", cpus=3))
    d.wait(11)
    (small,) = d.submit(a_task("small", cpus=2))
    assert d.status(small) == "queued"
    from styx.core.event import CancelRequested

    d.turn(CancelRequested((big,)))
    assert d.status(small) == "assigned"


def test_the_tightest_fit_keeps_big_holes_whole():
    d = Desk()
    d.join("large", a_capacity(8))
    d.join("small", a_capacity(2))
    d.submit(a_task("two", cpus=2))
    assert names_on(d, "small") == {"two"}


def test_a_task_without_a_gpu_leaves_gpus_alone_while_it_can():
    d = Desk()
    d.join("gpu", a_capacity(2, gpus=["nvidia a100"]))
    d.join("plain", a_capacity(4))
    d.submit(a_task("a", cpus=2), a_task("b", cpus=2), a_task("c", cpus=2))
    assert names_on(d, "plain") == {"a", "b"}
    assert names_on(d, "gpu") == {"c"}


def test_gpus_are_counted_by_model():
    d = Desk()
    d.join("mixed", a_capacity(16, gpus=["nvidia t4"] * 2 + ["nvidia a100-sxm4-80gb"] * 2))
    wanted = Requirements(gpus=2, gpu_model="a100")
    (first,) = d.submit(a_task("first", requirements=wanted))
    (second,) = d.submit(a_task("second", requirements=wanted))
    (any_two,) = d.submit(a_task("any", gpus=2))
    assert (d.status(first), d.status(second), d.status(any_two)) == (
        "assigned",
        "queued",
        "assigned",
    )
    d.exit(any_two)
    assert d.status(second) == "queued", "the freed ones are T4s"
    d.exit(first)
    assert d.status(second) == "assigned"


def test_memory_labels_and_architecture_must_match():
    d = Desk()
    d.join("a1", a_capacity(8, memory_gib=4), labels={"team": "vision"})
    for name, wanted, fits in [
        ("memory", Requirements(memory_bytes=5 * GIB), False),
        ("enough", Requirements(memory_bytes=4 * GIB), True),
        ("label", Requirements(labels=(("team", "speech"),)), False),
        ("own-label", Requirements(labels=(("team", "vision"),)), True),
        ("arch", Requirements(arch="aarch64"), False),
        ("own-arch", Requirements(arch="x86_64"), True),
    ]:
        (task,) = d.submit(a_task(name, requirements=wanted))
        assert d.status(task) == ("assigned" if fits else "queued"), name


def test_what_an_attempt_holds_is_never_more_than_there_is():
    d = Desk()
    d.join(capacity=a_capacity(3))
    d.submit(a_task("x", cpus=0.7, array_count=20))
    assert len(names_on(d, "a1")) == 4
    assert d.world.rooms["a1"].cpus_milli == 200


def test_a_gang_is_placed_whole_on_distinct_agents():
    d = Desk()
    d.join("a1")
    (gang,) = d.submit(a_task("gang", num_nodes=2))
    assert d.status(gang) == "queued"
    d.join("a2")
    assert d.status(gang) == "assigned"
    assert {d.live(gang, rank).agent_id for rank in range(2)} == {"a1", "a2"}


def test_a_gang_takes_up_a_freed_agent_beside_one_that_was_free_before():
    d = Desk()
    d.join("a1", a_capacity(1))
    d.join("a2", a_capacity(1))
    (busy,) = d.submit(a_task("busy"))
    (gang,) = d.submit(a_task("gang", num_nodes=2))
    assert d.status(gang) == "queued"
    d.exit(busy)
    assert d.status(gang) == "assigned"


def test_two_gangs_never_hold_half_of_each_other():
    d = desk(reserve_after_s=5)
    agents = ["a1", "a2", "a3"]
    for name in agents:
        d.join(name, a_capacity(1))
    busy = [d.submit(a_task(f"busy{i}"))[0] for i in range(3)]
    (one,) = d.submit(a_task("one", num_nodes=3))
    (two,) = d.submit(a_task("two", num_nodes=2))
    d.wait(6)
    for task in busy:
        d.exit(task)
        held = {d.tasks[a.task_id].name for a in d.world.attempts.values() if a.state == "assigned"}
        assert not {"one", "two"} <= held
    assert d.status(one) == "assigned", "the older gang first"
    for rank in range(3):
        d.exit(one, rank=rank)
    assert d.status(two) == "assigned"


def test_projects_share_fairly_within_a_priority():
    d = Desk()
    d.join(capacity=a_capacity(1))
    (busy,) = d.submit(a_task("busy"), project="zero")
    d.submit(*(a_task(f"a{i}") for i in range(4)), project="a")
    d.submit(*(a_task(f"b{i}") for i in range(4)), project="b")
    d.join("a2", a_capacity(4))
    assert sorted(d.started[1:]) == ["a0", "a1", "b0", "b1"], "two slots each, though a came first"
    d.exit(busy)


def test_a_bounded_turn_goes_on_where_it_stopped():
    d = desk(placements_per_turn=10)
    d.join(capacity=a_capacity(64))
    d.submit(a_task("x", array_count=64))
    assert len(names_on(d, "a1")) == 64


def test_no_new_work_for_an_agent_that_drains_or_is_silent():
    from styx.core import event as ev

    d = Desk()
    agent = d.join()
    d.turn(ev.DrainRequested(agent, drain=True))
    (task,) = d.submit(a_task())
    assert d.status(task) == "queued"
    d.turn(ev.DrainRequested(agent, drain=False))
    assert d.status(task) == "assigned"
    d.turn(ev.AgentSilent(agent, 1))
    (second,) = d.submit(a_task())
    assert d.status(second) == "queued"
    d.turn(ev.AgentHeard(agent, 1))
    assert d.status(second) == "assigned"
