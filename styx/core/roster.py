"""Agents come, agree with the server on what they hold, fall silent, and go."""

from datetime import timedelta

import msgspec

from styx.core import lifecycle, policy
from styx.core.agent import Agent, AgentState
from styx.core.attempt import TERMINAL, Attempt, AttemptState, StopReason
from styx.core.draft import Draft
from styx.core.event import (
    AgentConnected,
    AgentDisconnected,
    AgentHeard,
    AgentLost,
    AgentPreempted,
    AgentSilent,
    AgentSynced,
    AttemptAccepted,
    AttemptExited,
    AttemptStarted,
    AttemptVoided,
    DrainRequested,
    Known,
    Missing,
    SyncAnswer,
    Welcomed,
)
from styx.core.ids import AttemptKey
from styx.core.spec import Delivery
from styx.core.task import Reason

replace = msgspec.structs.replace


def connected(draft: Draft, event: AgentConnected) -> Welcomed:
    """Number the session. A state directory that is another one has lost what ran under the old."""
    before = draft.agent(event.agent_id)
    if before and before.store_id != event.store_id:
        for attempt in draft.attempts_of(event.agent_id):
            _lose_unless_resendable(draft, attempt)
    agent = Agent(
        id=event.agent_id,
        name=event.name,
        state=AgentState.JOINING,
        session=before.session + 1 if before else 1,
        store_id=event.store_id,
        boot_id=event.boot_id,
        version_text=event.version,
        address=event.address,
        capacity=event.capacity,
        labels=event.labels,
        drain=before.drain if before else False,
        rejects=before.rejects if before else 0,
        rejects_since=before.rejects_since if before else None,
        preempt_at=before.preempt_at if before and before.boot_id == event.boot_id else None,
        joined_at=before.joined_at if before else draft.now,
        changed_at=draft.now,
    )
    draft.put_agent(agent)
    return Welcomed(agent.session)


def synced(draft: Draft, event: AgentSynced) -> SyncAnswer | Missing:
    """Bring the rows and what the agent holds together, pair by pair."""
    agent = _in_session(draft, event)
    if agent is None or agent.state is not AgentState.JOINING:
        return Missing("session")
    held = {known.key: known for known in event.attempts}
    mine = {a.key: a for a in draft.attempts_of(agent.id)}
    forget: list[AttemptKey] = []
    stop: list[AttemptKey] = []
    foreign: list[AttemptKey] = []
    of_others = frozenset(event.foreign)
    adopted = 0
    for key, known in held.items():
        attempt = mine.get(key)
        if attempt is None or attempt.state in TERMINAL:
            over = known.state in TERMINAL
            if over and attempt is not None:
                _apply(draft, agent, known)
            if not over:
                # Of another history than this database remembers: its operator decides (4.6).
                (foreign if attempt is None and key in of_others else stop).append(key)
            elif attempt is None or attempt.logs_complete:
                forget.append(key)
        elif attempt.state is AttemptState.RUNNING and known.state is AttemptState.ACCEPTED:
            # It was seen running, and no agent goes back: its memory is damaged (4.6).
            lifecycle.lose(draft, attempt, Reason.STATE_LOST)
            stop.append(key)
        else:
            adopted += known.state not in TERMINAL
            _apply(draft, agent, known)
    for key, attempt in mine.items():
        if key not in held:
            _absent(draft, attempt, restored=event.restored)
    _settle_in(draft, agent)
    return SyncAnswer(tuple(forget), tuple(stop), adopted, tuple(foreign))


def disconnected(draft: Draft, event: AgentDisconnected) -> None:
    agent = _in_session(draft, event)
    if agent and agent.state is not AgentState.GONE:
        _move(draft, agent, AgentState.DISCONNECTED)


def silent(draft: Draft, event: AgentSilent) -> None:
    agent = _in_session(draft, event)
    if agent and agent.state in {AgentState.READY, AgentState.DRAINING}:
        _move(draft, agent, AgentState.SUSPECT)


def heard(draft: Draft, event: AgentHeard) -> None:
    agent = _in_session(draft, event)
    if agent and agent.state is AgentState.SUSPECT:
        _settle_in(draft, agent)


def preempted(draft: Draft, event: AgentPreempted) -> None:
    """No new work for it; what runs there has until shortly before the end, then goes elsewhere (D-10)."""
    agent = _in_session(draft, event)
    if agent is None or agent.state is AgentState.GONE:
        return
    told = replace(agent, preempt_at=draft.now + timedelta(seconds=event.deadline_s))
    if agent.state is AgentState.READY:
        _settle_in(draft, told)
    else:
        draft.put_agent(told)
    grace_s = max(0.0, event.deadline_s - policy.PREEMPT_MARGIN_S)
    for attempt in draft.attempts_of(agent.id):
        lifecycle.stop(draft, attempt, StopReason.PREEMPT, grace_s)


def lost(draft: Draft, event: AgentLost) -> None:
    """Declare every attempt of the agent lost, and the agent gone until it joins again."""
    agent = draft.agent(event.agent_id)
    if agent is None or agent.state is AgentState.GONE:
        return
    for attempt in draft.attempts_of(agent.id):
        lifecycle.lose(draft, attempt, event.reason)
    # The session ends with the verdict: nothing it still says may count.
    _move(draft, replace(agent, session=agent.session + 1), AgentState.GONE)


def drain(draft: Draft, event: DrainRequested) -> Missing | None:
    agent = draft.agent(event.agent_id)
    if agent is None:
        return Missing("agent")
    if agent.drain == event.drain and agent.preempt_at is None:
        return None
    fresh = replace(agent, rejects=0, rejects_since=None, preempt_at=None)
    _wish(draft, fresh, drain=event.drain)
    return None


def voided(draft: Draft, event: AttemptVoided) -> None:
    """What is rejected costs the task nothing; who rejects time and again is given no more (D-5)."""
    rejected = lifecycle.voided(draft, event)
    agent = draft.agent(event.agent_id)
    if rejected is None or agent is None or not _blamed(rejected, event.reason):
        return
    since = agent.rejects_since
    passed_s = (draft.now - since).total_seconds() if since else policy.REJECTS_WINDOW_S
    if passed_s >= policy.REJECTS_WINDOW_S:
        draft.put_agent(replace(agent, rejects=1, rejects_since=draft.now))
    elif passed_s >= agent.rejects or passed_s < 0:  # at most one a second
        # The clock of another leader may be behind: counted from there, lest all wait until it has caught up.
        first = min(since or draft.now, draft.now)
        agent = replace(agent, rejects=agent.rejects + 1, rejects_since=first)
        _wish(draft, agent, drain=agent.drain or agent.rejects >= policy.REJECTS_ALLOWED)


def _wish(draft: Draft, agent: Agent, *, drain: bool) -> None:
    wished = replace(agent, drain=drain)
    if agent.state is (AgentState.READY if drain else AgentState.DRAINING):
        _settle_in(draft, wished)
    else:
        draft.put_agent(wished)


def _blamed(rejected: Attempt, reason: Reason) -> bool:
    """Not for what was stopped before it began, came while the agent stood still, or was given ahead."""
    excused = {Reason.STALE_ASSIGN, Reason.AGENT_BUSY}
    return rejected.stop_reason is StopReason.NONE and reason not in excused


def _in_session(
    draft: Draft,
    event: AgentSynced | AgentDisconnected | AgentSilent | AgentHeard | AgentPreempted,
) -> Agent | None:
    """The agent, if the event speaks of its newest connection."""
    agent = draft.agent(event.agent_id)
    return agent if agent and agent.session == event.session else None


def _settle_in(draft: Draft, agent: Agent) -> None:
    leaves = agent.drain or agent.preempt_at is not None
    _move(draft, agent, AgentState.DRAINING if leaves else AgentState.READY)


def _move(draft: Draft, agent: Agent, state: AgentState) -> None:
    draft.put_agent(replace(agent, state=state, changed_at=draft.now))


def _apply(draft: Draft, agent: Agent, known: Known) -> None:
    """What the agent says of a live attempt counts as if it had just happened."""
    match known.state:
        case AttemptState.ACCEPTED:
            lifecycle.accepted(draft, AttemptAccepted(known.key, agent.id))
        case AttemptState.RUNNING:
            lifecycle.started(draft, AttemptStarted(known.key, agent.id))
        case AttemptState.REJECTED:
            reason = known.exit.reason if known.exit else Reason.NONE
            voided(draft, AttemptVoided(known.key, agent.id, reason))
        case _:
            if known.exit:
                lifecycle.exited(draft, AttemptExited(known.key, agent.id, known.exit))


def _absent(draft: Draft, attempt: Attempt, *, restored: bool) -> None:
    """The agent does not know an attempt that it should hold."""
    task = draft.task(attempt.task_id)
    once = task is not None and task.spec.delivery is Delivery.AT_MOST_ONCE
    if attempt.state is not AttemptState.ASSIGNED or (restored and once):
        # Since the backup it may have run, and been forgotten again.
        lifecycle.lose(draft, attempt, Reason.STATE_LOST)
    elif attempt.stop_reason is not StopReason.NONE:
        # Never accepted, and not to start any more: nothing of it can be anywhere.
        state, reason = lifecycle.stopped(attempt.stop_reason)
        lifecycle.end(draft, replace(attempt, logs_complete=True), state, reason)


def _lose_unless_resendable(draft: Draft, attempt: Attempt) -> None:
    """The state directory that knew whether it has begun is gone: only what may run twice is sent again."""
    task = draft.task(attempt.task_id)
    resendable = (
        attempt.state is AttemptState.ASSIGNED
        and task is not None
        and task.spec.delivery is Delivery.AT_LEAST_ONCE
        and not task.spec.exclusive
    )
    if not resendable:
        lifecycle.lose(draft, attempt, Reason.AGENT_REPLACED)
