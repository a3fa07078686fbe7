"""A job's edges: made at submission, told when a task ends.

The ready set is incremental: each blocked task counts the needs that are not met yet. Telling is
bounded per turn and derived from rows, so a crash between two slices costs nothing.
"""

import itertools
from collections.abc import Sequence

from msgspec.structs import replace

from styx.core.block import LEAST, Block, first_of, in_a_row, may_wait_as_one
from styx.core.delta import Settlement
from styx.core.draft import Draft
from styx.core.event import JobSubmitted
from styx.core.ids import SpecId, TaskId
from styx.core.spec import Need, On, OnFailure, TaskSpec
from styx.core.task import Edge, Reason, Task, TaskState


def link(draft: Draft, event: JobSubmitted) -> None:
    """Make the tasks of a submission: ready where nothing is needed, else blocked; and over, if they
    are taken from earlier ones.
    """
    ids = _ids_by_spec(event)
    edges: dict[Need, tuple[Edge, ...]] = {}  # shared by all that need the same
    for spec in event.spec.tasks:
        waiting: dict[On, list[tuple[TaskId, On]]] = {}
        for need in spec.needs:
            if need.on not in waiting:
                waiting[need.on] = [(task_id, need.on) for task_id in ids[spec.name]]
            if need not in edges:
                edges[need] = tuple(Edge(need_id, need.on) for need_id in ids[need.task])
            for need_id in ids[need.task]:
                draft.dependants.setdefault(need_id, []).extend(waiting[need.on])
    needed = {need.task for need in edges}
    places = itertools.count()
    for spec in event.spec.tasks:
        own = ids[spec.name]
        spec_id = SpecId(own[0])
        needs = tuple(edge for need in spec.needs for edge in edges[need])
        draft.put_spec(spec_id, spec)
        alone = not needs and spec.name not in needed and not event.taken
        if draft.beside and alone and may_wait_as_one(spec) and in_a_row(own):
            draft.delta.blocks.append(Block(first_of(event.job_id, spec_id, spec, draft.now)))
            continue
        for index, task_id in enumerate(own):
            taken = event.taken.get(next(places))
            _put_new(draft, event, spec, spec_id, needs, task_id, index, taken)


def settle(draft: Draft) -> None:
    """Tell the dependants of ended tasks, a bounded number of them in one turn."""
    budget = draft.policy.settlements_per_turn
    settling = draft.delta.hints.settling
    while settling and budget > 0:
        ended = settling.popleft()
        # A task of the world was linked there when it came; one made in this turn is linked here.
        waiting = draft.world.dependants.get(ended.task_id) or draft.dependants.get(
            ended.task_id, []
        )
        told = min(len(waiting), ended.told + budget)
        for task_id, on in waiting[ended.told : told]:
            _tell(draft, task_id, on, ended.state)
        budget -= told - ended.told
        if told < len(waiting):
            settling.appendleft(Settlement(ended.task_id, ended.state, told))
        else:
            draft.delta.hints.told.append(ended.task_id)
    if settling:
        draft.delta.hints.unfinished = True


def satisfied(on: On, state: TaskState, policy: OnFailure) -> bool:
    """Whether a need that ended in `state` satisfies the edge; False means that it never will."""
    match on:
        case On.DONE:
            return True
        case On.FAILURE:
            return state in {TaskState.FAILED, TaskState.LOST}
        case On.SUCCESS:
            if policy is OnFailure.CONTINUE:
                return state is not TaskState.CANCELLED
            return state is TaskState.SUCCEEDED


def _tell(draft: Draft, task_id: TaskId, on: On, state: TaskState) -> None:
    task = draft.task(task_id)
    if task is None or task.state is not TaskState.BLOCKED:
        return
    job = draft.job(task.job_id)
    assert job is not None, f"{task_id}: its job is over"
    if not satisfied(on, state, job.on_failure):
        draft.put_task(
            replace(
                task,
                state=TaskState.SKIPPED,
                reason=Reason.NEED_UNMET,
                finished_at=draft.now,
            )
        )
        return
    waits = draft.waits(task_id) - 1
    draft.delta.hints.waits[task_id] = waits
    if waits == 0:
        draft.put_task(replace(task, state=TaskState.READY, ready_at=draft.now))


def _put_new(
    draft: Draft,
    event: JobSubmitted,
    spec: TaskSpec,
    spec_id: SpecId,
    needs: tuple[Edge, ...],
    task_id: TaskId,
    index: int,
    taken: TaskId | None,
) -> None:
    task = Task(
        id=task_id,
        job_id=event.job_id,
        spec_id=spec_id,
        spec=spec,
        created_at=draft.now,
        array_index=None if spec.array_count is None else index,
        taken_from=taken,
        needs=needs,
    )
    if taken is not None:
        draft.put_task(
            replace(task, state=TaskState.SUCCEEDED, reason=Reason.CACHED, finished_at=draft.now)
        )
    elif needs:
        draft.put_task(task)
        draft.delta.hints.waits[task_id] = len(needs)
    else:
        draft.put_task(replace(task, state=TaskState.READY, ready_at=draft.now))


def _ids_by_spec(event: JobSubmitted) -> dict[str, Sequence[TaskId]]:
    """Of all but the widest each id is one text, which is found in many places."""
    ids: dict[str, Sequence[TaskId]] = {}
    start = 0
    for spec in event.spec.tasks:
        own = event.task_ids[start : start + spec.width]
        ids[spec.name] = own if spec.width >= LEAST else list(own)
        start += spec.width
    assert start == len(event.task_ids), "as many ids as tasks"
    return ids
