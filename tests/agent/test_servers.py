"""Several servers: an agent goes where the leader is, and never in a hot loop."""

import asyncio
import time

import pytest

from styx.agent.servers import Servers
from styx.errors import SetupError
from styx.wire import agent as wire
from tests.agent.conftest import StartAgent
from tests.support.agent_server import AgentServer, Connection


def test_urls_are_tried_in_turn() -> None:
    servers = Servers("http://a:1, http://b:2")
    seen = [servers.url]
    for _ in range(2):
        servers.next()
        seen.append(servers.url)
    assert seen == ["http://a:1", "http://b:2", "http://a:1"]


def test_a_leader_that_does_not_answer_is_left_for_the_operators_list() -> None:
    servers = Servers("http://a:1,http://b:2")
    servers.point("http://c:3")
    assert servers.url == "http://c:3"
    servers.next()
    assert servers.url == "http://b:2"


@pytest.mark.parametrize("leader", ["", "nonsense", "http://a:1"])
def test_where_nobody_is_pointed_at_the_next_is_tried(leader: str) -> None:
    servers = Servers("http://a:1,http://b:2")
    servers.point(leader)
    assert servers.url == "http://b:2"


def test_the_token_is_not_shown_to_an_open_line() -> None:
    servers = Servers("https://a")
    servers.point("http://b")
    assert servers.url == "https://a"
    servers.point("https://b")
    assert servers.url == "https://b"


def test_a_url_of_no_use_is_refused_at_once() -> None:
    for urls in ("", "http://a,nonsense"):
        with pytest.raises(SetupError):
            Servers(urls)


async def test_a_follower_sends_the_agent_to_the_leader(
    server: AgentServer, start_agent: StartAgent
) -> None:
    async with AgentServer().listen() as leader:
        start_agent()
        follower = await server.accept()
        await follower.wait(wire.Hello)
        follower.send(wire.Bye(wire.CLOSE_NOT_LEADER, leader.url))
        await (await leader.accept()).ready()


async def test_followers_that_point_at_each_other_are_not_asked_hotly(
    server: AgentServer, start_agent: StartAgent
) -> None:
    async with AgentServer().listen() as other:
        start_agent(url=f"{server.url},{other.url}")
        asked, until = 0, float("inf")  # on a busy machine it takes its time to start
        while time.monotonic() < until:
            here, there = (server, other) if asked % 2 == 0 else (other, server)
            try:
                async with asyncio.timeout(30.0 if asked == 0 else until - time.monotonic()):
                    connection = await here.accept()
                    await connection.wait(wire.Hello)
            except TimeoutError:
                break
            asked += 1
            until = min(until, time.monotonic() + 2.0)
            connection.send(wire.Bye(wire.CLOSE_NOT_LEADER, there.url))
        assert 2 <= asked <= 40


async def test_a_server_that_lives_but_does_not_lead_is_left(
    server: AgentServer, start_agent: StartAgent
) -> None:
    """As one that is cut from its database: another may lead by now, and this one cannot know."""
    async with AgentServer().listen() as other:
        start_agent(url=f"{server.url},{other.url}")
        paused = await server.accept()
        paused.acknowledging = False
        await paused.ready()
        await (await other.accept()).ready()


async def test_a_server_that_can_admit_nobody_is_left(
    server: AgentServer, start_agent: StartAgent
) -> None:
    """It believes that it leads, and cannot commit: another may lead by now."""

    async def refuse() -> None:
        while True:
            connection = await server.accept()
            await connection.wait(wire.Hello)
            connection.send(wire.Bye(wire.CLOSE_OVERLOAD, "nothing can be committed now", 0.1))

    async with AgentServer().listen() as other, asyncio.TaskGroup() as group:
        start_agent(url=f"{server.url},{other.url}")
        refusing = group.create_task(refuse())
        await (await other.accept()).ready()
        refusing.cancel()


async def test_the_only_server_is_waited_for(server: AgentServer, connection: Connection) -> None:
    """One that cannot commit for a while keeps its agents."""
    connection.acknowledging = False
    await connection.wait(wire.Heartbeat, lambda beat: beat.seq > 8)
    assert not connection.closed
