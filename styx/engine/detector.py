"""Who has fallen silent. Silence is not death: it takes `lost_after` of it, counted from when this
server could have heard anything, and a majority falling silent at once points at the listener.
"""

from collections.abc import Mapping
from typing import Final

import structlog

from styx.core import event
from styx.core.agent import Agent, AgentState
from styx.core.ids import AgentId
from styx.engine.links import Links

PERIOD_S: Final = 1.0
STALL_S: Final = 5.0  # a detector that was itself away for so long has heard nobody meanwhile
BRAKE_AGENTS: Final = 3
BRAKE_MAX_S: Final = 1_800.0

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()

_LINKED: Final = frozenset(
    {AgentState.JOINING, AgentState.READY, AgentState.SUSPECT, AgentState.DRAINING}
)


class Detector:
    """Derives what to post from what was heard; asked again each second, so nothing it posts can be lost."""

    def __init__(
        self, links: Links, *, suspect_after_s: float, lost_after_s: float, start_s: float
    ) -> None:
        self._links = links
        self._suspect_after_s = suspect_after_s
        self._lost_after_s = lost_after_s
        self._start_s = start_s  # all silence counts from here
        self._looked_s = start_s
        self._braked_s: float | None = None

    def look(self, agents: Mapping[AgentId, Agent], now_s: float) -> list[event.Event]:
        """What the silence or the voice of each agent means at `now_s`, on the monotonic clock."""
        if now_s - self._looked_s > STALL_S:
            self._start_s = now_s
        self._looked_s = now_s
        silences = {
            agent.id: now_s - max(self._links.heard_s(agent.id) or self._start_s, self._start_s)
            for agent in agents.values()
            if agent.state is not AgentState.GONE
        }
        silent = {id_ for id_, silence_s in silences.items() if silence_s >= self._patience_s(id_)}
        braked = self._brake(len(silent), len(silences), now_s)
        events: list[event.Event] = []
        for agent_id, silence_s in silences.items():
            if silence_s >= self._lost_after_s and not braked:
                log.warning("agent lost", agent=agents[agent_id].name, silent_s=round(silence_s))
                events.append(event.AgentLost(agent_id))
            elif found := self._link_event(agents[agent_id], agent_id in silent, now_s):
                events.append(found)
        return events

    def _patience_s(self, agent_id: AgentId) -> float:
        """Whoever was asked to beat less often may be silent for longer."""
        link = self._links.get(agent_id)
        return self._suspect_after_s * (link.every if link else 1)

    def _link_event(self, agent: Agent, silent: bool, now_s: float) -> event.Event | None:
        link = self._links.get(agent.id)
        if link is None:
            gone = agent.state in _LINKED
            return event.AgentDisconnected(agent.id, agent.session) if gone else None
        if not link.synced:
            return None
        if silent and agent.state is not AgentState.SUSPECT:
            return event.AgentSilent(agent.id, agent.session)
        # After a stall of ours all silence counts anew; but who was suspect is trusted when it speaks.
        spoke = now_s - link.heard_s < self._patience_s(agent.id)
        if not silent and spoke and agent.state is AgentState.SUSPECT:
            return event.AgentHeard(agent.id, agent.session)
        return None

    def _brake(self, silent: int, all_: int, now_s: float) -> bool:
        """R-22: while most agents are silent none is declared lost, for half an hour at most."""
        if silent < BRAKE_AGENTS or 2 * silent <= all_:
            self._braked_s = None
            return False
        if self._braked_s is None:
            self._braked_s = now_s
            log.error("most agents are silent; none is declared lost", silent=silent)
        return now_s - self._braked_s < BRAKE_MAX_S
