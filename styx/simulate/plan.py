"""What is simulated: a fleet and a workload, in base units. `simulate.form` reads it from a document."""

from enum import StrEnum

import msgspec

from styx.core.agent import Capacity
from styx.core.spec import Priority, Requirements


class Kind(StrEnum):
    """How a duration is drawn."""

    CONSTANT = "constant"
    EXPONENTIAL = "exponential"
    LOGNORMAL = "lognormal"
    UNIFORM = "uniform"


class Shape(StrEnum):
    """What one job of a workload looks like."""

    SINGLE = "single"  # one task
    ARRAY = "array"  # `width` tasks of one kind
    CHAIN = "chain"  # `width` tasks, each after the one before it
    FAN_OUT = "fan_out"  # one task, then `width`, then one


class Duration(msgspec.Struct, frozen=True):
    """`mean_s` is the value of a constant; a lognormal has `median_s` and `sigma`."""

    kind: Kind = Kind.CONSTANT
    mean_s: float = 0.0
    median_s: float = 0.0
    sigma: float = 1.0
    min_s: float = 0.0
    max_s: float = 0.0


class Arrival(msgspec.Struct, frozen=True):
    """Jobs from `start_s` on: `per_hour` at random moments; or `burst` at once `every_s`; or all at once."""

    start_s: float = 0.0
    per_hour: float | None = None
    burst: int | None = None
    every_s: float = 0.0


class Workload(msgspec.Struct, frozen=True):
    name: str
    duration: Duration
    jobs: int = 1
    shape: Shape = Shape.SINGLE
    width: int = 1
    arrival: Arrival = Arrival()
    requirements: Requirements = Requirements()
    priority: Priority = Priority.NORMAL
    project: str = "default"
    retries: int = 0
    infra_retries: int = 3
    failure_share: float = 0.0  # of the tries that run to their end: exit code 1

    @property
    def tasks(self) -> int:
        """How many in all."""
        match self.shape:
            case Shape.SINGLE:
                return self.jobs
            case Shape.ARRAY | Shape.CHAIN:
                return self.jobs * self.width
            case Shape.FAN_OUT:
                return self.jobs * (self.width + 2)


class Rent(msgspec.Struct, frozen=True):
    """Agents that are ordered while tasks wait, and given back when idle."""

    min_count: int = 0
    provision_s: float = 120.0  # from the order to the first task
    idle_s: float = 300.0


class Group(msgspec.Struct, frozen=True):
    """Agents of one kind. With `rent`, `count` is the most there are at a time."""

    name: str
    count: int
    capacity: Capacity
    price_usd_per_hour: float = 0.0
    arrive_s: float = 0.0
    leave_s: float | None = None  # no new work from then on; each goes when it is empty
    failing_every_s: float | None = None  # mean time between failures of one agent
    repair_s: float = 600.0
    rent: Rent | None = None


class Plan(msgspec.Struct, frozen=True):
    agents: tuple[Group, ...]
    workloads: tuple[Workload, ...]
    name: str = ""
    window_s: float = 0.0  # events closer together than this are decided on in one turn
    start_s: float = 0.0  # from the assignment to the running process
