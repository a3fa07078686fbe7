"""Who asked for what, and which machines came and went: one entry for a request, however much it moves."""

import hashlib
from collections.abc import Mapping
from datetime import datetime
from typing import Final

import msgspec

from styx.core import event as ev
from styx.core.agent import Agent, AgentState
from styx.core.ids import AgentId

OURSELVES: Final = "styx"  # nobody asked
BEGINNING: Final = 64 * "0"  # stands for the hash before the first


class Entry(msgspec.Struct, frozen=True):
    """`actor` is a token, a user or an agent, as `kind:name`; `object` the id of what it is about."""

    at: datetime
    actor: str
    action: str
    object: str
    detail: str = ""  # for people


class Link(msgspec.Struct, frozen=True):
    """An entry in the chain: as the very text that was hashed."""

    seq: int
    prev: str
    text: str
    hash: str

    @property
    def holds(self) -> bool:
        said = f"{self.prev} {self.seq} {self.text}"
        return hashlib.sha256(said.encode()).hexdigest() == self.hash

    def follows(self, before: "Link") -> bool:
        return self.seq == before.seq + 1 and self.prev == before.hash


def entry(
    event: ev.Event, answer: ev.Answer, agents: Mapping[AgentId, Agent], now: datetime
) -> Entry | None:
    """What is to be told of an event, of the agents as they were before it; None of most."""
    if isinstance(answer, ev.Missing | ev.AlreadySubmitted):
        return None
    match event:
        case ev.JobSubmitted():
            action = "job.retry" if event.retry_of else "job.submit"
            again = f", {event.retry_of} again" if event.retry_of else ""
            detail = f"{event.spec.name}: {event.spec.width} tasks{again}"
            return Entry(now, event.actor, action, event.job_id, detail)
        case ev.CancelRequested():
            return _cancelled(event, now)
        case ev.DrainRequested():
            action = "agent.drain" if event.drain else "agent.resume"
            return Entry(now, event.actor, action, event.agent_id)
        case ev.AgentConnected():
            return _joined(event, agents.get(event.agent_id), now)
        case ev.AgentLost():
            before = agents.get(event.agent_id)
            if before is None or before.state is AgentState.GONE:
                return None
            return Entry(now, OURSELVES, "agent.lost", event.agent_id, event.reason)
        case _:
            return None


def _cancelled(event: ev.CancelRequested, now: datetime) -> Entry:
    how = "with force" if event.force else ""
    if event.job_id:
        return Entry(now, event.actor, "job.cancel", event.job_id, how)
    first = event.task_ids[0] if event.task_ids else ""
    others = f"and {len(event.task_ids) - 1} more" if len(event.task_ids) > 1 else ""
    return Entry(now, event.actor, "task.cancel", first, " ".join(filter(None, (others, how))))


def _joined(event: ev.AgentConnected, before: Agent | None, now: datetime) -> Entry | None:
    """Not each time that it comes back: only as a new one, or with another disk."""
    if before and before.state is not AgentState.GONE and before.store_id == event.store_id:
        return None
    detail = f"{event.name} at {event.address}"
    return Entry(now, f"agent:{event.agent_id}", "agent.join", event.agent_id, detail)
