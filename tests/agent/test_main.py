"""`styx agent` as a process: what it refuses, what it says, and how it leaves."""

import asyncio
import os
import signal
import socket
import time
from pathlib import Path

import pytest

from styx.wire import agent as wire
from tests.agent.conftest import StartAgent
from tests.support.agent_server import AgentServer, Connection, a_key, assign
from tests.support.agents import AgentProcess
from tests.support.supervised import eventually, markers


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_leaves_politely_and_at_once(
    connection: Connection, agent: AgentProcess, number: int
) -> None:
    began = time.monotonic()
    os.kill(agent.process.pid, number)
    assert (await connection.wait(wire.Bye)).reason == "the agent was stopped"
    said = await agent.said()
    assert agent.process.returncode == 0
    assert time.monotonic() - began < 10
    assert "running tasks go on" not in said


async def test_it_leaves_at_once_from_a_server_that_does_not_read(
    server: AgentServer, start_agent: StartAgent
) -> None:
    agent = start_agent()
    connection = await server.accept()
    await connection.ready(log_credit_bytes=64 << 20)
    connection.send(assign(a_key(), "head", "-c", "60000000", "/dev/zero"))
    await connection.wait(wire.Log)
    connection.stop_reading()
    await asyncio.sleep(0.5)  # until every buffer on the way is full
    began = time.monotonic()
    said = await agent.stop()
    assert agent.process.returncode == 0, said
    assert time.monotonic() - began < 10


async def test_what_runs_goes_on_without_it(
    connection: Connection, agent: AgentProcess, tmp_path: Path
) -> None:
    key, gate = a_key(), tmp_path / "gate"
    connection.send(assign(key, "sh", "-c", f"until [ -e {gate} ]; do sleep 0.05; done; exit 3"))
    await connection.wait(wire.EvStarted)
    said = await agent.stop()
    assert f"1 running tasks go on; the next agent of {agent.home} takes them up" in said
    assert str(key) in {key for key, _ in markers()}
    agent.start()
    again = await connection.server.accept()
    await again.ready()
    gate.touch()
    assert (await again.end(key)).code == 3


async def test_a_second_agent_on_a_home_is_refused(
    connection: Connection, start_agent: StartAgent
) -> None:
    second = start_agent(name="home")
    said = await second.said()
    assert second.process.returncode == 1
    assert said.count("\n") == 1
    assert "another agent is running on" in said
    key = a_key()
    connection.send(assign(key, "true"))  # the first is none the worse for it
    assert (await connection.end(key)).code == 0


@pytest.mark.parametrize("status", [401, 403])
async def test_a_credential_that_is_not_accepted_ends_it(
    server: AgentServer, start_agent: StartAgent, status: int
) -> None:
    server.reject = status
    agent = start_agent(token="styx_wrong")
    await server.accept()
    said = await agent.said()
    assert agent.process.returncode == 1
    assert said.count("\n") == 1
    assert "credential" in said
    assert "styx_wrong" not in said


@pytest.mark.parametrize("code", [wire.CLOSE_AUTH, wire.CLOSE_CLONED, wire.CLOSE_TOO_OLD])
async def test_some_goodbyes_are_for_good(
    server: AgentServer, start_agent: StartAgent, code: int
) -> None:
    agent = start_agent()
    connection = await server.accept()
    await connection.wait(wire.Hello)
    connection.send(wire.Bye(code, "this is why"))
    assert "this is why" in await agent.said()
    assert agent.process.returncode == 1


async def test_any_other_answer_is_tried_again(
    server: AgentServer, start_agent: StartAgent
) -> None:
    server.reject = 503
    start_agent()
    for _ in range(2):
        await (await server.accept()).wait_closed()
    server.reject = 0
    connection = await server.accept()
    await connection.wait(wire.Hello)


async def test_it_waits_for_a_server_that_is_not_there_yet(
    server: AgentServer, start_agent: StartAgent
) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and does not listen
        agent = start_agent(url=f"http://127.0.0.1:{nobody.getsockname()[1]}")
        await eventually(lambda: "cannot reach the server" in agent.heard())
        await asyncio.sleep(1.0)  # several more tries
        said = await agent.stop()
    assert agent.process.returncode == 0
    assert said.count("cannot reach the server") == 1


async def test_a_url_of_no_use_is_refused(start_agent: StartAgent) -> None:
    agent = start_agent(url="localhost:8080")
    assert "write http://HOST:PORT" in await agent.said()
    assert agent.process.returncode == 1


async def test_a_home_of_no_use_is_refused(start_agent: StartAgent, tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file")
    agent = start_agent()
    said = await agent.said()
    assert agent.process.returncode == 1
    assert "cannot be used" in said
    assert "Traceback" not in said


async def test_its_name_is_kept_and_can_be_changed(
    server: AgentServer, start_agent: StartAgent
) -> None:
    agent = start_agent(env=dict(os.environ), config_name="agent-001")
    first = await (await server.accept()).wait(wire.Hello)
    assert first.name == "agent-001"
    agent.kill_link()
    unnamed = start_agent()
    second = await (await server.accept()).wait(wire.Hello)
    assert (second.name, second.agent_id) == ("agent-001", first.agent_id)
    unnamed.kill_link()
    start_agent(config_name="agent-002")
    third = await (await server.accept()).wait(wire.Hello)
    assert (third.name, third.agent_id) == ("agent-002", first.agent_id)


async def test_it_listens_on_no_port(connection: Connection, agent: AgentProcess) -> None:
    for pid in (agent.process.pid, agent.supervisor()):
        listening = {
            line.split()[9]
            for table in ("tcp", "tcp6")
            for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]
            if line.split()[3] == "0A"
        }
        held = {str(entry.readlink()) for entry in Path(f"/proc/{pid}/fd").iterdir()}
        assert not {f"socket:[{inode}]" for inode in listening} & held
    assert connection.request is not None
