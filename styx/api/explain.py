"""Why is a task not running yet, or what happened to it: in one sentence, as data, and as history."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final, cast

from styx.api import views
from styx.api.views import Names
from styx.core import choice, explain, status
from styx.core.attempt import TERMINAL as ATTEMPT_TERMINAL
from styx.core.attempt import Attempt
from styx.core.policy import Policy
from styx.core.task import TERMINAL as TASK_TERMINAL
from styx.core.task import Reason, Task, TaskState
from styx.core.world import World
from styx.wire import http

# What helps, by the first thing that hinders.
_CURES: Final = {
    "no_agent": "start one here with: styx agent",
    "needs_unmet": "styx explain ID of the task that it waits for",
    "too_few_cpus": "ask for fewer cpus, or start an agent with more",
    "too_little_memory": "ask for less memory, or start an agent with more",
    "too_little_disk": "ask for less disk, or start an agent with more",
    "too_few_gpus": "ask for fewer GPUs, or start an agent with more",
    "no_such_gpu": "ask for a GPU that an agent has, or start an agent with that one",
    "labels": "start an agent with the label: styx agent --label KEY=VALUE",
    "arch": "start an agent on such a machine",
    "no_feature": "start an agent that can, or do without",
    "agent_draining": "let it take tasks again with: styx resume AGENT",
    "parallel": "let more of them run at once: raise `parallel`",
    "gang_incomplete": "ask for fewer nodes, or start more agents",
}
_ENDS: Final = {
    Reason.OOM: "ask for more memory, or use less",
    Reason.TIMEOUT: "give it more time with `timeout`",
    Reason.QUEUE_TIMEOUT: "give it more time with `queue_timeout`, or start an agent that fits",
    Reason.SPAWN_ERROR: "check the command and its workdir on the agent's machine",
    Reason.SECRET_MISSING: "set the secret, then: styx retry ID",
    Reason.IMAGE: "check the image's name, and that the agent's user may pull it: podman login, docker login",
    Reason.REGISTRY: "see whether the agent's machine reaches the registry of its image, then: styx retry ID",
    Reason.NEED_UNMET: "see why the task that it needs did not end as wanted, then: styx retry ID",
    Reason.POISON: "its machine died under it too often: look at that machine, or ask for more memory",
}


def explanation(
    task: Task,
    attempts: Sequence[Attempt],
    agents: Names,
    world: World,
    policy: Policy,
    now: datetime,
) -> http.Explanation:
    found = explain.hindrances(world, task.id, now, policy)
    word = status.of(task, [a for a in attempts if a.n == task.attempt])
    return http.Explanation(
        task_id=task.id,
        name=task.name,
        status=cast("http.Status", word),
        summary=_summary(task, word, views.task(task, attempts, agents), found, now),
        hindrances=views.hindrances(found),
        hint=_CURES.get(found[0].code, "") if found else _ENDS.get(task.reason, ""),
        history=history(task, attempts, agents),
    )


def history(task: Task, attempts: Sequence[Attempt], agents: Names) -> list[http.HistoryView]:
    """From the rows, in the order of time; each attempt has at most four moments."""
    told = [_of_task(task, task.created_at, "submitted")]
    if task.ready_at:
        told.append(_of_task(task, task.ready_at, "ready"))
    for attempt in attempts:
        told += _of_attempt(task, attempt, agents)
    if task.cancel_at:
        told.append(_of_task(task, task.cancel_at, "cancel_requested"))
    if task.finished_at and task.state in TASK_TERMINAL:
        told.append(_of_task(task, task.finished_at, str(task.state), str(task.reason)))
    # Stable: what has the same moment stays in the order of cause and effect.
    return sorted(told, key=lambda event: event.at)


def _of_task(task: Task, at: datetime, what: str, reason: str = "") -> http.HistoryView:
    attempt = task.attempt if what == task.state else 0
    return http.HistoryView(
        at=at, what=what, attempt=attempt, rank=0, agent="", reason=reason, detail=""
    )


def _of_attempt(task: Task, attempt: Attempt, agents: Names) -> list[http.HistoryView]:
    ended = attempt.state in ATTEMPT_TERMINAL
    moments = (
        (attempt.assigned_at, "assigned"),
        (attempt.accepted_at, "accepted"),
        (attempt.started_at, "running"),
        (attempt.ended_at if ended else None, f"attempt_{attempt.state}"),
    )
    agent = views.name_of(attempt.agent_id, agents)
    wanted = task.spec.requirements
    took = f"takes {choice.told(wanted)[attempt.choice]}" if wanted.any_of else ""
    return [
        http.HistoryView(
            at=at,
            what=what,
            attempt=attempt.n,
            rank=attempt.rank,
            agent=agent,
            reason=str(attempt.reason) if what.startswith("attempt_") else "",
            detail=_how(attempt)
            if what.startswith("attempt_")
            else took
            if what == "assigned"
            else "",
        )
        for at, what in moments
        if at is not None
    ]


def _how(attempt: Attempt) -> str:
    end = attempt.exit
    if end is None:
        return ""
    if end.detail:
        return end.detail
    if end.signal is not None:
        return f"signal {end.signal}"
    return "" if end.code is None else f"exit {end.code}"


def _summary(
    task: Task,
    word: str,
    view: http.TaskView,
    found: Sequence[explain.Hindrance],
    now: datetime,
) -> str:
    if task.state in TASK_TERMINAL:
        return _ending(task, view)
    if task.state is TaskState.ACTIVE:
        since = view.started_at or task.ready_at or task.created_at
        on = f" on {view.agent}" if view.agent else ""
        return f"{word}{on} for {_span(now, since)}, attempt {task.attempt}"
    why = f": {found[0].message}" if found else ""
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    since = (task.ready_at if task.state is TaskState.READY else None) or task.created_at
    return f"{word} for {_span(now, since)}{why}{more}"


def _ending(task: Task, view: http.TaskView) -> str:
    said = str(task.state)
    if view.exit_code:
        said += f" with exit code {view.exit_code}"
    elif view.signal is not None:
        said += f" by signal {view.signal}"
    if task.reason not in {Reason.NONE, Reason.EXIT_CODE, Reason.SIGNAL} and task.reason != said:
        said += f": {task.reason}"
    if task.taken_from is not None:
        said += f", taken from {task.taken_from}, which did the same"
    if task.attempt > 1:
        said += f", after {task.attempt} attempts"
    return said


def _span(now: datetime, since: datetime) -> str:
    seconds = max(0, round((now - since).total_seconds()))
    if seconds < 60:
        return f"{seconds}s"
    minutes, seconds = divmod(seconds, 60)
    if minutes < 60:
        return f"{minutes}m {seconds}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h {minutes}m" if hours < 48 else f"{hours // 24}d {hours % 24}h"
