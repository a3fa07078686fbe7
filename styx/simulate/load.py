"""The workload: which job comes when, what it is made of, and how each try of its tasks goes."""

import math
from collections.abc import Iterator
from random import Random
from typing import Final, NamedTuple

from styx.core import event as ev
from styx.core.attempt import Exit
from styx.core.ids import JobId, TaskId
from styx.core.spec import JobSpec, Need, TaskSpec
from styx.simulate.plan import Arrival, Duration, Kind, Shape, Workload

LABEL: Final = "workload"  # carried by every task: whose it is
_GOOD: Final = Exit(code=0)
_BAD: Final = Exit(code=1)


class Try(NamedTuple):
    """How a try goes when nothing befalls its machine."""

    lasts_s: float
    exit: Exit


class Ids:
    """In the order of their making, as UUIDv7 would be."""

    def __init__(self) -> None:
        self._count = 0

    def next(self) -> str:
        self._count += 1
        return f"00000000-0000-7000-8000-{self._count:012x}"


class Load:
    """One workload's jobs and dice. Its dice are its own: another workload changes nothing here."""

    def __init__(self, workload: Workload, seed: int, ids: Ids) -> None:
        self.workload = workload
        self._ids = ids
        self._spec = _job(workload)
        self._tries = Random(f"{seed}/{workload.name}/tries")  # noqa: S311 # repeatable is the point
        self._moments = _moments(
            workload.arrival,
            workload.jobs,
            Random(f"{seed}/{workload.name}/arrivals"),  # noqa: S311
        )

    def next_arrival_s(self) -> float | None:
        """When the next job comes; None after the last."""
        return next(self._moments, None)

    def submission(self) -> ev.JobSubmitted:
        job_id = JobId(self._ids.next())
        task_ids = tuple(TaskId(self._ids.next()) for _ in range(self._spec.width))
        return ev.JobSubmitted(job_id, task_ids, self._spec, project=self.workload.project)

    def draw(self) -> Try:
        lasts_s = _drawn(self.workload.duration, self._tries)
        share = self.workload.failure_share
        return Try(lasts_s, _BAD if share and self._tries.random() < share else _GOOD)


def _moments(arrival: Arrival, jobs: int, dice: Random) -> Iterator[float]:
    moment = arrival.start_s
    for n in range(jobs):
        if arrival.per_hour is not None:
            moment += dice.expovariate(arrival.per_hour / 3_600)
        elif arrival.burst is not None:
            moment = arrival.start_s + arrival.every_s * (n // arrival.burst)
        yield moment


def _drawn(duration: Duration, dice: Random) -> float:
    match duration.kind:
        case Kind.CONSTANT:
            return duration.mean_s
        case Kind.EXPONENTIAL:
            return dice.expovariate(1 / duration.mean_s)
        case Kind.LOGNORMAL:
            return dice.lognormvariate(math.log(duration.median_s), duration.sigma)
        case Kind.UNIFORM:
            return dice.uniform(duration.min_s, duration.max_s)


def _job(workload: Workload) -> JobSpec:
    name, width = workload.name, workload.width
    match workload.shape:
        case Shape.SINGLE:
            tasks = (_task(workload, name),)
        case Shape.ARRAY:
            tasks = (_task(workload, name, count=width),)
        case Shape.CHAIN:
            tasks = tuple(
                _task(workload, f"{n}", after=f"{n - 1}" if n else "") for n in range(width)
            )
        case Shape.FAN_OUT:
            tasks = (
                _task(workload, "split"),
                _task(workload, "work", after="split", count=width),
                _task(workload, "gather", after="work"),
            )
    return JobSpec(name=name, tasks=tasks)


def _task(workload: Workload, name: str, *, after: str = "", count: int | None = None) -> TaskSpec:
    return TaskSpec(
        name=name,
        argv=("true",),
        requirements=workload.requirements,
        priority=workload.priority,
        needs=(Need(after),) if after else (),
        retries=workload.retries,
        infra_retries=workload.infra_retries,
        array_count=count,
        labels={LABEL: workload.name},
    )
