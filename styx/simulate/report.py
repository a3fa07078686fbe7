"""What `styx simulate` answers: plain data, seconds and dollars."""

from array import array
from collections.abc import Sequence
from typing import Final

import msgspec

from styx.core.attempt import AttemptState
from styx.core.spec import RANK, Priority
from styx.core.task import TERMINAL, TaskState
from styx.simulate.fleet import Fleet
from styx.simulate.run import Simulation
from styx.simulate.tally import Course, Sample, Sum, share

_HOUR_S: Final = 3_600.0


class Waits(msgspec.Struct, frozen=True):
    """From ready to assigned, of the first try of each task that got one; null where none did."""

    tasks: int
    p50_s: float | None
    p90_s: float | None
    p99_s: float | None
    max_s: float | None


class PriorityReport(msgspec.Struct, frozen=True):
    priority: Priority
    waits: Waits


class WorkloadReport(msgspec.Struct, frozen=True):
    """`ends` counts tasks by their last state; `unfinished` never reached one."""

    name: str
    tasks: int
    ends: dict[str, int]
    unfinished: int
    waits: Waits


class GroupReport(msgspec.Struct, frozen=True):
    """Shares are of what its agents had while up, mean over their time; null where they have none."""

    name: str
    agents_most: int
    agent_hours: float
    cost_usd: float
    failures: int
    cpus: float | None
    memory: float | None
    gpus: float | None


class Tries(msgspec.Struct, frozen=True):
    """`ends` counts them by state; `retries` are tasks that were put back in the queue."""

    placed: int
    ends: dict[str, int]
    retries: int


class CoreReport(msgspec.Struct, frozen=True):
    """The core's own CPU time on this machine: of `step` and `apply`, a turn at a time."""

    turns: int
    events: int
    total_s: float
    mean_ms: float
    p99_ms: float
    max_ms: float
    us_per_placed_task: float | None
    preparing_s: float  # of big jobs, which the engine does beside its turns


class Report(msgspec.Struct, frozen=True):
    """The same plan and seed give the same report, but for `core`."""

    name: str
    seed: int
    makespan_s: float  # from 0 to the end of the last task
    tasks: int
    ends: dict[str, int]
    unfinished: int
    cost_usd: float
    cpus: float | None
    memory: float | None
    gpus: float | None
    tries: Tries
    priorities: list[PriorityReport]
    workloads: list[WorkloadReport]
    agents: list[GroupReport]
    over_time: list[Sample]
    core: CoreReport


def of(run: Simulation, seed: int) -> Report:
    """Of a simulation that has ended."""
    tally = run.tally
    courses = tally.courses
    ends: dict[str, int] = {}
    for state in sorted(TERMINAL, key=list(TaskState).index):
        ends[state] = sum(course.ends[state] for course in courses.values())
    pairs = list(zip(run.fleets, tally.sums, strict=True))
    return Report(
        name=run.plan.name,
        seed=seed,
        makespan_s=tally.last_end_s,
        tasks=sum(course.tasks for course in courses.values()),
        ends=_told(ends),
        unfinished=tally.live,
        cost_usd=sum(_cost_usd(fleet, total) for fleet, total in pairs),
        cpus=_cpus(pairs),
        memory=_memory(pairs),
        gpus=_gpus(pairs),
        tries=Tries(
            tally.placed,
            _told({state: tally.tries[state] for state in AttemptState}),
            tally.retries,
        ),
        priorities=_priorities(run),
        workloads=[_workload(name, course) for name, course in courses.items()],
        agents=[_group(fleet, total) for fleet, total in pairs],
        over_time=tally.samples,
        core=_core(run),
    )


def percentile(ordered: Sequence[float], share_: float) -> float:
    """The smallest value that so large a share of all does not exceed."""
    return ordered[max(0, -int(-len(ordered) * share_ // 1) - 1)]


def _priorities(run: Simulation) -> list[PriorityReport]:
    found: list[PriorityReport] = []
    for priority in sorted(RANK, key=lambda one: -RANK[one]):
        waits_s = array("f")
        for load in run.loads.values():
            if load.workload.priority is priority:
                waits_s += run.tally.courses[load.workload.name].waits_s
        if waits_s:
            found.append(PriorityReport(priority, _waits(waits_s)))
    return found


def _workload(name: str, course: Course) -> WorkloadReport:
    ends = _told({state: course.ends[state] for state in TaskState})
    return WorkloadReport(
        name, course.tasks, ends, course.tasks - course.ends.total(), _waits(course.waits_s)
    )


def _waits(waits_s: "array[float]") -> Waits:
    if not waits_s:
        return Waits(0, None, None, None, None)
    ordered = sorted(waits_s)
    p50, p90, p99 = (round(percentile(ordered, part), 3) for part in (0.5, 0.9, 0.99))
    return Waits(len(ordered), p50, p90, p99, round(ordered[-1], 3))


def _group(fleet: Fleet, total: Sum) -> GroupReport:
    alone = [(fleet, total)]
    return GroupReport(
        name=fleet.group.name,
        agents_most=fleet.most,
        agent_hours=total.there / _HOUR_S,
        cost_usd=_cost_usd(fleet, total),
        failures=fleet.failures,
        cpus=_cpus(alone),
        memory=_memory(alone),
        gpus=_gpus(alone),
    )


def _cost_usd(fleet: Fleet, total: Sum) -> float:
    return total.there / _HOUR_S * fleet.group.price_usd_per_hour


def _cpus(pairs: Sequence[tuple[Fleet, Sum]]) -> float | None:
    return share(
        sum(total.cpus_milli for _, total in pairs),
        sum(total.up * fleet.group.capacity.cpus_milli for fleet, total in pairs),
    )


def _memory(pairs: Sequence[tuple[Fleet, Sum]]) -> float | None:
    return share(
        sum(total.memory_bytes for _, total in pairs),
        sum(total.up * fleet.group.capacity.memory_bytes for fleet, total in pairs),
    )


def _gpus(pairs: Sequence[tuple[Fleet, Sum]]) -> float | None:
    return share(
        sum(total.gpus for _, total in pairs),
        sum(total.up * len(fleet.group.capacity.gpus) for fleet, total in pairs),
    )


def _core(run: Simulation) -> CoreReport:
    tally = run.tally
    turns_s = sorted(tally.turns_s) or [0.0]
    total_s = sum(turns_s)
    return CoreReport(
        turns=len(tally.turns_s),
        events=tally.events,
        total_s=total_s,
        mean_ms=total_s / len(turns_s) * 1e3,
        p99_ms=percentile(turns_s, 0.99) * 1e3,
        max_ms=turns_s[-1] * 1e3,
        us_per_placed_task=total_s / tally.placed * 1e6 if tally.placed else None,
        preparing_s=tally.preparing_s,
    )


def _told(
    counts: dict[TaskState, int] | dict[AttemptState, int] | dict[str, int],
) -> dict[str, int]:
    """What there was, without noughts."""
    return {str(state): count for state, count in counts.items() if count}
