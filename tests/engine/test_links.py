"""Rows become messages, in strict priority and bounded; what is owed is sent again."""

from datetime import timedelta

import pytest

from styx.core import event as ev
from styx.core.attempt import Exit, StopReason
from styx.core.ids import AgentId, AttemptKey, JobId, TaskId
from styx.core.spec import DEFAULT_GRACE_S, TaskSpec
from styx.engine import links as linked
from styx.engine.links import Link, Links
from styx.wire import agent as wire
from tests.support.desk import Desk, a_capacity, a_task


class Office:
    """A world and its links. What a turn owes is sent, as the engine does it."""

    def __init__(self) -> None:
        self.desk = Desk()
        self.links = Links(
            lambda: self.desk.world,
            term=lambda: 9,
            clock=lambda: self.desk.now,
            monotonic=lambda: 0.0,
            redrive_s=5.0,
        )
        step = self.desk._step

        def acting(events):
            delta = step(events)
            self.links.act(delta)
            return delta

        self.desk._step = acting

    def join(self, name: str = "a1", cpus: float = 2) -> Link:
        self.desk.join(name, a_capacity(cpus))
        link = Link(0.0)
        link.agent_id, link.store_id, link.session, link.synced = AgentId(name), "s1", 1, True
        self.links.attach(link)
        return link

    def key(self, task) -> AttemptKey:
        return self.desk.live(task).key


def taken(link: Link) -> list[object]:
    """What lies ready to be sent."""
    return list(link._next())


@pytest.fixture
def office() -> Office:
    return Office()


async def test_an_assign_carries_all_that_the_agent_needs(office: Office):
    one, two = office.join("a1", 1), office.join("a2", 1)
    office.desk.submit(a_task("train", num_nodes=2))
    first, second = taken(one), taken(two)
    assigns = [*first, *second]
    assert [assign.key.rank for assign in assigns] == [0, 1]
    for assign in assigns:
        assert isinstance(assign, wire.Assign)
        assert (assign.term, assign.name, assign.job_id) == (9, "train", office.desk.last_job)
        assert assign.node_ips == ("10.0.0.1", "10.0.0.1")
        version, trace, span, flags = assign.traceparent.split("-")
        assert (version, trace, flags) == ("00", office.desk.last_job.replace("-", ""), "01")
        assert len(span) == 16
    assert assigns[0].traceparent != assigns[1].traceparent


async def test_an_array_element_carries_its_index_and_value(office: Office):
    link = office.join()
    office.desk.submit(a_task("eval", array_count=2, array_values=("x", "y")))
    assert [(a.name, a.array_index, a.array_value) for a in taken(link)] == [
        ("eval/0", 0, "x"),
        ("eval/1", 1, "y"),
    ]


async def test_control_goes_before_assigns_and_assigns_before_the_rest(office: Office):
    link = office.join()
    (task,) = office.desk.submit(a_task())
    key = office.key(task)
    link.send(wire.Forget(key))
    link.send(wire.LogOk(key, 1, 10))
    link.send(wire.HeartbeatOk(1))
    kinds = [type(message) for message in taken(link)]
    assert kinds == [wire.HeartbeatOk, wire.Assign, wire.LogOk, wire.Forget]


async def test_only_the_newest_log_offset_is_sent(office: Office):
    link = office.join()
    key = AttemptKey("t", 1, 0)
    for offset in (10, 20, 30):
        link.send(wire.LogOk(key, 1, offset))
    link.send(wire.LogOk(key, 2, 5))
    assert taken(link) == [wire.LogOk(key, 1, 30), wire.LogOk(key, 2, 5)]


async def test_an_agent_that_reads_nothing_is_closed_not_buffered(
    office: Office, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(linked, "CONTROL_LIMIT", 3)
    link = office.join()
    for seq in range(4):
        link.send(wire.HeartbeatOk(seq))
    assert link.bye is not None
    assert link.bye.code == wire.CLOSE_OVERLOAD


async def test_a_cancel_sends_a_stop_and_the_end_a_forget(office: Office):
    link = office.join()
    (task,) = office.desk.submit(a_task())
    key = office.key(task)
    taken(link)
    office.desk.turn(ev.CancelRequested((task,)))
    assert taken(link) == [wire.Stop(key, 9, StopReason.CANCEL, DEFAULT_GRACE_S)]
    office.desk.turn(ev.AttemptExited(key, link.agent_id, Exit(signal=15, signalled=True)))
    assert taken(link) == [wire.Forget(key)]


async def test_nothing_is_directed_before_the_session_is_synced(office: Office):
    link = office.join()
    link.synced = False
    office.desk.submit(a_task())
    office.links.redrive(0.0)
    assert taken(link) == []


async def test_owed_directives_are_sent_again_until_the_row_changes(office: Office):
    link = office.join()
    (task,) = office.desk.submit(a_task())
    key = office.key(task)
    (assign,) = taken(link)
    office.links.redrive(5.0)
    assert taken(link) == [], "younger than the redrive"
    office.desk.now += timedelta(seconds=5)
    office.links.redrive(5.0)
    assert taken(link) == [assign]
    office.desk.turn(ev.AttemptAccepted(key, link.agent_id))
    office.links.redrive(5.0)
    assert taken(link) == []
    office.desk.turn(ev.CancelRequested((task,)))
    (stop,) = taken(link)
    office.desk.now += timedelta(seconds=5)
    office.links.redrive(5.0)
    assert taken(link) == [stop]


async def test_forget_is_not_redriven(office: Office):
    link = office.join()
    (task,) = office.desk.submit(a_task(retries=1))
    office.desk.exit(task, 1)
    assert [type(message) for message in taken(link)] == [wire.Assign, wire.Forget]
    office.desk.now += timedelta(seconds=5)
    office.links.redrive(5.0)
    assert taken(link) == []


async def test_a_newer_session_closes_the_older(office: Office):
    old, new = office.join(), Link(0.0)
    new.agent_id = old.agent_id
    office.links.attach(new)
    assert old.bye is not None
    assert old.bye.code == wire.CLOSE_SUPERSEDED
    assert not office.links.detach(old)
    assert office.links.connected(old.agent_id)
    assert office.links.detach(new)
    assert not office.links.connected(old.agent_id)


async def test_an_attempt_that_is_nobodys_or_over_is_told_to_stop(office: Office):
    mine, other = office.join("a1"), office.join("a2")
    (task,) = office.desk.submit(a_task())
    key = office.key(task)
    holder, stranger = (mine, other) if office.desk.live(task).agent_id == "a1" else (other, mine)
    taken(holder)
    office.links.remind(holder, key)
    assert taken(holder) == []
    stop = wire.Stop(key, 9, StopReason.SUPERSEDED, DEFAULT_GRACE_S)
    office.links.remind(stranger, key)
    assert taken(stranger) == [stop]
    office.desk.exit(task)
    taken(holder)
    office.links.remind(holder, key)
    assert taken(holder) == [stop]
    office.links.release(holder, key)
    assert taken(holder) == [wire.Forget(key)]


async def test_a_closed_link_sends_what_is_queued_and_then_ends(office: Office):
    link = office.join()
    link.send(wire.Pause())
    link.close(wire.Bye(wire.CLOSE_RESTART))
    assert await link.take() == [wire.Pause()]
    assert await link.take() == []


def an_assign() -> wire.Assign:
    key = AttemptKey(TaskId("t"), 1, 0)
    return wire.Assign(key, 9, JobId("j"), "t", TaskSpec("t", argv=("true",)))


async def test_a_closing_link_starts_nothing_and_grants_no_lease():
    link = Link(0.0)
    link.send(wire.HeartbeatOk(1))
    link.send(an_assign())
    link.send(wire.Pause())
    link.close(wire.Bye(wire.CLOSE_RESTART, "declared lost"))
    link.send(wire.HeartbeatOk(2))
    link.send(an_assign())
    assert await link.take() == [wire.Pause()]
    assert await link.take() == []
