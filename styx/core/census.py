"""How many there are of what, beside the world's indexes: asked often, so never counted by looking."""

from collections import Counter
from dataclasses import dataclass, field

from styx.core.agent import Agent, AgentState, Capacity
from styx.core.queue import Limit, limit_of
from styx.core.spec import Requirements
from styx.core.task import TERMINAL, Task, TaskState


@dataclass(slots=True)
class Amount:
    """Of what machines have."""

    cpus_milli: int = 0
    memory_bytes: int = 0
    gpus: int = 0

    def add(self, cpus_milli: int, memory_bytes: int, gpus: int, sign: int) -> None:
        self.cpus_milli += sign * cpus_milli
        self.memory_bytes += sign * memory_bytes
        self.gpus += sign * gpus


@dataclass(slots=True)
class Census:
    """Of tasks that are not over and of agents by state, of what the agents that are not gone have in
    total, and of what live attempts hold of it. A state that nobody is in may be absent.
    """

    tasks: Counter[TaskState] = field(default_factory=Counter[TaskState])
    active: Counter[Limit] = field(default_factory=Counter[Limit])  # of tasks that have one
    agents: Counter[AgentState] = field(default_factory=Counter[AgentState])
    capacity: Amount = field(default_factory=Amount)
    held: Amount = field(default_factory=Amount)

    def task(self, before: Task | None, after: Task) -> None:
        if limit := limit_of(after):
            self._count_active(limit, activity(before, after))
        if before is not None:
            if before.state is after.state:
                return
            self.tasks[before.state] -= 1
        if after.state not in TERMINAL:
            self.tasks[after.state] += 1

    def agent(self, before: Agent | None, after: Agent) -> None:
        if before is not None:
            self.agents[before.state] -= 1
            self._offer(before, -1)
        self.agents[after.state] += 1
        self._offer(after, 1)

    def hold(self, wanted: Requirements, sign: int) -> None:
        self.held.add(wanted.cpus_milli, wanted.memory_bytes, wanted.gpus, sign)

    def join(self, tasks: Counter[TaskState]) -> None:
        self.tasks.update(tasks)

    def _count_active(self, limit: Limit, change: int) -> None:
        self.active[limit] += change
        if not self.active[limit]:
            del self.active[limit]

    def _offer(self, agent: Agent, sign: int) -> None:
        if agent.state is not AgentState.GONE:
            has: Capacity = agent.capacity
            self.capacity.add(has.cpus_milli, has.memory_bytes, len(has.gpus), sign)


def activity(before: Task | None, after: Task) -> int:
    """By how much the change of a task changes how many are active: -1, 0 or 1."""
    was = before is not None and before.state is TaskState.ACTIVE
    return (after.state is TaskState.ACTIVE) - was
