"""What would become of a job if it were submitted now: decided by the scheduler itself, and thrown away."""

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import islice
from typing import Final

import msgspec

from styx.core import explain, place
from styx.core.agent import AgentState
from styx.core.cache import Taken
from styx.core.draft import Draft
from styx.core.explain import Hindrance
from styx.core.ids import AgentId, JobId, SpecId, TaskId
from styx.core.job import Job
from styx.core.match import why_never
from styx.core.policy import Policy
from styx.core.spec import JobSpec, TaskSpec
from styx.core.task import Task, TaskState
from styx.core.world import World

TRIED: Final = 2_000  # tasks of one plan: no more than a turn may take
_JOB: Final = JobId("~plan")
_ID: Final = "~plan-{:07d}"  # sorts behind every real one: the newest in the line


class Planned(msgspec.Struct, frozen=True):
    """The tasks of one spec: those that start, wait for room, are blocked by a need, are taken from earlier
    ones, and were beyond `TRIED`, are all.
    """

    spec: TaskSpec
    starting: int = 0
    waiting: int = 0
    blocked: int = 0
    cached: int = 0
    untried: int = 0
    agents: tuple[tuple[AgentId, int], ...] = ()  # how many go where; of a gang each member counts
    hindrances: tuple[Hindrance, ...] = ()  # of the first that waits, or why none could ever run


def plan(
    world: World,
    spec: JobSpec,
    now: datetime,
    policy: Policy,
    *,
    project: str,
    taken: Taken,
) -> list[Planned]:
    """One for each spec, in their order. Reads the world, changes nothing."""
    draft = Draft(world, now, msgspec.structs.replace(policy, placements_per_turn=TRIED))
    draft.put_job(Job(id=_JOB, name=spec.name, project=project, created_at=now, total=spec.width))
    numbers = iter(range(TRIED))
    over = _over(spec, taken)
    done = {each.name for each in spec.tasks if over[each.name] == each.width}
    free = [all(need.task in done for need in each.needs) for each in spec.tasks]
    tried = [
        _put(draft, each, each.width - over[each.name], numbers) if may else None
        for each, may in zip(spec.tasks, free, strict=True)
    ]
    place.place(draft)
    return [
        _planned(draft, each, over[each.name], tasks)
        for each, tasks in zip(spec.tasks, tried, strict=True)
    ]


def _over(spec: JobSpec, taken: Taken) -> dict[str, int]:
    """How many tasks of each spec are taken from earlier ones."""
    over: dict[str, int] = {}
    start = 0
    for each in spec.tasks:
        over[each.name] = sum(start + index in taken for index in range(each.width)) if taken else 0
        start += each.width
    return over


def _put(draft: Draft, spec: TaskSpec, width: int, numbers: Iterator[int]) -> list[TaskId]:
    ids = [TaskId(_ID.format(number)) for number in islice(numbers, width)]
    for index, task_id in enumerate(ids):
        draft.put_task(
            Task(
                id=task_id,
                job_id=_JOB,
                spec_id=SpecId(ids[0]),
                spec=spec,
                created_at=draft.now,
                array_index=None if spec.array_count is None else index,
                state=TaskState.READY,
                ready_at=draft.now,
            )
        )
    return ids


def _planned(draft: Draft, spec: TaskSpec, cached: int, tried: Sequence[TaskId] | None) -> Planned:
    """`tried`: those of its tasks that were put to the test; None, when others come first."""
    left = spec.width - cached
    never = tuple(_never(draft.world, spec)) if left else ()
    if tried is None:
        return Planned(spec, blocked=left, cached=cached, hindrances=never)
    placed: Counter[AgentId] = Counter()
    waiting: list[Task] = []
    for task_id in tried:
        task = draft.delta.tasks[task_id]
        placed.update(attempt.agent_id for attempt in draft.members(task))
        if task.state is TaskState.READY:
            waiting.append(task)
    why = never or tuple(
        explain.waits(draft.world, waiting[0], draft.policy, draft) if waiting else ()
    )
    return Planned(
        spec,
        starting=len(tried) - len(waiting),
        waiting=len(waiting),
        cached=cached,
        untried=left - len(tried),
        agents=tuple(placed.most_common()),
        hindrances=why,
    )


def _never(world: World, spec: TaskSpec) -> Iterator[Hindrance]:
    """Why no agent could run it, were it idle; nothing where one could."""
    if world.could_run(spec.requirements):
        return
    agents = [agent for agent in world.agents.values() if agent.state is not AgentState.GONE]
    if not agents:
        yield explain.NO_AGENT
    for agent in agents[: explain.MAX_LISTED]:
        why = why_never(spec.requirements, agent)
        assert why is not None, f"{agent.id}: could run it"
        yield Hindrance(why.code, agent.name, f"{agent.name} {why.message}", agent.id)
