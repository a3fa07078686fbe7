"""Silence, told by a clock that is moved by hand."""

from datetime import UTC, datetime

import pytest

from styx.core import event as ev
from styx.core.agent import AgentState
from styx.core.ids import AgentId
from styx.engine import detector, pace
from styx.engine.detector import Detector
from styx.engine.links import Link, Links
from styx.wire import agent as wire
from tests.support.desk import Desk

SUSPECT_S = 15.0
LOST_S = 300.0


class Room:
    """A world, its links and the detector that watches them, at a time set by hand."""

    def __init__(self) -> None:
        self.now_s = 1_000.0
        self.desk = Desk()
        self.links = Links(
            lambda: self.desk.world,
            term=lambda: 1,
            clock=lambda: datetime.now(UTC),
            monotonic=lambda: self.now_s,
            redrive_s=5.0,
        )
        self.detector = self.fresh_detector()

    def fresh_detector(self) -> Detector:
        return Detector(
            self.links, suspect_after_s=SUSPECT_S, lost_after_s=LOST_S, start_s=self.now_s
        )

    def join(self, name: str) -> Link:
        agent_id = self.desk.join(name)
        link = Link(self.now_s)
        link.agent_id, link.session, link.synced = agent_id, 1, True
        self.links.attach(link)
        return link

    def cut(self, link: Link) -> None:
        self.links.detach(link)
        self.desk.turn(ev.AgentDisconnected(link.agent_id, 1))

    def look(self) -> list[ev.Event]:
        """Look, and let the world know what was seen."""
        found = self.detector.look(self.desk.world.agents, self.now_s)
        delta = self.desk.turn(*found)
        self.links.act(delta)
        return found

    def wait(self, seconds: float, *speaking: Link) -> list[ev.Event]:
        found: list[ev.Event] = []
        end_s = self.now_s + seconds
        while self.now_s < end_s:
            self.now_s = min(end_s, self.now_s + 1.0)
            for link in speaking:
                link.heard_s = self.now_s
            found += self.look()
        return found

    def state(self, name: str) -> AgentState:
        return self.desk.world.agents[AgentId(name)].state


@pytest.fixture
def room() -> Room:
    return Room()


def test_who_was_asked_to_beat_seldom_may_be_silent_for_longer(room: Room):
    links = [room.join(f"a{number}") for number in range(detector.BRAKE_AGENTS)]
    for link in links:
        link.every = 4
    assert room.wait(4 * SUSPECT_S - 1) == []
    assert len(room.wait(1)) == len(links)


@pytest.mark.parametrize(
    ("agents", "lost_after_s", "every"),
    [(1, LOST_S, 1), (250, LOST_S, 1), (251, LOST_S, 2), (1_000, LOST_S, 4), (10_000, LOST_S, 4), (1_000, 60, 2), (1_000, 5, 1)],
)  # fmt: skip
def test_many_agents_beat_less_often_but_often_enough_for_their_lease(
    agents: int, lost_after_s: float, every: int
):
    assert pace.every(agents, lost_after_s) == every


def test_a_silent_agent_is_suspected_heard_again_and_trusted_again(room: Room):
    link = room.join("a1")
    assert room.wait(SUSPECT_S - 1) == []
    assert room.wait(1) == [ev.AgentSilent(AgentId("a1"), 1)]
    assert room.wait(10) == []
    link.heard_s = room.now_s
    assert room.look() == [ev.AgentHeard(AgentId("a1"), 1)]
    assert room.state("a1") is AgentState.READY


def test_a_stall_of_the_server_does_not_make_a_suspect_trusted(room: Room):
    link = room.join("a1")
    room.wait(SUSPECT_S)
    room.now_s += detector.STALL_S + 1
    assert room.look() == []
    assert room.state("a1") is AgentState.SUSPECT
    link.heard_s = room.now_s
    assert room.look() == [ev.AgentHeard(AgentId("a1"), 1)]


def test_a_draining_agent_is_not_heard_over_and_over(room: Room):
    link = room.join("a1")
    room.desk.turn(ev.DrainRequested(AgentId("a1"), drain=True))
    assert room.wait(30, link) == []
    assert room.state("a1") is AgentState.DRAINING


def test_silence_beyond_the_limit_is_a_loss_and_closes_the_session(room: Room):
    link = room.join("a1")
    room.wait(LOST_S - 1)
    assert room.state("a1") is AgentState.SUSPECT
    assert room.wait(1) == [ev.AgentLost(AgentId("a1"))]
    assert room.state("a1") is AgentState.GONE
    assert link.bye is not None
    assert link.bye.code == wire.CLOSE_RESTART


def test_a_cut_agent_has_the_same_limit_counted_from_its_last_word(room: Room):
    link = room.join("a1")
    room.wait(100, link)
    room.cut(link)
    assert room.wait(LOST_S - 1) == []
    assert room.wait(1) == [ev.AgentLost(AgentId("a1"))]


def test_a_new_server_counts_from_its_own_start(room: Room):
    room.cut(room.join("a1"))
    room.wait(LOST_S - 10)
    room.links = Links(
        lambda: room.desk.world,
        term=lambda: 2,
        clock=lambda: datetime.now(UTC),
        monotonic=lambda: room.now_s,
        redrive_s=5.0,
    )
    room.detector = room.fresh_detector()
    assert room.wait(LOST_S - 1) == []
    assert room.wait(1) == [ev.AgentLost(AgentId("a1"))]


def test_rows_that_claim_a_link_which_is_not_there_are_corrected(room: Room):
    """As after a crash of the server, or when a disconnect could not be committed."""
    room.desk.join("a1")
    assert room.look() == [ev.AgentDisconnected(AgentId("a1"), 1)]
    assert room.look() == []


def test_a_detector_that_slept_blames_nobody_for_it(room: Room):
    room.join("a1")
    room.look()
    room.now_s += 10 * LOST_S  # the machine was suspended
    assert room.look() == []
    assert room.wait(SUSPECT_S - 1) == []


def test_most_falling_silent_at_once_stops_the_losses(room: Room):
    cut = [room.join(f"a{n}") for n in range(3)]
    speaking = [room.join(f"b{n}") for n in range(2)]
    for link in cut:
        room.cut(link)
    assert room.wait(LOST_S + 60, *speaking) == []
    assert room.wait(detector.BRAKE_MAX_S, *speaking) == [
        ev.AgentLost(link.agent_id) for link in cut
    ]


def test_a_minority_is_lost_without_brake(room: Room):
    cut = [room.join(f"a{n}") for n in range(3)]
    speaking = [room.join(f"b{n}") for n in range(3)]
    for link in cut:
        room.cut(link)
    assert len(room.wait(LOST_S, *speaking)) == 3


def test_the_brake_lets_go_when_most_speak_again(room: Room):
    links = [room.join(f"a{n}") for n in range(4)]
    for link in links[:3]:
        room.cut(link)
    assert room.wait(LOST_S + 60, links[3]) == []
    back = [room.join(f"a{n}") for n in range(1, 3)]
    assert ev.AgentLost(AgentId("a0")) in room.wait(2, links[3], *back)
