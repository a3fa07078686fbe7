"""One name per noun. Ids are canonical UUID text: it sorts by age, and crosses JSON as it is.

Only job, task and agent ids come from outside; every other key is derived from them, so a decision
that is repeated after a crash is the same decision.
"""

from typing import NamedTuple, NewType

JobId = NewType("JobId", str)  # UUIDv7
TaskId = NewType("TaskId", str)  # UUIDv7: the order of ids is the order of submission
SpecId = NewType("SpecId", str)  # the id of the first task made from the spec
AgentId = NewType("AgentId", str)


class AttemptKey(NamedTuple):
    """The fencing token of results, logs and stops: try `n` (1, 2, …) at a task, gang member `rank`."""

    task_id: TaskId
    n: int
    rank: int

    def __str__(self) -> str:
        return f"{self.task_id}.{self.n}.{self.rank}"
