"""Agents: who they are, what they have left, and the operator's wish to drain them."""

from typing import Annotated, Final

import msgspec
from litestar import Response

from styx.api import page, route, views
from styx.api.backend import Backend
from styx.api.finding import by_reference
from styx.api.route import CHANGING, FINDING, UNCHANGED, Call, read_query, reference, reply, visit
from styx.core import event
from styx.core.agent import Agent, AgentState
from styx.core.attempt import TERMINAL
from styx.core.ids import AgentId
from styx.errors import NotFound
from styx.wire import http

PATH: Final = "/api/v1/agents"


class AgentsQuery(page.PageQuery, frozen=True):
    status: Annotated[
        tuple[AgentState, ...],
        msgspec.Meta(description="Only these; all but `gone` unless given."),
    ] = ()


class Agents:
    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    @route.get(PATH, "listAgents", list[http.AgentView], also=UNCHANGED, query=AgentsQuery)
    async def browse(self, call: Call) -> Response[bytes]:
        """List agents.

        In the order in which they first joined.
        """
        asked = read_query(call, AgentsQuery)
        wanted = frozenset(asked.status) or frozenset(AgentState) - {AgentState.GONE}
        agents = sorted(
            (a for a in self._backend.engine.world.agents.values() if a.state in wanted),
            key=lambda agent: agent.id,
        )
        later = [agent for agent in agents if agent.id > asked.after]
        shown = [self._view(agent) for agent in later[: asked.limit]]
        return page.answer(call, shown, more=len(later) > asked.limit)

    @route.get(f"{PATH}/{{id}}", "getAgent", http.AgentView, refuses=FINDING)
    async def get(self, call: Call) -> Response[bytes]:
        """One agent."""
        return reply(self._view(self._find(call)))

    @route.post(f"{PATH}/{{id}}/drain", "drainAgent", http.AgentView, refuses=CHANGING)
    async def drain(self, call: Call) -> Response[bytes]:
        """Give it no new tasks.

        What runs there runs on; nothing new is sent. It survives the agent's reconnects.
        """
        return await self._wish(call, drain=True)

    @route.post(f"{PATH}/{{id}}/resume", "resumeAgent", http.AgentView, refuses=CHANGING)
    async def resume(self, call: Call) -> Response[bytes]:
        """Let it take tasks again."""
        return await self._wish(call, drain=False)

    async def _wish(self, call: Call, *, drain: bool) -> Response[bytes]:
        agent_id = self._find(call).id
        actor = visit(call).actor
        await self._backend.engine.post(event.DrainRequested(agent_id, drain, actor))
        agent = self._backend.engine.world.agents.get(agent_id)
        if agent is None:
            raise NotFound(f"agent {agent_id} has been forgotten")
        return reply(self._view(agent))

    def _find(self, call: Call) -> Agent:
        agents = self._backend.engine.world.agents
        names: dict[str, str] = {agent.id: agent.name for agent in agents.values()}
        return agents[AgentId(by_reference(reference(call), "agent", names))]

    def _view(self, agent: Agent) -> http.AgentView:
        engine = self._backend.engine
        world, links = engine.world, engine.links
        running = sum(
            world.attempts[key].state not in TERMINAL for key in world.attempts_of(agent.id)
        )
        return views.agent(
            agent,
            world.rooms.get(agent.id),
            running,
            links.last_seen_s(agent.id),
            links.load(agent.id),
            links.foreign(agent.id),
        )
