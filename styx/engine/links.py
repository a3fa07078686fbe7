"""Which agent is connected, and what waits to be sent to it.

A `Link` is one session's outgoing side. `Links` turns changed rows into messages, and sends again
what an agent has not acted on: a directive is owed until its row changes, not until it was sent.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from itertools import islice
from typing import Final

import msgspec

from styx.core import choice, effect, trace
from styx.core.agent import AgentState
from styx.core.attempt import TERMINAL as ATTEMPT_TERMINAL
from styx.core.attempt import Attempt, StopReason
from styx.core.delta import Delta
from styx.core.ids import AgentId, AttemptKey
from styx.core.spec import DEFAULT_GRACE_S, TaskSpec
from styx.core.task import Task
from styx.core.world import World
from styx.engine.admission import Credit, Doorstep, Handshakes
from styx.wire import agent as wire

CONTROL_LIMIT: Final = 10_000  # messages; an agent that reads none of so many is closed
DIRECTIVES_LIMIT: Final = (
    10_000  # each of assigns and forgets; dropped beyond, as both are owed again
)
FRAME_MESSAGES: Final = 256
RETURN_AFTER_S: Final = 1.0
LINGER_S: Final = 0.005  # what frees the agent's disk waits for company: a frame costs more than it

FromServer = wire.FromServer


class Link:
    """One session's outgoing messages in bounded queues of strict priority: control, assigns, the rest."""

    def __init__(self, heard_s: float) -> None:
        self.agent_id = AgentId("")  # until its hello
        self.store_id = ""
        self.session = 0  # until its connection is committed
        self.synced = False  # from then on it is sent directives
        self.heard_s = heard_s
        self.load: wire.Load | None = None
        self.every = 1  # of its heartbeats, the one that is due next: see `pace`
        # Attempts of another history of the database: see `wire.SyncOk`.
        self.foreign: set[AttemptKey] = set()
        self.bye: wire.Bye | None = None
        self.closing = asyncio.Event()
        self.secretive = False  # it was given an assignment that wants secrets
        self._control: deque[FromServer] = deque()
        self._assigns: deque[FromServer] = deque()
        self._forgets: dict[AttemptKey, None] = {}
        self._stored: dict[tuple[AttemptKey, int], int] = {}  # only the newest offset is of use
        self._wake = asyncio.Event()
        self._lingering = False  # a wake-up is due soon

    def send(self, message: FromServer) -> None:
        """Queue it by its priority; once the session is closing, not at all. Never blocks."""
        if self.closing.is_set():
            return None
        match message:
            case wire.LogOk():
                self._stored[message.key, message.stream] = message.next
                return self._wake_soon()
            case wire.Forget():
                if len(self._forgets) < DIRECTIVES_LIMIT:
                    self._forgets[message.key] = None
                return self._wake_soon()
            case wire.Assign():
                if len(self._assigns) < DIRECTIVES_LIMIT:
                    self._assigns.append(message)
                    self.secretive = self.secretive or bool(message.spec.secrets)
            case _ if len(self._control) < CONTROL_LIMIT:
                self._control.append(message)
            case _:
                self.close(wire.Bye(wire.CLOSE_OVERLOAD, "reads too slowly", RETURN_AFTER_S))
        return self._wake.set()

    def close(self, bye: wire.Bye) -> None:
        """End the session once what is queued has been sent; `bye` tells the agent why.

        Assigns are not sent any more, nor is a lease renewed: after a verdict of loss they would start
        what runs elsewhere by then (R-23, R-40). They are owed again by the next session.
        """
        self.bye = self.bye or bye
        self._assigns.clear()
        self._control = deque(m for m in self._control if not isinstance(m, wire.HeartbeatOk))
        self.closing.set()
        self._wake.set()

    async def take(self) -> list[FromServer]:
        """Wait for messages; return those of highest priority, or none once closed and drained."""
        while not (taken := self._next()) and not self.closing.is_set():
            self._wake.clear()
            await self._wake.wait()
        return taken

    def _wake_soon(self) -> None:
        if not self._lingering:
            self._lingering = True
            asyncio.get_running_loop().call_later(LINGER_S, self._wake.set)

    def _next(self) -> list[FromServer]:
        self._lingering = False
        taken: list[FromServer] = []
        for queue in (self._control, self._assigns):
            while queue and len(taken) < FRAME_MESSAGES:
                taken.append(queue.popleft())
        for key, stream in tuple(islice(self._stored, FRAME_MESSAGES - len(taken))):
            taken.append(wire.LogOk(key, stream, self._stored.pop((key, stream))))
        for key in tuple(islice(self._forgets, FRAME_MESSAGES - len(taken))):
            del self._forgets[key]
            taken.append(wire.Forget(key))
        return taken


class Links:
    def __init__(
        self,
        world: Callable[[], World],
        *,
        term: Callable[[], int],
        clock: Callable[[], datetime],
        monotonic: Callable[[], float],
        redrive_s: float,
        leading: Callable[[], bool] = lambda: True,
    ) -> None:
        self._world = world
        self._term = term
        self._clock = clock
        self._monotonic = monotonic
        self._redrive_s = redrive_s
        self._leading = leading  # what no commit has just confirmed is not said without
        self.doorstep = Doorstep()
        self.handshakes = Handshakes(monotonic)
        self.credit = Credit()
        self._links: dict[AgentId, Link] = {}
        self._heard_s: dict[AgentId, float] = {}  # of agents whose link is gone

    def __len__(self) -> int:
        return len(self._links)

    def connected(self, agent_id: AgentId) -> bool:
        return agent_id in self._links

    def get(self, agent_id: AgentId) -> Link | None:
        return self._links.get(agent_id)

    def last_seen_s(self, agent_id: AgentId) -> float | None:
        """Seconds since the last frame; None when not connected."""
        link = self._links.get(agent_id)
        return None if link is None else self._monotonic() - link.heard_s

    def heard_s(self, agent_id: AgentId) -> float | None:
        """When this server last heard of it, on the monotonic clock; None is never."""
        link = self._links.get(agent_id)
        return self._heard_s.get(agent_id) if link is None else link.heard_s

    def load(self, agent_id: AgentId) -> wire.Load | None:
        """The latest readings of a connected agent."""
        link = self._links.get(agent_id)
        return None if link is None else link.load

    def foreign(self, agent_id: AgentId) -> list[AttemptKey]:
        """What runs there and is of another history of this database, which was restored since."""
        link = self._links.get(agent_id)
        return sorted(link.foreign) if link else []

    def attach(self, link: Link) -> None:
        """The agent said hello on `link`: it is the newest, so an older one closes."""
        older = self._links.get(link.agent_id)
        if older is not None:
            older.close(wire.Bye(wire.CLOSE_SUPERSEDED, "the agent connected anew"))
        self._links[link.agent_id] = link

    def detach(self, link: Link) -> bool:
        """The session is over. False: a newer one had taken its place."""
        if self._links.get(link.agent_id) is not link:
            return False
        del self._links[link.agent_id]
        self._heard_s[link.agent_id] = link.heard_s
        return True

    def broadcast(self, message: FromServer) -> None:
        for link in self._links.values():
            link.send(message)

    def close_all(self, bye: Callable[[], wire.Bye]) -> None:
        for link in self._links.values():
            link.close(bye())

    def act(self, delta: Delta) -> None:
        """Tell each agent what its changed rows owe it, and close what was declared lost (R-23)."""
        for agent in delta.agents.values():
            if agent.state is AgentState.GONE:
                self._heard_s.pop(agent.id, None)
                if link := self._links.get(agent.id):
                    link.close(wire.Bye(wire.CLOSE_RESTART, "declared lost", RETURN_AFTER_S))
        for attempt in delta.attempts.values():
            link = self._links.get(attempt.agent_id)
            if link is not None and link.synced:
                self._direct(link, attempt)

    def redrive(self, older_than_s: float) -> None:
        for link in self._links.values():
            self.redrive_one(link, older_than_s)

    def redrive_one(self, link: Link, older_than_s: float = 0.0) -> None:
        """Send again what its agent has owed for that long: assigns and stops (R-30).

        Forgets are not among them: the next sync names what is still held.
        """
        world = self._world()
        if self._over(link, world):
            link.close(wire.Bye(wire.CLOSE_RESTART, "declared lost", RETURN_AFTER_S))
        if not link.synced or link.closing.is_set():
            return
        since = self._clock() - timedelta(seconds=older_than_s)
        for key in world.attempts_of(link.agent_id):
            attempt = world.attempts[key]
            live = attempt.state not in ATTEMPT_TERMINAL
            if live and (attempt.stop_at or attempt.assigned_at) <= since:
                self._direct(link, attempt)

    def release(self, link: Link, key: AttemptKey) -> None:
        """The agent says that an attempt is over: if it is so here, to its last byte, let go of it."""
        attempt = self._owned(link, key)
        link.foreign.discard(key)
        if attempt is None or isinstance(effect.pending(attempt), effect.Forget):
            link.send(wire.Forget(key))

    def remind(self, link: Link, key: AttemptKey) -> None:
        """The agent speaks of an attempt that should not run, or not any more: say so again (R-31)."""
        if not self._leading() or key in link.foreign:
            return  # it will speak of it again
        attempt = self._owned(link, key)
        if attempt is None or attempt.state in ATTEMPT_TERMINAL:
            link.send(wire.Stop(key, self._term(), StopReason.SUPERSEDED, DEFAULT_GRACE_S))
        elif attempt.stop_reason is not StopReason.NONE:
            self._direct(link, attempt)

    async def run(self) -> None:
        while True:
            await asyncio.sleep(self._redrive_s)
            if self._leading():
                self.redrive(self._redrive_s)

    def _over(self, link: Link, world: World) -> bool:
        """Whether the rows have ended this session, in a commit of which this server did not hear (R-23)."""
        agent = world.agents.get(link.agent_id)
        return link.session > 0 and (agent is None or agent.session > link.session)

    def _owned(self, link: Link, key: AttemptKey) -> Attempt | None:
        """The attempt, if it is that agent's to speak of and not over and done with."""
        attempt = self._world().attempts.get(key)
        return attempt if attempt and attempt.agent_id == link.agent_id else None

    def _direct(self, link: Link, attempt: Attempt) -> None:
        match effect.pending(attempt):
            case effect.Assign(key):
                # A suspect agent may thaw with it in its buffer, long after it was given up.
                if self._world().agents[attempt.agent_id].state is not AgentState.SUSPECT:
                    link.send(self._assign(key))
            case effect.Stop(key, reason, grace_s):
                link.send(wire.Stop(key, self._term(), reason, grace_s))
            case effect.Forget(key):
                link.send(wire.Forget(key))
            case None:
                pass

    def _assign(self, key: AttemptKey) -> wire.Assign:
        world = self._world()
        task = world.tasks[key.task_id]
        spec = _as_taken(task, world.attempts[key])
        index, values = task.array_index, spec.array_values
        its = trace.of_job(task.job_id, world.jobs[task.job_id].traceparent)
        return wire.Assign(
            key=key,
            term=self._term(),
            job_id=task.job_id,
            name=task.name,
            # One value is for this element; the others could fill a frame.
            spec=msgspec.structs.replace(spec, array_values=()) if values else spec,
            array_index=index,
            array_value=values[index] if values and index is not None else None,
            node_ips=_addresses(world, world.attempts_of_task(key.task_id)),
            traceparent=trace.of_attempt(its, key),
        )


def _as_taken(task: Task, attempt: Attempt) -> TaskSpec:
    """With the alternative that the attempt took as all that it needs: agents know of no others."""
    if not task.spec.requirements.any_of:
        return task.spec
    return msgspec.structs.replace(task.spec, requirements=choice.held(task, attempt))


def _addresses(world: World, members: Iterable[Attempt]) -> tuple[str, ...]:
    ranked = sorted(members, key=lambda attempt: attempt.rank)
    return tuple(world.agents[attempt.agent_id].address for attempt in ranked)
