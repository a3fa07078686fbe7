"""What would become of a job if it were submitted now: decided by the scheduler itself, and thrown away."""

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import islice
from typing import Final

import msgspec

from styx.core import explain, place
from styx.core.agent import AgentState
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
    """The tasks of one spec: `total` is the sum of those that start, wait for room, are blocked by a need,
    and were beyond `TRIED`.
    """

    spec: TaskSpec
    starting: int = 0
    waiting: int = 0
    blocked: int = 0
    untried: int = 0
    agents: tuple[tuple[AgentId, int], ...] = ()  # how many go where; of a gang each member counts
    hindrances: tuple[Hindrance, ...] = ()  # of the first that waits, or why none could ever run


def plan(
    world: World, spec: JobSpec, now: datetime, policy: Policy, *, project: str
) -> list[Planned]:
    """One for each spec, in their order. Reads the world, changes nothing."""
    draft = Draft(world, now, msgspec.structs.replace(policy, placements_per_turn=TRIED))
    draft.put_job(Job(id=_JOB, name=spec.name, project=project, created_at=now, total=spec.width))
    numbers = iter(range(TRIED))
    tried = [_put(draft, each, numbers) if not each.needs else [] for each in spec.tasks]
    place.place(draft)
    return [_planned(draft, each, tasks) for each, tasks in zip(spec.tasks, tried, strict=True)]


def _put(draft: Draft, spec: TaskSpec, numbers: Iterator[int]) -> list[TaskId]:
    ids = [TaskId(_ID.format(number)) for number in islice(numbers, spec.width)]
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


def _planned(draft: Draft, spec: TaskSpec, tried: Sequence[TaskId]) -> Planned:
    never = tuple(_never(draft.world, spec))
    if spec.needs:
        return Planned(spec, blocked=spec.width, hindrances=never)
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
        untried=spec.width - len(tried),
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
