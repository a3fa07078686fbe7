from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.agent_server import AgentServer, Connection
from tests.support.agents import AgentProcess
from tests.support.supervised import Supervised, supervised

StartAgent = Callable[..., AgentProcess]


@pytest.fixture
def sup(tmp_path: Path) -> Iterator[Supervised]:
    with supervised(tmp_path / "home") as held:
        yield held


@pytest.fixture
async def server() -> AsyncIterator[AgentServer]:
    async with AgentServer().listen() as listening:
        yield listening


@pytest.fixture
def start_agent(tmp_path: Path, server: AgentServer) -> Iterator[StartAgent]:
    started: list[AgentProcess] = []

    def start(name: str = "home", **options: Any) -> AgentProcess:
        agent = AgentProcess(tmp_path / name, options.pop("url", server.url), **options)
        started.append(agent)
        return agent

    yield start
    for agent in started:
        agent.close()


@pytest.fixture
def agent(start_agent: StartAgent) -> AgentProcess:
    return start_agent(name="home")


@pytest.fixture
async def connection(agent: AgentProcess, server: AgentServer) -> Connection:
    """The first session, open."""
    assert agent.process.poll() is None
    accepted = await server.accept()
    await accepted.ready()
    return accepted
