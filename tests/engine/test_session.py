"""Agent sessions on a real engine, database and log store; the agent is scripted."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
import structlog.testing

from styx.core.agent import AgentState
from styx.core.attempt import AttemptState, Exit, StopReason
from styx.core.event import CancelRequested
from styx.core.ids import AgentId, AttemptKey, TaskId
from styx.core.spec import TaskSpec
from styx.core.task import Reason
from styx.engine import session
from styx.engine.admission import Doorstep
from styx.engine.loop import Engine
from styx.engine.ports import Leader
from styx.kit import uuid7
from styx.store.logs import LogFiles
from styx.store.postgres import Database
from styx.wire import agent as wire
from tests.support import peer as peers
from tests.support.engines import Gate, a_submit, log_files, running, until, within
from tests.support.peer import AGENT, Peer, a_log, an_end, connected

OTHER = AgentId("0a000000-0000-7000-8000-000000000002")


class GatedLogs(LogFiles):
    """The real log store, whose appends a test may hold back."""

    gate: asyncio.Event | None = None

    async def append(self, chunks):
        if self.gate is not None:
            await self.gate.wait()
        return await super().append(chunks)


@pytest.fixture
async def engine(database: Database, tmp_path: Path) -> AsyncIterator[Engine]:
    # No redrive comes to the help of what should have been sent at once.
    logs = GatedLogs(database, tmp_path / "logs")
    async with running(Gate(database), logs, redrive_s=3_600.0) as opened:
        yield opened


async def assigned(engine: Engine, peer: Peer, **fields: object) -> wire.Assign:
    await within(engine.post(a_submit(TaskSpec("t", argv=("true",), **fields))))
    return await peer.hear(wire.Assign)


def gate(engine: Engine) -> Gate:
    assert isinstance(engine.store, Gate)
    return engine.store


def hold_logs(engine: Engine) -> asyncio.Event:
    assert isinstance(engine.logs, GatedLogs)
    engine.logs.gate = asyncio.Event()
    return engine.logs.gate


# --- the course of a session ----------------------------------------------------------------------


async def test_a_task_from_assign_to_forget(engine: Engine):
    async with connected(engine) as peer:
        peer.say(peers.hello())
        welcome = await peer.hear(wire.Welcome)
        assert (welcome.session, welcome.term) == (1, engine.store.term)
        peer.say(wire.Sync(0, last=True))
        assert await peer.hear(wire.SyncOk) == wire.SyncOk()
        key = (await assigned(engine, peer)).key
        peer.say(wire.EvAccepted(key), wire.EvStarted(key))
        assert (await peer.hear(wire.EvOk)).kind == "accepted"
        assert (await peer.hear(wire.EvOk)).kind == "started"
        assert engine.world.attempts[key].state is AttemptState.RUNNING
        peer.say(a_log(key, b"hello\n"), an_end(key, out_bytes=6))
        assert (await peer.hear(wire.LogOk)).next == 6
        assert await peer.hear(wire.EvOk) == wire.EvOk(key, "exited")
        assert (await peer.hear(wire.Forget)).key == key
        assert not engine.world.tasks
        assert await engine.logs.read(key, 1, 0, 100) == b"hello\n"


async def test_reports_of_one_frame_are_one_turn(engine: Engine):
    async with connected(engine) as peer:
        await peer.introduce(cpus=8)
        keys = [(await assigned(engine, peer)).key for _ in range(8)]
        turns = len(gate(engine).commits)
        peer.say(*(wire.EvStarted(key) for key in keys))
        for _ in keys:
            await peer.hear(wire.EvOk)
        assert len(gate(engine).commits) == turns + 1


async def test_the_whole_life_in_one_frame_is_one_turn(engine: Engine):
    async with connected(engine) as peer:
        await peer.introduce()
        key = (await assigned(engine, peer)).key
        turns = len(gate(engine).commits)
        said = (wire.EvAccepted(key), wire.EvStarted(key), a_log(key, b"hi\n"))
        peer.say(*said, an_end(key, out_bytes=3))
        for kind in ("accepted", "started", "exited"):
            await peer.hear(wire.EvOk, lambda ok, kind=kind: ok.kind == kind)
        await peer.hear(wire.Forget)
        assert len(gate(engine).commits) == turns + 1
        assert peer.unheard(wire.Stop) == []


async def test_nothing_is_acknowledged_before_its_commit(engine: Engine):
    async with connected(engine) as peer:
        await peer.introduce()
        key = (await assigned(engine, peer)).key
        gate(engine).open.clear()
        gate(engine).waiting.clear()
        peer.say(wire.EvStarted(key))
        await within(gate(engine).waiting.wait())
        await peer.beat()
        assert peer.unheard(wire.EvOk) == []
        gate(engine).open.set()
        await peer.hear(wire.EvOk)


async def test_load_and_silence_are_known_per_agent(engine: Engine):
    async with connected(engine) as peer:
        await peer.introduce()
        peer.say(wire.Heartbeat(1, load=wire.Load(cpu_percent=12.5)))
        await peer.hear(wire.HeartbeatOk)
        load = engine.links.load(AGENT)
        assert load is not None
        assert load.cpu_percent == 12.5
        silence_s = engine.links.last_seen_s(AGENT)
        assert silence_s is not None
        assert silence_s < 10
        assert engine.links.connected(AGENT)


async def test_an_agent_that_leaves_is_disconnected(engine: Engine):
    async with connected(engine) as peer:
        await peer.introduce()
        peer.say(wire.Bye(1000, "stopping"))
        await until(lambda: engine.world.agents[AGENT].state is AgentState.DISCONNECTED)
    assert peer.closed == 1000
    assert not engine.links.connected(AGENT)
    assert engine.links.last_seen_s(AGENT) is None


async def test_a_stopping_server_says_so(engine: Engine):
    async with connected(engine) as peer:
        await peer.introduce()
        engine.links.close_all(lambda: wire.Bye(wire.CLOSE_RESTART, "stop", 1.5))
        bye = await peer.hear(wire.Bye)
        assert (bye.code, bye.retry_after_s) == (wire.CLOSE_RESTART, 1.5)
        await until(lambda: peer.closed)
    assert peer.closed == wire.CLOSE_RESTART


# --- logs -----------------------------------------------------------------------------------------


async def test_an_exit_waits_for_the_bytes_before_it_and_control_does_not(engine: Engine):
    async with connected(engine) as peer:
        await peer.introduce()
        key = (await assigned(engine, peer)).key
        held = hold_logs(engine)
        peer.say(wire.EvStarted(key))
        peer.say(a_log(key, b"last words"), an_end(key, out_bytes=10))
        await peer.hear(wire.EvOk, lambda ok: ok.kind == "started")
        await peer.beat()
        assert peer.unheard(wire.EvOk) == []
        assert engine.world.attempts[key].state is AttemptState.RUNNING
        turns = len(gate(engine).commits)
        held.set()
        await peer.hear(wire.EvOk, lambda ok: ok.kind == "exited")
        (delta,) = gate(engine).commits[turns:]
        assert delta.attempts[key].logs_complete, "one row update ends task and logs"


async def test_bytes_after_the_exit_complete_the_logs_later(engine: Engine):
    async with connected(engine) as peer:
        await peer.introduce()
        key = (await assigned(engine, peer)).key
        peer.say(a_log(key, b"abc"), an_end(key, out_bytes=6, err_bytes=2))
        await peer.hear(wire.EvOk)
        assert not engine.world.tasks, "the task does not wait for its logs"
        assert not engine.world.attempts[key].logs_complete
        peer.say(a_log(key, b"def", offset=3))
        await peer.hear(wire.LogOk, lambda ok: ok.next == 6)
        await peer.beat()
        assert peer.unheard(wire.Forget) == []
        peer.say(a_log(key, b"!!", stream=2))
        assert (await peer.hear(wire.Forget)).key == key
        assert key not in engine.world.attempts


async def test_bytes_sent_twice_are_stored_once(engine: Engine):
    async with connected(engine) as peer:
        await peer.introduce()
        key = (await assigned(engine, peer)).key
        peer.say(a_log(key, b"abcdef"))
        await peer.hear(wire.LogOk)
        peer.say(a_log(key, b"defghi", offset=3))
        assert (await peer.hear(wire.LogOk)).next == 9
        assert await engine.logs.read(key, 1, 0, 100) == b"abcdefghi"


async def test_a_gap_counts_as_stored(engine: Engine):
    async with connected(engine) as peer:
        await peer.introduce()
        key = (await assigned(engine, peer)).key
        peer.say(
            a_log(key, b"head"),
            wire.Gap(key, 1, 4, 100, "spool_cap"),
            a_log(key, b"tail", offset=100),
            an_end(key, out_bytes=104),
        )
        await peer.hear(wire.Forget)
        assert key not in engine.world.attempts


async def test_bytes_that_nobody_will_read_are_let_go_and_their_writer_stopped(engine: Engine):
    stranger = AttemptKey(TaskId(uuid7.new()), 1, 0)
    async with connected(engine) as peer:
        await peer.introduce()
        peer.say(a_log(stranger, b"abc", offset=7), a_log(stranger, b"def", offset=10))
        assert (await peer.hear(wire.LogOk, lambda ok: ok.next == 13)).key == stranger
        assert (await peer.hear(wire.Stop)).reason is StopReason.SUPERSEDED
        assert peer.unheard(wire.Stop) == [], "said once, not per chunk"
        peer.say(an_end(stranger))
        assert (await peer.hear(wire.Forget)).key == stranger


async def test_bytes_of_what_should_stop_are_answered_with_stop_before_they_are_acknowledged(
    engine: Engine,
):
    async with connected(engine) as peer:
        await peer.introduce()
        key = (await assigned(engine, peer, grace_s=3.0)).key
        peer.say(wire.EvStarted(key))
        await peer.hear(wire.EvOk)
        await within(engine.post(CancelRequested((key.task_id,))))
        await peer.hear(wire.Stop)
        held = hold_logs(engine)
        peer.say(a_log(key, b"still "))
        stop = await peer.hear(wire.Stop)
        assert (stop.key, stop.reason, stop.grace_s) == (key, StopReason.CANCEL, 3.0)
        held.set()
        peer.say(a_log(key, b"here", offset=6))
        await peer.hear(wire.LogOk, lambda ok: ok.next == 10)
        peer.say(a_log(key, b"!", offset=10), an_end(key, out_bytes=11))
        await peer.hear(wire.Forget)
        assert peer.unheard(wire.Stop) == [], "once in a redrive period, and not of what has ended"


async def test_bytes_of_what_is_lost_are_kept_and_answered_with_stop(engine: Engine):
    """One node of a gang is lost while the other still runs: so the try is not over."""
    async with connected(engine) as one, connected(engine, OTHER) as two:
        await one.introduce()
        await two.introduce()
        key = (await assigned(engine, one, num_nodes=2)).key
        mate = (await two.hear(wire.Assign)).key
        one.say(wire.EvStarted(key))
        two.say(wire.EvStarted(mate))
        await one.hear(wire.EvOk)
        await two.hear(wire.EvOk)
        async with connected(engine) as back:
            ok = await back.introduce(wire.Held(key, AttemptState.ACCEPTED))
            assert ok.stop == (key,)
            assert engine.world.attempts[key].state is AttemptState.LOST
            held = hold_logs(engine)
            back.say(a_log(key, b"alive"))
            assert (await back.hear(wire.Stop)).key == key
            held.set()
            assert (await back.hear(wire.LogOk)).next == 5


# --- what is over or foreign ----------------------------------------------------------------------


async def test_an_end_told_again_is_acknowledged_and_forgotten_again(engine: Engine):
    async with connected(engine) as peer:
        await peer.introduce()
        key = (await assigned(engine, peer)).key
        for _ in range(2):
            peer.say(an_end(key))
            await peer.hear(wire.EvOk)
            await peer.hear(wire.Forget)


async def test_a_start_of_something_over_is_answered_with_stop(engine: Engine):
    async with connected(engine) as peer:
        await peer.introduce()
        key = (await assigned(engine, peer)).key
        peer.say(an_end(key))
        await peer.hear(wire.Forget)
        peer.say(wire.EvStarted(key))
        assert (await peer.hear(wire.Stop)).reason is StopReason.SUPERSEDED
        await peer.hear(wire.EvOk, lambda ok: ok.kind == "started")


async def test_an_agent_cannot_speak_for_another(engine: Engine):
    async with connected(engine) as mine, connected(engine, OTHER) as thief:
        await mine.introduce()
        key = (await assigned(engine, mine)).key
        await thief.introduce()
        thief.say(a_log(key, b"forged"), an_end(key))
        await thief.hear(wire.EvOk)
        assert engine.world.attempts[key].state is AttemptState.ASSIGNED
        assert await engine.logs.read(key, 1, 0, 100) == b""
        assert (await thief.hear(wire.Stop)).key == key


async def test_a_cancel_reaches_the_agent(engine: Engine):
    async with connected(engine) as peer:
        await peer.introduce()
        key = (await assigned(engine, peer, grace_s=3.0)).key
        await within(engine.post(CancelRequested((key.task_id,))))
        stop = await peer.hear(wire.Stop)
        assert (stop.key, stop.reason, stop.grace_s) == (key, StopReason.CANCEL, 3.0)
        peer.say(wire.EvVoid(key, Reason.CANCELLED))
        await peer.hear(wire.Forget)
        assert not engine.world.jobs


# --- sync -----------------------------------------------------------------------------------------


async def test_a_new_server_adopts_what_runs_and_restarts_nothing(
    database: Database, tmp_path: Path
):
    logs = log_files(database, tmp_path)
    async with running(database, logs) as engine, connected(engine) as peer:
        await peer.introduce()
        key = (await assigned(engine, peer)).key
        peer.say(wire.EvStarted(key), a_log(key, b"one"))
        await peer.hear(wire.EvOk)
        await peer.hear(wire.LogOk)
    async with running(database, logs) as engine, connected(engine) as peer:
        await until(lambda: engine.world.agents[AGENT].state is AgentState.DISCONNECTED)
        ok = await peer.introduce(peers.running(key))
        assert ok == wire.SyncOk(offsets=((key, 1, 3),), adopted=1)
        peer.say(a_log(key, b"two", offset=3), an_end(key, out_bytes=6))
        await peer.hear(wire.Forget)
        assert peer.unheard(wire.Assign) == []
        assert await engine.logs.read(key, 1, 0, 100) == b"onetwo"


async def test_what_ended_unseen_is_applied_by_the_sync(engine: Engine):
    async with connected(engine) as peer:
        await peer.introduce()
        key = (await assigned(engine, peer)).key
        peer.say(a_log(key, b"abc"))
        await peer.hear(wire.LogOk)
    async with connected(engine) as peer:
        end = Exit(code=0, out_bytes=3)
        ok = await peer.introduce(wire.Held(key, AttemptState.SUCCEEDED, end))
        assert ok.offsets == ((key, 1, 3),)
        assert (await peer.hear(wire.Forget)).key == key
        assert not engine.world.jobs


async def test_an_assign_that_never_arrived_is_sent_after_the_sync(engine: Engine):
    async with connected(engine) as peer:
        await peer.introduce()
        key = (await assigned(engine, peer)).key
    async with connected(engine) as peer:
        await peer.introduce()
        assert (await peer.hear(wire.Assign)).key == key


async def test_what_another_agent_was_given_is_stopped(engine: Engine):
    async with connected(engine) as mine, connected(engine, OTHER) as other:
        await mine.introduce()
        key = (await assigned(engine, mine)).key
        assert (await other.introduce(peers.running(key))).stop == (key,)


async def test_what_the_server_does_not_know_is_left_alone_or_forgotten(engine: Engine):
    alive, over = (AttemptKey(TaskId(uuid7.new()), 1, 0) for _ in range(2))
    async with connected(engine) as peer:
        ok = await peer.introduce(
            peers.running(alive), wire.Held(over, AttemptState.SUCCEEDED, Exit(code=0))
        )
        assert (ok.stop, ok.forget, ok.foreign) == ((), (over,), (alive,))


async def test_a_sync_comes_in_pages(engine: Engine):
    async with connected(engine) as peer:
        peer.say(peers.hello())
        await peer.hear(wire.Welcome)
        keys = [AttemptKey(TaskId(uuid7.new()), 1, 0) for _ in range(3)]
        for page, key in enumerate(keys):
            peer.say(wire.Sync(page, last=page == 2, attempts=(peers.running(key),)))
        assert set((await peer.hear(wire.SyncOk)).foreign) == set(keys)


# --- other sessions -------------------------------------------------------------------------------


async def test_a_newer_session_of_the_same_agent_closes_the_older(engine: Engine):
    async with connected(engine) as old:
        await old.introduce()
        async with connected(engine) as new:
            await new.introduce()
            assert (await old.hear(wire.Bye)).code == wire.CLOSE_SUPERSEDED
            await until(lambda: old.closed)
            await new.beat()
            assert engine.world.agents[AGENT].state is AgentState.READY
            assert engine.world.agents[AGENT].session == 2


async def test_a_cloned_disk_is_refused_while_the_first_lives(engine: Engine):
    async with connected(engine) as first:
        await first.introduce()
        async with connected(engine) as clone:
            clone.say(peers.hello(store_id="another disk"))
            assert (await clone.hear(wire.Bye)).code == wire.CLOSE_CLONED
        await first.beat()
        assert engine.world.agents[AGENT].session == 1


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\xc1",
        b"not msgpack at all",
        wire.encode([peers.hello()]),  # open already
        wire.encode([wire.Log(AttemptKey(TaskId("t"), 1, 0), 3, 0, b"", 0)]),
        wire.encode([wire.Log(AttemptKey(TaskId("t"), 1, 0), 1, -1, b"", 0)]),
        wire.encode([wire.Log(AttemptKey(TaskId("t"), 1, 0), 1, 0, b"abc", 0)]),  # damaged
        wire.encode([wire.Gap(AttemptKey(TaskId("t"), 1, 0), 1, 5, 4, "limit")]),
        bytes(wire.MAX_FRAME_BYTES + 1),
    ],
)
async def test_a_fault_ends_its_own_session_only(engine: Engine, frame: bytes):
    async with connected(engine) as bystander, connected(engine, OTHER) as peer:
        await bystander.introduce()
        await peer.introduce()
        peer.say_bytes(frame)
        assert (await peer.hear(wire.Bye)).code == wire.CLOSE_PROTOCOL
        await bystander.beat()


async def test_unknown_messages_are_answered_and_only_many_of_them_are_a_fault(engine: Engine):
    newer = msgspec.msgpack.encode([{"t": "of the future", "x": 1}])
    async with connected(engine) as peer:
        await peer.introduce()
        for _ in range(wire.UNKNOWN_MAX):
            peer.say_bytes(newer)
            assert "of the future" in (await peer.hear(wire.Err)).what
        await peer.beat()
        peer.say_bytes(newer)
        assert (await peer.hear(wire.Bye)).code == wire.CLOSE_PROTOCOL


async def test_the_highest_common_protocol_is_spoken(engine: Engine):
    async with connected(engine) as peer:
        peer.say(msgspec.structs.replace(peers.hello(), proto=(wire.PROTO, wire.PROTO + 5)))
        assert (await peer.hear(wire.Welcome)).proto == wire.PROTO
    async with connected(engine) as peer:
        peer.say(msgspec.structs.replace(peers.hello(), proto=(wire.PROTO + 1, wire.PROTO + 5)))
        assert (await peer.hear(wire.Bye)).code == wire.CLOSE_TOO_OLD


@pytest.mark.parametrize(
    ("leader", "reason", "waits"),
    [(Leader(7, "http://other:7171"), "http://other:7171", False), (None, "", True)],
)
async def test_an_agent_on_a_follower_is_told_where_the_leader_is(leader, reason, waits):
    peer = Peer()
    peer.say(peers.hello())
    await within(session.refuse(peer, leader, Doorstep()))
    bye = await peer.hear(wire.Bye)
    assert (bye.code, bye.reason) == (wire.CLOSE_NOT_LEADER, reason)
    assert (bye.retry_after_s > 0) is waits
    assert peer.closed == wire.CLOSE_NOT_LEADER


async def test_a_gap_that_no_database_can_hold_is_a_fault(engine: Engine):
    async with connected(engine) as peer:
        await peer.introduce()
        key = (await assigned(engine, peer)).key
        peer.say(wire.Gap(key, 1, 0, 1 << 63, "limit"))
        assert (await peer.hear(wire.Bye)).code == wire.CLOSE_PROTOCOL


async def test_log_bytes_beyond_the_credit_are_a_fault(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(wire, "LOG_CREDIT_BYTES", 100_000)
    async with connected(engine) as peer:
        await peer.introduce()
        key = (await assigned(engine, peer)).key
        hold_logs(engine)
        peer.say(*(a_log(key, bytes(50_000), offset=50_000 * n) for n in range(3)))
        assert (await peer.hear(wire.Bye)).code == wire.CLOSE_PROTOCOL


@pytest.mark.parametrize("proto", [(2, 3), (0, 0)])
async def test_a_version_that_is_not_spoken_is_refused(engine: Engine, proto: tuple[int, int]):
    async with connected(engine) as peer:
        hello = peers.hello()
        peer.say(
            wire.Hello(**{f: getattr(hello, f) for f in hello.__struct_fields__} | {"proto": proto})
        )
        assert (await peer.hear(wire.Bye)).code == wire.CLOSE_TOO_OLD


async def test_an_agent_id_that_is_none_is_a_fault(engine: Engine):
    async with connected(engine, AgentId("no uuid")) as peer:
        peer.say(peers.hello(AgentId("no uuid")))
        assert (await peer.hear(wire.Bye)).code == wire.CLOSE_PROTOCOL


async def test_who_says_nothing_is_not_waited_for(engine: Engine, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(session, "HELLO_WITHIN_S", 0.02)
    async with connected(engine) as peer:
        assert (await peer.hear(wire.Bye)).code == wire.CLOSE_PROTOCOL


async def test_a_deaf_agent_is_let_go_of(engine: Engine, monkeypatch: pytest.MonkeyPatch):
    """Its connection is full, so neither what is queued nor the goodbye can be sent."""
    monkeypatch.setattr(session, "FLUSH_S", 0.02)
    async with connected(engine) as peer:
        await peer.introduce()
        peer.deaf = True
        await assigned_quietly(engine)
        engine.links.close_all(lambda: wire.Bye(wire.CLOSE_RESTART))
        await until(lambda: not engine.links.connected(AGENT))
        await until(lambda: engine.world.agents[AGENT].state is AgentState.DISCONNECTED)


async def assigned_quietly(engine: Engine) -> None:
    await within(engine.post(a_submit()))


# --- an absent database ---------------------------------------------------------------------------


async def test_while_nothing_can_be_committed_nothing_is_acknowledged(engine: Engine):
    async with connected(engine) as peer:
        await peer.introduce()
        key = (await assigned(engine, peer)).key
        gate(engine).lose_outcome = True
        peer.say(wire.EvStarted(key))
        await peer.hear(wire.Pause)
        await peer.hear(wire.Resume)
        assert peer.unheard(wire.EvOk) == []
        assert engine.world.attempts[key].state is AttemptState.RUNNING, "it had landed"
        peer.say(wire.EvStarted(key))
        await peer.hear(wire.EvOk)


async def test_an_agent_cannot_fill_the_log_with_notices(engine: Engine):
    async with connected(engine) as agent:
        await agent.introduce()
        with structlog.testing.capture_logs() as lines:
            notices = [wire.Notice("disk_low", "again") for _ in range(1_000)]
            agent.say(*notices, wire.Heartbeat(1, 0))
            await agent.hear(wire.HeartbeatOk)
    assert sum(line["event"] == "agent notice" for line in lines) == session.NOTICES_LOGGED
