"""Agents that come back all at once are let in a few at a time, and what they may send has one bound."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from styx.core.ids import AgentId
from styx.engine import admission, session
from styx.engine.admission import Credit, Doorstep, Handshakes
from styx.engine.loop import Engine
from styx.engine.ports import Leader
from styx.kit import uuid7
from styx.store.postgres import Database
from styx.wire import agent as wire
from tests.support import peer as peers
from tests.support.engines import Gate, log_files, running, within
from tests.support.peer import Peer, connected


@pytest.fixture
async def engine(database: Database, tmp_path: Path) -> AsyncIterator[Engine]:
    async with running(Gate(database), log_files(database, tmp_path)) as opened:
        yield opened


def test_the_refused_come_back_as_fast_as_they_are_let_in():
    now_s = 100.0
    handshakes = Handshakes(lambda: now_s)
    waiting = [0.0] * 1_000  # who may come, and when
    for second in range(5):
        now_s = 100.0 + second
        due = [at for at in waiting if at <= second + 1e-9]
        waits = [handshakes.wait_s() for _ in due]
        assert waits.count(0.0) == min(len(due), admission.HANDSHAKES_PER_S)
        if second == 0:
            waiting = [wait for wait in waits if wait]
            for n in range(1, 5):
                assert sum(n < wait <= n + 1 for wait in waits) == admission.HANDSHAKES_PER_S


def test_credit_is_large_for_few_small_for_many_and_never_above_its_bound():
    credit = Credit()
    assert credit.lend() == wire.LOG_CREDIT_BYTES
    lent = [credit.lend() for _ in range(1_023)]
    assert min(lent) >= admission.CREDIT_LEAST_BYTES
    assert sum(lent) + wire.LOG_CREDIT_BYTES <= 256 << 20
    for share in lent:
        credit.take_back(share)
    assert credit.lend() == wire.LOG_CREDIT_BYTES


async def test_more_hellos_than_a_second_may_bring_are_told_to_come_again(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(admission, "HANDSHAKES_PER_S", 1)
    engine.links.handshakes = Handshakes(lambda: 7.0)
    async with connected(engine) as first:
        await first.introduce()
        second = AgentId(uuid7.new())
        async with connected(engine, second) as late:
            late.say(peers.hello(second))
            bye = await late.hear(wire.Bye)
            assert (bye.code, bye.retry_after_s) == (wire.CLOSE_OVERLOAD, 2.0)
            assert second not in engine.world.agents
        engine.links.handshakes = Handshakes(lambda: 8.0)
        async with connected(engine, second) as again:
            await again.introduce()
        await first.beat()


async def test_who_has_not_said_who_it_is_keeps_only_so_many_others_waiting(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(admission, "UNREADY_MAX", 1)
    async with connected(engine) as mute:
        while engine.links.doorstep.room:
            await asyncio.sleep(0.001)
        other = AgentId(uuid7.new())
        async with connected(engine, other) as refused:
            bye = await refused.hear(wire.Bye)
            assert bye.code == wire.CLOSE_OVERLOAD
            assert bye.retry_after_s > 0
        await mute.introduce()
        async with connected(engine, other) as let_in:
            await let_in.introduce()


async def test_a_follower_answers_at_once_when_too_many_wait(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(admission, "UNREADY_MAX", 0)
    mute = Peer()
    await within(session.refuse(mute, Leader(7, "http://other:7171"), Doorstep()))
    assert (await mute.hear(wire.Bye)).reason == "http://other:7171"
