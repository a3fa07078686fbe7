"""The elements of an array that nobody has touched since it was submitted: a *block*.

Their rows differ by id and index only, so they are made when somebody asks. A million of them that wait for
room are one object and a bit each.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Final, Self

from msgspec.structs import replace

from styx.core.ids import JobId, SpecId, TaskId
from styx.core.queue import Place, place_of
from styx.core.spec import TaskSpec
from styx.core.task import Task, TaskState

LEAST: Final = 1_000  # elements; fewer are as well kept one by one
HEAD: Final = 24  # characters of an id before its last group, which counts the ids made together


class Block:
    """`first` is the row of element 0 as it was submitted. Mutable, and owned by one world."""

    __slots__ = ("_base", "_cursor", "_touched", "first", "head", "left", "width")

    def __init__(self, first: Task, touched: Iterable[int] = ()) -> None:
        self.first = first
        self.width = first.spec.width
        self.left = self.width  # not touched
        self.head = first.id[:HEAD]
        self._base = int(first.id[HEAD:], 16)
        self._touched = bytearray(-(-self.width // 8))
        self._cursor = 0  # all before it are touched
        for index in touched:
            self.touch(index)

    def index_of(self, task_id: TaskId) -> int | None:
        """Of an element that is not touched, by its id with this head; None for any other."""
        index = int(task_id[HEAD:], 16) - self._base
        return index if 0 <= index < self.width and not self._is_touched(index) else None

    def id_of(self, index: int) -> TaskId:
        return TaskId(f"{self.head}{self._base + index:012x}")

    def row(self, index: int) -> Task:
        return replace(self.first, id=self.id_of(index), array_index=index)

    def rows(self) -> Iterator[Task]:
        return map(self.row, self._indexes())

    def ids(self) -> Iterator[TaskId]:
        return map(self.id_of, self._indexes())

    def places(self) -> Iterator[Place]:
        """In line, first to last."""
        rank = place_of(self.first).minus_rank
        return (Place(rank, task_id) for task_id in self.ids())

    def touch(self, index: int) -> None:
        """From now on it is a row of its own, or over."""
        assert not self._is_touched(index), f"element {index} of {self.first.id}: touched twice"
        self._touched[index >> 3] |= 1 << (index & 7)
        self.left -= 1
        if index == self._cursor:
            self._cursor = next(self._indexes(), self.width)

    def _indexes(self) -> Iterator[int]:
        touched = self._touched
        return (i for i in range(self._cursor, self.width) if not touched[i >> 3] >> (i & 7) & 1)

    def _is_touched(self, index: int) -> bool:
        return bool(self._touched[index >> 3] >> (index & 7) & 1)


class Tasks(Mapping[TaskId, Task]):
    """Every task that is not over: rows of their own, and those of blocks as if they were."""

    __slots__ = ("_blocks", "_blocks_of", "_rows", "_rows_of")

    def __init__(self) -> None:
        self._rows: dict[TaskId, Task] = {}
        self._rows_of: dict[JobId, dict[TaskId, None]] = {}
        self._blocks: dict[str, list[Block]] = {}  # by their ids' head
        self._blocks_of: dict[JobId, list[Block]] = {}

    def find(self, task_id: TaskId) -> Task | None:
        row = self._rows.get(task_id)
        if row is not None or not self._blocks:
            return row
        found = self._find(task_id)
        return None if found is None else found[0].row(found[1])

    def __getitem__(self, task_id: TaskId) -> Task:
        row = self.find(task_id)
        if row is None:
            raise KeyError(task_id)
        return row

    def __iter__(self) -> Iterator[TaskId]:
        yield from self._rows
        for block in self._each_block():
            yield from block.ids()

    def __len__(self) -> int:
        return len(self._rows) + sum(block.left for block in self._each_block())

    def put(self, row: Task) -> None:
        """As it is now; an element that changes leaves its block."""
        if row.id not in self._rows:
            self._touch(row.id)
            self._rows_of.setdefault(row.job_id, {})[row.id] = None
        self._rows[row.id] = row

    def drop(self, row: Task) -> None:
        """One that is over, if it is here."""
        if self._rows.pop(row.id, None) is None:
            self._touch(row.id)
        else:
            self._rows_of.get(row.job_id, {}).pop(row.id, None)

    def add(self, block: Block) -> None:
        self._blocks.setdefault(block.head, []).append(block)
        self._blocks_of.setdefault(block.first.job_id, []).append(block)

    def of(self, job_id: JobId) -> Iterator[TaskId]:
        """The job's."""
        yield from self._rows_of.get(job_id, ())
        for block in self._blocks_of.get(job_id, ()):
            yield from block.ids()

    def forget(self, job_id: JobId) -> None:
        """A job that is over, with all its tasks."""
        self._rows_of.pop(job_id, None)
        self._blocks_of.pop(job_id, None)

    def join(self, other: Self) -> None:
        """Of other jobs."""
        self._rows.update(other._rows)
        self._rows_of.update(other._rows_of)
        for block in other._each_block():
            self.add(block)

    def _each_block(self) -> Iterator[Block]:
        return (block for blocks in self._blocks.values() for block in blocks)

    def _touch(self, task_id: TaskId) -> None:
        found = self._find(task_id) if self._blocks else None
        if found is None:
            return
        block, index = found
        block.touch(index)
        if not block.left:
            self._blocks[block.head].remove(block)
            if not self._blocks[block.head]:
                del self._blocks[block.head]

    def _find(self, task_id: TaskId) -> tuple[Block, int] | None:
        for block in self._blocks.get(task_id[:HEAD], ()):
            index = block.index_of(task_id)
            if index is not None:
                return block, index
        return None


def first_of(job_id: JobId, spec_id: SpecId, spec: TaskSpec, created_at: datetime) -> Task:
    """Element 0 of an array that needs nothing, as it is submitted."""
    return Task(
        id=TaskId(spec_id),
        job_id=job_id,
        spec_id=spec_id,
        spec=spec,
        created_at=created_at,
        array_index=0,
        state=TaskState.READY,
        ready_at=created_at,
        version=1,
    )


def may_wait_as_one(spec: TaskSpec) -> bool:
    """Whether the elements of an array do, if they need nothing and nothing needs them: there are many, and
    none has a deadline.
    """
    return (spec.array_count or 0) >= LEAST and spec.queue_timeout_s is None


def untouched(task: Task) -> bool:
    return task.version == 1 and task.state is TaskState.READY


def in_a_row(ids: Sequence[TaskId]) -> bool:
    """Whether each follows the one before, as those made together do. They grow, so the ends tell."""
    first, last = ids[0], ids[-1]
    if first[:HEAD] != last[:HEAD]:
        return False
    return int(last[HEAD:], 16) - int(first[HEAD:], 16) == len(ids) - 1
