"""Work that an agent is given beyond its room: which, how much, and when none."""

import msgspec

from styx.core import event as ev
from styx.core.attempt import TERMINAL, Exit
from styx.core.explain import hindrances
from styx.core.ids import AgentId
from styx.core.policy import Policy, pace_ms
from styx.core.spec import Requirements
from styx.core.task import Reason
from tests.support.desk import Desk, a_capacity, a_task


def an_agent(desk: Desk, name: str = "a1", *, cpus: float = 2, ahead: int = 6, **capacity):
    return desk.join(name, msgspec.structs.replace(a_capacity(cpus, **capacity), ahead=ahead))


def held(desk: Desk, agent: str) -> int:
    return sum(a.agent_id == agent and a.state not in TERMINAL for a in desk.attempts.values())


def known(desk: Desk, ran_ms: int, **task) -> None:
    """Let the class of such a task be known for how long its tasks run."""
    (first,) = desk.submit(a_task(**task))
    desk.exit(first, ran_ms=ran_ms)


def submit(desk: Desk, width: int, ran_ms: int = 2, **task):
    """An array of a known class, of which the first has just ended: at its agent something comes free."""
    known(desk, ran_ms, **task)
    tasks = desk.submit(a_task(array_count=width, **task))
    desk.exit(tasks[0], ran_ms=ran_ms)
    return tasks[1:]


def test_what_is_over_in_a_moment_is_given_ahead_up_to_what_the_agent_takes():
    desk = Desk()
    an_agent(desk)
    submit(desk, 20)
    assert held(desk, "a1") == 2 + 6


def test_each_that_ends_makes_place_for_one_more():
    desk = Desk()
    an_agent(desk)
    tasks = submit(desk, 21)
    for done, task in enumerate(tasks[:12], start=1):
        desk.exit(task, ran_ms=2)
        assert held(desk, "a1") == min(8, 20 - done)


def test_who_wants_no_memory_goes_ahead_though_others_have_taken_more_than_there_is():
    desk = Desk()
    an_agent(desk, memory_gib=2, ahead=20)
    known(desk, ran_ms=1)
    hungry = Requirements(cpus_milli=1_000, memory_bytes=1 << 30)
    tasks = submit(desk, 12, ran_ms=1, requirements=hungry)
    assert desk.world.rooms[AgentId("a1")].memory_bytes < 0
    given = held(desk, "a1")
    plain = desk.submit(a_task("plain", array_count=4))
    desk.exit(tasks[0], ran_ms=1)
    assert held(desk, "a1") > given
    assert any(a.task_id in plain for a in desk.attempts.values())


def test_where_nothing_ends_nothing_is_given_ahead():
    desk = Desk()
    an_agent(desk)
    known(desk, ran_ms=2)
    desk.submit(a_task(array_count=20))
    assert held(desk, "a1") == 2


def test_only_the_room_that_comes_free_time_and_again_counts():
    desk = Desk()
    an_agent(desk, cpus=4, ahead=100)
    long = desk.submit(a_task(array_count=3))
    assert held(desk, "a1") == len(long)
    desk.wait(2)
    submit(desk, 99, ran_ms=50)
    assert held(desk, "a1") == 3 + 1 + 2


def test_where_only_long_tasks_run_nothing_is_given_ahead():
    desk = Desk()
    an_agent(desk)
    known(desk, ran_ms=2)
    (ends, *_) = desk.submit(a_task(array_count=2))
    desk.wait(2)
    desk.submit(a_task("big", cpus=1.5, array_count=1))
    desk.exit(ends, ran_ms=2)
    desk.submit(a_task(array_count=20))
    assert held(desk, "a1") == 2


def test_a_class_of_longer_tasks_is_given_nothing_ahead():
    desk = Desk()
    an_agent(desk)
    submit(desk, 20, ran_ms=5_000)
    assert held(desk, "a1") == 2


def test_what_waits_there_waits_for_a_tenth_of_a_second_at_most():
    for ran_ms, ahead in ((100, 2), (50, 4), (101, 0)):
        desk = Desk()
        an_agent(desk)
        submit(desk, 20, ran_ms)
        assert held(desk, "a1") == 2 + ahead, ran_ms


def test_an_agent_that_takes_nothing_ahead_is_given_nothing_ahead():
    desk = Desk()
    an_agent(desk, ahead=0)
    submit(desk, 20)
    assert held(desk, "a1") == 2


def test_the_least_laden_is_given_the_next():
    desk = Desk()
    an_agent(desk, "small", cpus=1, ahead=100)
    an_agent(desk, "big", cpus=3, ahead=100)
    known(desk, ran_ms=2)
    tasks = desk.submit(a_task(array_count=26))
    of = {desk.live(task).agent_id: desk.live(task) for task in tasks[:4]}
    desk.turn(*(ev.AttemptExited(a.key, name, Exit(code=0, ran_ms=2)) for name, a in of.items()))
    assert (held(desk, "small"), held(desk, "big")) == (1 + 5, 3 + 15)


def test_where_memory_is_what_there_is_too_little_of_it_counts():
    desk = Desk()
    an_agent(desk, cpus=8, memory_gib=2, ahead=3)
    wanted = msgspec.structs.replace(a_task().requirements, memory_bytes=1 << 30)
    submit(desk, 20, requirements=wanted)
    assert held(desk, "a1") == 2 + 3


def test_devices_disks_gangs_and_what_may_run_once_at_a_time_are_not_given_ahead():
    gpu = msgspec.structs.replace(a_task().requirements, gpus=1)
    disk = msgspec.structs.replace(a_task().requirements, disk_bytes=1)
    for fields in ({"requirements": gpu}, {"requirements": disk}, {"exclusive": True}):
        desk = Desk()
        an_agent(desk, gpus=["t4", "t4"])
        submit(desk, 20, **fields)
        assert held(desk, "a1") == 2, fields


def test_while_something_longer_waits_for_the_agent_its_room_is_not_given_away():
    desk = Desk(Policy(reserve_after_s=1e9))
    an_agent(desk)
    known(desk, ran_ms=2)
    before = desk.submit(a_task(array_count=2))
    (long,) = desk.submit(a_task("long", cpus=2))
    desk.submit(a_task(array_count=30))
    assert held(desk, "a1") == 2
    desk.exit(before[0], ran_ms=2)
    assert held(desk, "a1") == 2
    desk.turn(ev.CancelRequested((long,)))
    desk.exit(before[1], ran_ms=2)
    assert held(desk, "a1") == 8


def test_what_is_next_in_line_is_given_ahead_before_something_longer_behind_it():
    desk = Desk(Policy(reserve_after_s=1e9))
    an_agent(desk)
    known(desk, ran_ms=2)
    tasks = desk.submit(a_task(array_count=12))
    desk.submit(a_task("long", cpus=2))
    desk.exit(tasks[0], ran_ms=2)
    assert held(desk, "a1") == 8


def test_what_could_never_run_on_the_agent_does_not_wait_for_it():
    desk = Desk()
    an_agent(desk)
    desk.submit(a_task("huge", cpus=64))
    submit(desk, 20)
    assert held(desk, "a1") == 8


def test_what_is_given_back_goes_elsewhere_at_once_and_nobody_is_blamed():
    desk = Desk()
    an_agent(desk)
    tasks = submit(desk, 9)
    waits = desk.live(tasks[-1])
    other = desk.join("other")
    desk.turn(ev.AttemptVoided(waits.key, waits.agent_id, Reason.AGENT_BUSY))
    assert desk.live(tasks[-1]).agent_id == other
    assert desk.tasks[tasks[-1]].infra_failures == 0
    assert desk.world.agents[waits.agent_id].rejects == 0


def test_after_one_was_given_back_its_class_is_not_given_ahead_for_a_while():
    desk = Desk()
    an_agent(desk)
    tasks = submit(desk, 200)
    waits = desk.live(tasks[7])
    desk.turn(ev.AttemptVoided(waits.key, waits.agent_id, Reason.AGENT_BUSY))
    for task in tasks[:6]:
        desk.exit(task, ran_ms=2)
    assert held(desk, "a1") == 2
    for _ in range(60):
        live = next(a for a in desk.attempts.values() if a.state not in TERMINAL)
        desk.exit(live.task_id, ran_ms=2)
    assert held(desk, "a1") > 2


def test_one_long_run_among_many_counts_until_many_more_were_short():
    desk = Desk()
    an_agent(desk)
    (task,) = desk.submit(a_task())
    attempt = desk.live(task)
    desk.exit(task, ran_ms=1_000)
    ended = desk.attempts[attempt.key]
    short = msgspec.structs.replace(ended, exit=msgspec.structs.replace(ended.exit, ran_ms=0))
    pace = pace_ms(None, ended)
    assert pace == 1_000
    for _ in range(20):
        pace = pace_ms(pace, short)
    assert 100 < pace < 200
    for _ in range(200):
        pace = pace_ms(pace, short)
    assert pace == 1


def test_explain_says_what_it_waits_for():
    desk = Desk()
    an_agent(desk)
    tasks = submit(desk, 9)
    desk.start(tasks[0])
    (said,) = hindrances(desk.world, tasks[7], desk.now, desk.policy)
    assert (said.code, said.subject) == ("ahead", "a1")
    assert not hindrances(desk.world, tasks[0], desk.now, desk.policy)
