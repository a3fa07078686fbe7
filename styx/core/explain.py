"""Why a task is not running yet: every agent with its reason, and who is before it in the line."""

from datetime import datetime
from typing import Final, Protocol

import msgspec

from styx.core.agent import AgentState
from styx.core.attempt import AttemptState
from styx.core.ids import AgentId, TaskId
from styx.core.match import why_never, why_not_now
from styx.core.policy import Policy
from styx.core.queue import Limit, limit_of, place_of
from styx.core.room import Room
from styx.core.spec import RANK
from styx.core.task import Task, TaskState
from styx.core.world import World

MAX_LISTED = 50  # needs, agents or tasks named; more are counted


class Hindrance(msgspec.Struct, frozen=True):
    """`code` is a machine word, `subject` an agent's or a task's name, `id` its id."""

    code: str
    subject: str
    message: str
    id: str = ""


NO_AGENT: Final = Hindrance("no_agent", "", "no agent is connected")


def hindrances(world: World, task_id: TaskId, now: datetime, policy: Policy) -> list[Hindrance]:
    """Most telling first; empty for a task that runs or is over."""
    task = world.tasks.find(task_id)
    if task is None:
        return []
    if task.state is TaskState.BLOCKED:
        return _needs(world, task)
    if task.state is TaskState.ACTIVE:
        return _given_ahead(world, task)
    if task.state is not TaskState.READY:
        return []
    if task.not_before and task.not_before > now:
        left_s = (task.not_before - now).total_seconds()
        words = f"retries in {left_s:.0f}s, after attempt {task.attempt}"
        return [Hindrance("backoff", task.name, words)]
    return waits(world, task, policy, world)


def _given_ahead(world: World, task: Task) -> list[Hindrance]:
    """An agent has it already, and perhaps no room for it yet."""
    for attempt in world.attempts_of_task(task.id):
        room = world.rooms.get(attempt.agent_id)
        if attempt.state is AttemptState.ASSIGNED and room and room.overdrawn():
            name = world.agents[attempt.agent_id].name
            words = f"{name} has it, and starts it as soon as what runs there has ended"
            return [Hindrance("ahead", name, words, attempt.agent_id)]
    return []


def _needs(world: World, task: Task) -> list[Hindrance]:
    waiting = [world.tasks[e.task_id] for e in task.needs if e.task_id in world.tasks]
    found = [
        Hindrance(
            "needs_unmet", need.name, f"waits for {need.name}, which is {_word(need)}", need.id
        )
        for need in waiting[:MAX_LISTED]
    ]
    if len(waiting) > MAX_LISTED:
        found.append(Hindrance("needs_unmet", "", f"and {len(waiting) - MAX_LISTED} more needs"))
    return found


def _word(task: Task) -> str:
    return {TaskState.READY: "queued", TaskState.ACTIVE: "running"}.get(task.state, str(task.state))


class Seen(Protocol):
    """What is left where, and what is active: by the world, or by a draft that has placed something."""

    def room(self, agent_id: AgentId) -> Room: ...
    def active(self, limit: Limit) -> int: ...


def waits(world: World, task: Task, policy: Policy, seen: Seen) -> list[Hindrance]:
    """Of a ready task that was not placed: its spec's own bound, or every agent with its reason."""
    limit = limit_of(task)
    if limit and seen.active(limit) >= limit.parallel:
        words = f"{limit.parallel} of {limit.spec} are active, and no more may be at once"
        return [Hindrance("parallel", limit.spec, words)]
    wanted = task.spec.requirements
    agents = [a for a in world.agents.values() if a.state is not AgentState.GONE]
    if not agents:
        return [NO_AGENT]
    never: list[Hindrance] = []
    passing: list[Hindrance] = []
    free: list[str] = []
    for agent in agents:
        why = why_never(wanted, agent) or why_not_now(wanted, agent, seen.room(agent.id))
        if why is None:
            free.append(agent.name)
            continue
        said = Hindrance(why.code, agent.name, f"{agent.name} {why.message}", agent.id)
        (passing if why.passing else never).append(said)
    found: list[Hindrance] = []
    if task.spec.num_nodes > 1:
        found.append(
            Hindrance(
                "gang_incomplete",
                task.name,
                f"needs {task.spec.num_nodes} agents at once, {len(free)} have room",
            )
        )
    elif free:
        found += _kept(world, task, free, policy)
    if passing or free:
        found += _ahead(world, task)
    return found + passing[:MAX_LISTED] + never[:MAX_LISTED]


def _kept(world: World, task: Task, free: list[str], policy: Policy) -> list[Hindrance]:
    """An agent has room and yet the task waits: kept for one that waited longer, or just freed."""
    reserved = {world.agents[a].name for agents in world.reserved.values() for a in agents}
    kept = [name for name in free if name in reserved]
    if not kept:
        return [Hindrance("about_to_start", task.name, f"{free[0]} has room: it starts next")]
    return [
        Hindrance(
            "reserved",
            name,
            f"{name} is kept free for a task that waited over {policy.reserve_after_s:g}s",
        )
        for name in kept[:MAX_LISTED]
    ]


def _ahead(world: World, task: Task) -> list[Hindrance]:
    """Those before it in the line, of any class; the first is named."""
    mine = place_of(task)
    first: Task | None = None
    higher = same = 0
    for queue in world.queues.values():
        for place in queue.walk():
            if place >= mine:
                break
            other = world.tasks.find(place.task_id)
            if other is None or other.state is not TaskState.READY:
                continue
            if place.minus_rank < mine.minus_rank:
                higher += 1
            else:
                same += 1
            if first is None or place < place_of(first):
                first = other
            if higher + same >= 1_000:
                break
    if first is None:
        return []
    if higher:
        assert RANK[first.spec.priority] > RANK[task.spec.priority]
        words = (
            f"waits behind {higher} of higher priority, first {first.name} ({first.spec.priority})"
        )
        return [Hindrance("behind_higher_priority", first.name, words, first.id)]
    return [
        Hindrance(
            "behind_older",
            first.name,
            f"waits behind {same} older tasks, first {first.name}",
            first.id,
        )
    ]
