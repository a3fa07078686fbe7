"""The outcome of one `step`: the new value of every row that changes, and the answers to its events.

The store writes the rows, then the world applies the whole: memory and disk take the same values from
the same object. A row with `version` 1 is new; any other replaces the one before it.
"""

from collections import deque
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from styx.core.agent import Agent
from styx.core.attempt import Attempt
from styx.core.audit import Entry
from styx.core.block import Block
from styx.core.event import Answer
from styx.core.ids import AgentId, AttemptKey, JobId, SpecId, TaskId
from styx.core.job import Job
from styx.core.queue import ClassKey
from styx.core.spec import TaskSpec
from styx.core.task import Task, TaskState


class Settlement(NamedTuple):
    """A task that ended, and how many of its dependants have been told."""

    task_id: TaskId
    state: TaskState
    told: int


@dataclass(slots=True)
class Hints:
    """What the world remembers for the next turn, all of it derivable: never stored.

    `stuck` says of each class that was looked at whether its first task found no room. `reserved` are
    the agents kept free for a class, `released` those kept until now. `settling` are ends whose dependants are not all told.
    """

    waits: dict[TaskId, int] = field(default_factory=dict[TaskId, int])
    stuck: dict[ClassKey, bool] = field(default_factory=dict[ClassKey, bool])
    reserved: dict[ClassKey, tuple[AgentId, ...]] = field(
        default_factory=dict[ClassKey, tuple[AgentId, ...]]
    )
    released: tuple[AgentId, ...] = ()
    settling: deque[Settlement] = field(default_factory=deque[Settlement])
    told: list[TaskId] = field(default_factory=list[TaskId])  # all their dependants have been
    unfinished: bool = False


@dataclass(slots=True)
class Delta:
    now: datetime
    specs: dict[SpecId, TaskSpec] = field(default_factory=dict[SpecId, TaskSpec])  # new ones
    jobs: dict[JobId, Job] = field(default_factory=dict[JobId, Job])
    tasks: dict[TaskId, Task] = field(default_factory=dict[TaskId, Task])
    blocks: list[Block] = field(default_factory=list[Block])  # of new ones, only beside the turns
    attempts: dict[AttemptKey, Attempt] = field(default_factory=dict[AttemptKey, Attempt])
    agents: dict[AgentId, Agent] = field(default_factory=dict[AgentId, Agent])
    audit: list[Entry] = field(default_factory=list[Entry])  # in the order of the events
    answers: list[Answer] = field(default_factory=list[Answer])  # one per event, in order
    hints: Hints = field(default_factory=Hints)

    @property
    def empty(self) -> bool:
        """Nothing to commit."""
        rows = self.specs or self.jobs or self.tasks or self.attempts or self.agents
        return not (rows or self.audit)
