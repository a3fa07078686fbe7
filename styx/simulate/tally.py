"""What is counted while the time goes by."""

from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import msgspec

from styx.core import choice
from styx.core.attempt import Attempt, AttemptState
from styx.core.spec import Requirements
from styx.core.task import TERMINAL, Task, TaskState
from styx.simulate.fleet import Fleet, Level, Machine
from styx.simulate.load import LABEL, Load

MAX_SAMPLES: Final = 256  # then every other is dropped, and the next ones lie twice as far apart


class Sample(msgspec.Struct, frozen=True):
    """One moment. Shares are of what the agents that are up have; null where they have none."""

    at_s: float
    agents: int
    running: int
    queued: int
    cpus: float | None
    memory: float | None
    gpus: float | None


@dataclass
class Course:
    """How one workload fared."""

    # Of each task's first try. In quotes: before Python 3.12 an array takes no index.
    waits_s: "array[float]" = field(default_factory=lambda: array("f"))
    tasks: int = 0
    ends: Counter[TaskState] = field(default_factory=Counter[TaskState])


@dataclass
class Sum:
    """A group's levels over time, in units times seconds; what it had, and what was held."""

    there: float = 0.0
    up: float = 0.0
    cpus_milli: float = 0.0
    memory_bytes: float = 0.0
    gpus: float = 0.0


class Tally:
    def __init__(self, loads: Mapping[str, Load], fleets: Sequence[Fleet]) -> None:
        self.courses = {name: Course() for name in loads}
        self.sums = [Sum() for _ in fleets]
        self.waiting: dict[Requirements, int] = {}
        self.live = 0
        self.ended = 0
        self.last_end_s = 0.0
        self.placed = 0
        self.tries: Counter[AttemptState] = Counter()
        self.retries = 0
        self.turns_s: array[float] = array("d")  # what the core took for each
        self.events = 0
        self.preparing_s = 0.0  # of big jobs, beside the turns
        self.samples: list[Sample] = []
        self._fleets = fleets
        self._now_s = 0.0
        self._step_s = 1.0
        self._sample_at_s = 0.0

    def advance(self, now_s: float) -> None:
        """Everything stayed as it was until now."""
        passed_s = now_s - self._now_s
        for total, fleet in zip(self.sums, self._fleets, strict=True):
            level = fleet.level
            total.there += level.there * passed_s
            total.up += level.up * passed_s
            total.cpus_milli += level.cpus_milli * passed_s
            total.memory_bytes += level.memory_bytes * passed_s
            total.gpus += level.gpus * passed_s
        if passed_s and self._now_s >= self._sample_at_s:
            self._sample(self._now_s)
            self._sample_at_s = self._now_s + self._step_s
        self._now_s = now_s

    def turn(self, spent_s: float, events: int) -> None:
        self.turns_s.append(spent_s)
        self.events += events

    def task(self, task: Task, before: Task | None) -> None:
        queued = task.state is TaskState.READY
        was_queued = before is not None and before.state is TaskState.READY
        if queued != was_queued:
            wanted = task.spec.requirements
            self.waiting[wanted] = self.waiting.get(wanted, 0) + (1 if queued else -1)
        course = self.courses[task.spec.labels[LABEL]]
        if before is None:
            course.tasks += 1
            self.live += 1
        elif queued and before.state is TaskState.ACTIVE:
            self.retries += 1
        if task.state in TERMINAL:
            course.ends[task.state] += 1
            self.live -= 1
            self.ended += 1
            self.last_end_s = self._now_s

    def assigned(self, task: Task, attempt: Attempt, now: datetime, machine: Machine) -> None:
        self.placed += 1
        if task.attempt == 1:
            assert task.ready_at is not None, f"{task.id}: assigned, and never ready"
            waited_s = (now - task.ready_at).total_seconds()
            self.courses[task.spec.labels[LABEL]].waits_s.append(waited_s)
        machine.assignments += 1
        machine.held += 1
        hold(machine.fleet.level, choice.held(task, attempt), 1)

    def released(self, wanted: Requirements, attempt: Attempt, machine: Machine) -> None:
        self.tries[attempt.state] += 1
        machine.held -= 1
        hold(machine.fleet.level, wanted, -1)

    def _sample(self, now_s: float) -> None:
        levels = [(fleet.level, fleet.group.capacity) for fleet in self._fleets]
        up = [(level.up, capacity) for level, capacity in levels]
        self.samples.append(
            Sample(
                at_s=now_s,
                agents=sum(level.up for level, _ in levels),
                running=sum(level.held for level, _ in levels),
                queued=sum(self.waiting.values()),
                cpus=share(
                    sum(x.cpus_milli for x, _ in levels), sum(n * c.cpus_milli for n, c in up)
                ),
                memory=share(
                    sum(x.memory_bytes for x, _ in levels), sum(n * c.memory_bytes for n, c in up)
                ),
                gpus=share(sum(x.gpus for x, _ in levels), sum(n * len(c.gpus) for n, c in up)),
            )
        )
        if len(self.samples) >= MAX_SAMPLES:
            del self.samples[1::2]
            self._step_s *= 2


def hold(level: Level, wanted: Requirements, sign: int) -> None:
    level.held += sign
    level.cpus_milli += sign * wanted.cpus_milli
    level.memory_bytes += sign * wanted.memory_bytes
    level.gpus += sign * wanted.gpus


def share(part: float, whole: float) -> float | None:
    return part / whole if whole else None
