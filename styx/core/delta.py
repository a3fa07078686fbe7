"""The outcome of one `step`: the new value of every row that changes, and the answers to its events.

The store writes it, then the world applies it: memory and disk take the same values from the same
object. A row with `version` 1 is new; any other replaces the one before it.
"""

from dataclasses import dataclass, field

from styx.core.agent import Agent
from styx.core.attempt import Attempt
from styx.core.event import Answer
from styx.core.ids import AgentId, AttemptKey, JobId, SpecId, TaskId
from styx.core.job import Job
from styx.core.spec import TaskSpec
from styx.core.task import Task


@dataclass(slots=True)
class Delta:
    specs: dict[SpecId, TaskSpec] = field(default_factory=dict[SpecId, TaskSpec])  # new ones
    jobs: dict[JobId, Job] = field(default_factory=dict[JobId, Job])
    tasks: dict[TaskId, Task] = field(default_factory=dict[TaskId, Task])
    attempts: dict[AttemptKey, Attempt] = field(default_factory=dict[AttemptKey, Attempt])
    agents: dict[AgentId, Agent] = field(default_factory=dict[AgentId, Agent])
    answers: list[Answer] = field(default_factory=list[Answer])  # one per event, in order

    @property
    def empty(self) -> bool:
        """Nothing to commit."""
        return not (self.specs or self.jobs or self.tasks or self.attempts or self.agents)
