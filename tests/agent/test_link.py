"""A whole agent against the server's end of the protocol: sessions, reports, and what must survive."""

import asyncio
import os
import re
import signal
import time
from pathlib import Path

import msgspec
import psutil

from styx.core.attempt import AttemptState, StopReason
from styx.core.spec import Delivery
from styx.core.task import Reason
from styx.wire import agent as wire
from tests.agent.conftest import StartAgent
from tests.support.agent_server import AgentServer, Connection, a_key, assign
from tests.support.agents import AgentProcess
from tests.support.supervised import eventually


async def test_hello_says_who_and_what(
    server: AgentServer, start_agent: StartAgent, tmp_path: Path
) -> None:
    start_agent(token="styx_secret", name="home", labels={"rack": "r1"})
    connection = await server.accept()
    hello = await connection.wait(wire.Hello)
    assert connection.request is not None
    assert (b"authorization", b"Bearer styx_secret") in connection.request.extra_headers
    assert connection.request.target == wire.PATH
    assert connection.request.subprotocols == [wire.SUBPROTOCOL]
    assert connection.frames[0] == [hello]
    assert hello.proto == (wire.PROTO, wire.PROTO)
    assert re.fullmatch(r"agent-[0-9a-f]{4}", hello.name)
    assert re.fullmatch(r"[0-9a-f]{32}", hello.store_id)
    assert hello.labels == {"rack": "r1"}
    assert hello.address == "127.0.0.1"
    assert hello.capacity.cpus_milli > 0
    assert hello.capacity.memory_bytes > 0
    identity = msgspec.json.decode((tmp_path / "home" / "identity.json").read_bytes())
    assert identity == {
        "agent_id": hello.agent_id,
        "name": hello.name,
        "store_id": hello.store_id,
    }


async def test_an_agent_is_the_same_after_a_restart(
    server: AgentServer, start_agent: StartAgent
) -> None:
    first = start_agent()
    one = await (await server.accept()).wait(wire.Hello)
    first.kill_link()
    first.start()
    two = await (await server.accept()).wait(wire.Hello)
    assert (one.agent_id, one.name, one.store_id) == (two.agent_id, two.name, two.store_id)
    assert one.incarnation != two.incarnation


async def test_a_short_tasks_output_comes_ahead_of_its_end(connection: Connection) -> None:
    key = a_key()
    connection.send(assign(key, "sh", "-c", "echo out; echo err >&2; exit 3"))
    end = await connection.complete(key)
    assert (end.code, end.out_bytes, end.err_bytes, end.signalled) == (3, 4, 4, False)
    assert connection.server.output(key, 1) == b"out\n"
    assert connection.server.output(key, 2) == b"err\n"
    told = [type(message) for message in connection.seen if getattr(message, "key", None) == key]
    assert told.count(wire.Log) >= 2
    assert wire.Log not in told[told.index(wire.EvExited) :]


async def test_the_same_assignment_again_starts_nothing(
    connection: Connection, tmp_path: Path
) -> None:
    key, ledger = a_key(), tmp_path / "ledger"
    order = assign(key, "sh", "-c", f"echo ran >> {ledger}")
    connection.send(order, order)
    await connection.end(key)
    connection.seen.clear()
    connection.send(order)
    await connection.end(key)  # it is answered, though
    assert ledger.read_text() == "ran\n"


async def test_a_void_key_answers_every_assignment_with_void(
    connection: Connection, tmp_path: Path
) -> None:
    key = a_key()
    connection.send(wire.Stop(key, 1, StopReason.CANCEL, 30.0))
    void = await connection.wait(wire.EvVoid)
    assert (void.key, void.reason) == (key, Reason.CANCELLED)
    connection.seen.clear()
    connection.send(assign(key, "touch", f"{tmp_path}/ran"))
    assert (await connection.wait(wire.EvVoid)).key == key
    assert not (tmp_path / "ran").exists()


async def test_a_stop_ends_a_running_task(connection: Connection) -> None:
    key = a_key()
    connection.send(assign(key, "sleep", "1000"))
    await connection.wait(wire.EvStarted)
    connection.send(wire.Stop(key, 1, StopReason.CANCEL, 30.0))
    end = await connection.end(key)
    assert (end.signal, end.signalled) == (signal.SIGTERM, True)


async def test_a_stop_right_behind_its_assignment_leaves_one_end(connection: Connection) -> None:
    key = a_key()
    connection.send(assign(key, "sleep", "1000"), wire.Stop(key, 1, StopReason.CANCEL, 0.0))
    assert (await connection.end(key)).signalled


async def test_a_deposed_leader_is_not_obeyed(connection: Connection, tmp_path: Path) -> None:
    connection.send(assign(a_key(), "touch", f"{tmp_path}/ran", term=0))
    key = a_key()
    connection.send(assign(key, "true"))
    await connection.end(key)
    assert not (tmp_path / "ran").exists()


async def test_events_are_told_until_they_are_acknowledged(
    server: AgentServer, start_agent: StartAgent
) -> None:
    start_agent()
    connection = await server.accept()
    connection.acknowledging = False
    await connection.ready()
    key = a_key()
    connection.send(assign(key, "true"))

    def ends() -> int:
        return sum(isinstance(message, wire.EvExited) for message in connection.seen)

    await connection.until(lambda: ends() == 2)
    connection.send(wire.EvOk(key, "exited"))
    heard = sum(isinstance(message, wire.Heartbeat) for message in connection.seen)
    told = ends()
    await connection.until(
        lambda: sum(isinstance(message, wire.Heartbeat) for message in connection.seen) > heard + 3
    )
    assert ends() == told


async def test_a_forgotten_attempt_leaves_nothing_on_the_disk(
    connection: Connection, agent: AgentProcess
) -> None:
    key = a_key()
    connection.send(assign(key, "echo", "hi"))
    await connection.complete(key)
    connection.send(wire.Forget(key))
    await eventually(lambda: not list((agent.home / "spool").iterdir()))
    connection.cut()
    again = await connection.server.accept()
    assert await again.ready() == []


async def test_what_ended_during_a_cut_is_told_after_it(
    connection: Connection, agent: AgentProcess
) -> None:
    key = a_key()
    connection.send(assign(key, "sh", "-c", "echo one; sleep 0.4; echo two; exit 5"))
    await connection.until(lambda: connection.server.output(key) == b"one\n")
    connection.cut()
    again = await connection.server.accept()
    held = await again.open()
    assert [(entry.key, entry.state) for entry in held] == [(key, AttemptState.RUNNING)]
    journal = agent.home / "journal.jsonl"
    await eventually(lambda: '"code":5' in journal.read_text())
    again.send(wire.SyncOk(offsets=((key, 1, 4),)))
    end = await again.complete(key)  # it moved on between sync and sync_ok
    assert end.code == 5
    assert again.server.output(key) == b"one\ntwo\n"


async def test_a_killed_link_loses_nothing(connection: Connection, agent: AgentProcess) -> None:
    server = connection.server
    slow, quick = a_key(), a_key()
    connection.send(
        assign(slow, "sh", "-c", "for i in 1 2 3 4 5 6 7 8; do echo $i; sleep 0.1; done; exit 6")
    )
    connection.send(assign(quick, "sh", "-c", "sleep 0.2; echo quick; exit 7"))
    await connection.until(lambda: server.output(slow))
    agent.kill_link()
    agent.start()
    again = await server.accept()
    held = {entry.key: entry for entry in await again.ready()}
    assert set(held) == {slow, quick}
    # What had ended when the link came back is told in the sync, and not again.
    ends = {key: held[key].exit or await again.end(key) for key in (slow, quick)}
    assert (ends[slow].code, ends[quick].code) == (6, 7)
    whole = b"".join(b"%d\n" % number for number in range(1, 9))
    await again.until(lambda: server.output(slow) == whole)
    await again.until(lambda: server.output(quick) == b"quick\n")


async def test_a_killed_supervisor_is_replaced_and_its_work_readopted(
    connection: Connection, agent: AgentProcess
) -> None:
    running, waiting = a_key(), a_key()
    connection.send(assign(running, "sh", "-c", "echo one; sleep 1; echo two"))
    await connection.until(lambda: connection.server.output(running) == b"one\n")
    agent.kill_supervisor()
    connection.send(assign(waiting, "echo", "hi"))  # sent into the void, or to the next: it is run
    assert (await connection.end(waiting)).code == 0
    end = await connection.complete(running)
    assert end.reason is Reason.EXIT_STATUS_LOST
    assert connection.server.output(running) == b"one\ntwo\n"


async def test_both_halves_killed_start_nothing_twice(
    connection: Connection, agent: AgentProcess, tmp_path: Path
) -> None:
    key, ledger = a_key(), tmp_path / "ledger"
    order = assign(
        key, "sh", "-c", f"echo ran >> {ledger}; sleep 0.5", delivery=Delivery.AT_MOST_ONCE
    )
    connection.send(order)
    await connection.wait(wire.EvStarted)
    agent.kill_link()
    agent.kill_supervisor()
    agent.start()
    again = await connection.server.accept()
    held = await again.ready()
    assert [entry.key for entry in held] == [key]
    again.send(order)
    assert (await again.end(key)).reason is Reason.EXIT_STATUS_LOST
    assert ledger.read_text() == "ran\n"


async def test_sync_comes_in_pages(connection: Connection, agent: AgentProcess) -> None:
    keys = {a_key() for _ in range(wire.SYNC_PAGE + 1)}
    for key in keys:
        connection.send(wire.Stop(key, 1, StopReason.CANCEL, 0.0))  # the cheapest thing to hold
    await connection.until(lambda: keys <= connection.server.ends.keys())
    agent.kill_link()
    agent.start()
    again = await connection.server.accept()
    held = await again.ready(forget=tuple(keys))
    assert {entry.key for entry in held} == keys
    assert {entry.state for entry in held} == {AttemptState.REJECTED}
    pages = [message for message in again.seen if isinstance(message, wire.Sync)]
    assert [(page.page, page.last, len(page.attempts)) for page in pages] == [
        (0, False, wire.SYNC_PAGE),
        (1, True, 1),
    ]
    again.cut()
    assert await (await connection.server.accept()).ready() == []


async def test_sync_ok_can_stop_what_should_not_run(connection: Connection) -> None:
    key = a_key()
    connection.send(assign(key, "sleep", "1000"))
    await connection.wait(wire.EvStarted)
    connection.cut()
    again = await connection.server.accept()
    await again.ready(stop=(key,))
    assert (await again.end(key)).signalled


async def test_a_silent_server_is_left_for_a_new_session(
    server: AgentServer, start_agent: StartAgent
) -> None:
    """No FIN comes from a machine that is gone: only silence tells."""
    start_agent()
    connection = await server.accept()
    connection.mute = True
    began = time.monotonic()
    await connection.open(heartbeat_s=0.3)
    await server.accept()
    assert time.monotonic() - began > 0.6


async def test_a_paused_server_is_not_a_silent_one(connection: Connection) -> None:
    """It commits nothing and acknowledges nothing, but the line is alive."""
    connection.acknowledging = False
    connection.send(wire.Pause())

    def beats() -> int:
        return sum(isinstance(message, wire.Heartbeat) for message in connection.seen)

    before = beats()
    await connection.until(lambda: beats() > before + 8)  # far beyond three intervals
    connection.acknowledging = True
    connection.send(wire.Resume())
    key = a_key()
    connection.send(assign(key, "true"))
    assert (await connection.end(key)).code == 0


async def test_an_agent_beats_as_seldom_as_it_is_asked_to(connection: Connection) -> None:
    connection.every = 3  # periods of 0.2 s
    first = await connection.wait(wire.Heartbeat)
    began = time.monotonic()
    # The next one may be on its way already.
    await connection.wait(wire.Heartbeat, lambda beat: beat.seq == first.seq + 3)
    assert time.monotonic() - began > 1.0


async def test_retry_after_is_honoured(connection: Connection) -> None:
    began = time.monotonic()
    connection.send(wire.Bye(wire.CLOSE_OVERLOAD, "come back later", 1.0))
    await connection.server.accept()
    assert time.monotonic() - began >= 1.0


async def test_a_stale_assignment_is_refused(
    server: AgentServer, start_agent: StartAgent, tmp_path: Path
) -> None:
    """Frozen while the lease runs out, it wakes with an assignment in its socket's buffer (R-40)."""
    agent = start_agent()
    connection = await server.accept()
    # By the beats that it missed, it must not find the server silent and hang up unread.
    await connection.ready(lost_after_s=1.0, heartbeat_s=1.0)
    os.kill(agent.process.pid, signal.SIGSTOP)
    while psutil.Process(agent.process.pid).status() != psutil.STATUS_STOPPED:
        await asyncio.sleep(0.01)
    key = a_key()
    connection.send(assign(key, "touch", f"{tmp_path}/ran"))
    await asyncio.sleep(1.2)
    os.kill(agent.process.pid, signal.SIGCONT)
    void = await connection.wait(wire.EvVoid)
    assert (void.key, void.reason) == (key, Reason.STALE_ASSIGN)
    assert not (tmp_path / "ran").exists()


async def test_an_exclusive_task_does_not_outlive_its_lease(
    server: AgentServer, start_agent: StartAgent
) -> None:
    start_agent()
    other = await server.accept()
    await other.ready(lost_after_s=3.0, heartbeat_s=0.2)
    free, exclusive = a_key(), a_key()
    other.send(assign(exclusive, "sleep", "1000", exclusive=True, grace_s=0.5))
    other.send(assign(free, "sleep", "1000"))
    await other.until(lambda: sum(isinstance(m, wire.EvStarted) for m in other.seen) == 2)
    await other.until(
        lambda: sum(isinstance(m, wire.Heartbeat) for m in other.seen) > 10
    )  # longer than a lease
    assert exclusive not in server.ends
    other.acknowledging = False
    end = await other.end(exclusive)
    assert (end.reason, end.signalled) == (Reason.AGENT_SILENT, True)
    assert not any(isinstance(m, wire.EvExited) and m.key == free for m in other.seen)
