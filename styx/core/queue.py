"""Ready tasks of one requirement class, best first."""

import heapq
from collections.abc import Iterator
from typing import NamedTuple, Self, TypeVar

from styx.core.ids import JobId, TaskId
from styx.core.spec import RANK, Requirements
from styx.core.task import Task

T = TypeVar("T")


class Limit(NamedTuple):
    """A bound on how many tasks of a spec are active at once."""

    job_id: JobId
    spec: str
    parallel: int


def limit_of(task: Task) -> Limit | None:
    spec = task.spec
    if not spec.parallel:
        return None
    return Limit(task.job_id, spec.parallel_of or spec.name, spec.parallel)


class ClassKey(NamedTuple):
    """Tasks that any placement decision treats alike."""

    requirements: Requirements
    num_nodes: int
    project: str
    limit: Limit | None = None

    @classmethod
    def of(cls, task: Task, project: str) -> Self:
        return cls(task.spec.requirements, task.spec.num_nodes, project, limit_of(task))


class Place(NamedTuple):
    """A task's place in line: smaller is earlier. Ids sort by age."""

    minus_rank: int
    task_id: TaskId


def place_of(task: Task) -> Place:
    return Place(-RANK[task.spec.priority], task.id)


class ReadyQueue:
    """A heap whose stale entries are dropped when they come up: who is ready says the task's row."""

    __slots__ = ("heap", "stuck")

    def __init__(self) -> None:
        self.heap: list[Place] = []
        self.stuck = False  # its first task was tried and no agent had room

    def push(self, task: Task) -> None:
        heapq.heappush(self.heap, place_of(task))


def in_order(heap: list[T]) -> Iterator[T]:
    """Yield a heap's items smallest first without changing it: O(log k) for the k-th."""
    if not heap:
        return
    frontier = [(heap[0], 0)]
    while frontier:
        item, index = heapq.heappop(frontier)
        yield item
        for child in (2 * index + 1, 2 * index + 2):
            if child < len(heap):
                heapq.heappush(frontier, (heap[child], child))
