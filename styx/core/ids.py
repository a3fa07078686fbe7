"""One name per noun. Ids are canonical UUID text: it sorts by age, and crosses JSON as it is.

Only job, task and agent ids come from outside; every other key is derived from them, so a decision
that is repeated after a crash is the same decision.
"""

from typing import Annotated, Final, NamedTuple, NewType

from msgspec import Meta

# Limits in the types hold for what is decoded: nothing that a peer says can break a turn or a statement.
UUID: Final = Meta(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")
COUNT: Final = Meta(ge=0, lt=1 << 31)  # fits an integer column
SIZE: Final = Meta(ge=0, lt=1 << 62)  # fits a bigint column, and so do the sums of a few

JobId = NewType("JobId", str)  # UUIDv7
TaskId = NewType("TaskId", str)  # UUIDv7: the order of ids is the order of submission
SpecId = NewType("SpecId", str)  # the id of the first task made from the spec
AgentId = NewType("AgentId", str)


class AttemptKey(NamedTuple):
    """The fencing token of results, logs and stops: try `n` (1, 2, …) at a task, gang member `rank`."""

    task_id: Annotated[TaskId, UUID]
    n: Annotated[int, Meta(ge=1, lt=1 << 31)]
    rank: Annotated[int, COUNT]

    def __str__(self) -> str:
        return f"{self.task_id}.{self.n}.{self.rank}"
