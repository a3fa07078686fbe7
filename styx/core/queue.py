"""Ready tasks of one requirement class, best first."""

import heapq
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol, Self, TypeVar

from styx.core import choice
from styx.core.attempt import Attempt
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

    @classmethod
    def held(cls, task: Task, attempt: Attempt, project: str) -> Self:
        """As if it had asked for nothing but the alternative that the attempt took."""
        wanted = choice.held(task, attempt)
        return cls(wanted, task.spec.num_nodes, project, limit_of(task))


class Place(NamedTuple):
    """A task's place in line: smaller is earlier. Ids sort by age."""

    minus_rank: int
    task_id: TaskId


def place_of(task: Task) -> Place:
    return Place(-RANK[task.spec.priority], task.id)


class Block(Protocol):
    """Tasks that stand in line as one: see `core.block`."""

    left: int

    def places(self) -> Iterator[Place]: ...


class ReadyQueue:
    """Heaps whose stale entries are dropped when they come up: who is ready says the task's row.

    A heap for each rank holds bare ids: the place of a task that waits costs eight bytes.
    """

    __slots__ = ("_heaps", "blocks", "stuck")

    def __init__(self) -> None:
        self._heaps: dict[int, list[TaskId]] = {}  # by `Place.minus_rank`
        self.blocks: list[Block] = []
        self.stuck = False  # its first task was tried and no agent had room

    def __bool__(self) -> bool:
        return bool(self._heaps or self.blocks)

    def push(self, task: Task) -> None:
        heapq.heappush(self._heaps.setdefault(-RANK[task.spec.priority], []), task.id)

    def join(self, other: Self) -> None:
        for rank, heap in other._heaps.items():
            mine = self._heaps.setdefault(rank, [])
            mine += heap
            heapq.heapify(mine)
        self.blocks += other.blocks

    def walk(self) -> Iterator[Place]:
        """The line from its first place on."""
        if not self.blocks:
            return self._singles()
        return heapq.merge(self._singles(), *(block.places() for block in self.blocks))

    def _singles(self) -> Iterator[Place]:
        for rank in sorted(self._heaps):
            for task_id in in_order(self._heaps[rank]):
                yield Place(rank, task_id)

    def prune(self, is_ready: Callable[[TaskId], bool]) -> None:
        """Drop what has gone from the front of the line."""
        for rank, heap in list(self._heaps.items()):
            while heap and not is_ready(heap[0]):
                heapq.heappop(heap)
            if not heap:
                del self._heaps[rank]
        if self.blocks and not all(block.left for block in self.blocks):
            self.blocks = [block for block in self.blocks if block.left]


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
