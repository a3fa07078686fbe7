# ruff: noqa: T201 -- a command line prints
"""The simulator's command line: `python -m tests.sim run|replay|bugs`. Seeds are numbers; each is one world.

run [--seeds N | --budget SECONDS] [--from S] [--short] [--jobs J]
                                        exit code 1 if an invariant was broken
replay SEED [--short] [--trace] [--bug NAME] [--shrink]
bugs [--within N] [--jobs J] [NAME …]   exit code 1 if a planted bug was not caught
"""

import argparse
import itertools
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from typing import Final, NamedTuple

from tests.sim import bugs, hunt, trial
from tests.sim.plan import Plan, draw
from tests.sim.shrink import shrink

CHUNK: Final = 10  # seeds handed to a worker at a time
SEEDS: Final = 200  # unless told otherwise
SHOWN: Final = 5  # failing seeds that are shrunk


class Sum(NamedTuple):
    """What a chunk of seeds came to."""

    seeds: int = 0
    cpu_s: float = 0.0
    steps: int = 0
    virtual_s: float = 0.0
    commits: int = 0
    tasks: int = 0
    broken: tuple[tuple[int, str, str], ...] = ()  # seed, rule, text

    def plus(self, other: "Sum") -> "Sum":
        return Sum(
            self.seeds + other.seeds,
            self.cpu_s + other.cpu_s,
            self.steps + other.steps,
            self.virtual_s + other.virtual_s,
            self.commits + other.commits,
            self.tasks + other.tasks,
            self.broken + other.broken,
        )


def _chunk(seeds: range, deep: bool) -> Sum:
    began = time.process_time()
    results = [trial.run(draw(seed, deep=deep)) for seed in seeds]
    return Sum(
        len(seeds),
        time.process_time() - began,
        sum(r.steps for r in results),
        sum(r.virtual_s for r in results),
        sum(r.commits for r in results),
        sum(r.tasks for r in results),
        tuple((r.seed, r.violation.rule, str(r.violation)) for r in results if r.violation),
    )


def _chunks(first: int, seeds: int | None) -> Iterator[range]:
    """Without a number they do not end."""
    for start in itertools.count(first, CHUNK):
        end = start + CHUNK if seeds is None else min(start + CHUNK, first + seeds)
        if start >= end:
            return
        yield range(start, end)


def _run(chunks: Iterator[range], *, deep: bool, jobs: int, until: float) -> Sum:
    """Until there are no more, or the time has come: what has begun is finished."""
    total, running = Sum(), set[Future[Sum]]()
    with ProcessPoolExecutor(jobs, initializer=trial.quiet) as pool:
        while True:
            while (
                len(running) < jobs and time.monotonic() < until and (seeds := next(chunks, None))
            ):
                running.add(pool.submit(_chunk, seeds, deep))
            if not running:
                return total
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for one in done:
                total = total.plus(one.result())
                for seed, _, text in one.result().broken:
                    print(f"seed {seed}: {text}", flush=True)


def run(first: int, seeds: int | None, *, deep: bool, jobs: int, budget_s: float) -> int:
    until = time.monotonic() + budget_s
    total = _run(_chunks(first, seeds), deep=deep, jobs=jobs, until=until)
    trial.quiet()
    for seed, rule, _ in total.broken[:SHOWN]:
        _show_shrunk(draw(seed, deep=deep), rule)
    cpu_s = total.cpu_s or 1.0
    print(
        f"from seed {first}: {total.tasks} tasks, {total.commits} commits, "
        f"{total.virtual_s / 3600:.1f} virtual hours, {total.virtual_s / cpu_s:.0f} times real time, "
        f"{total.steps / cpu_s:.0f} steps a second"
    )
    print(
        f"{total.seeds} {'deep' if deep else 'short'} seeds, {total.steps} steps, "
        f"{len(total.broken)} violations, {60 * total.seeds / cpu_s:.0f} seeds a minute and core"
    )
    return 1 if total.broken else 0


def _fails(plan: Plan) -> str | None:
    violation = trial.run(plan).violation
    return violation.rule if violation else None


def _show_shrunk(plan: Plan, rule: str) -> None:
    small = shrink(plan, rule, _fails)
    result = trial.run(small)
    print(f"\nseed {plan.seed} shrunk to {len(small.faults)} faults: {result.violation}")
    for fault in small.faults:
        print(f"  {fault}")


def replay(seed: int, *, deep: bool, trace: bool, bug: str, smaller: bool) -> int:
    trial.quiet()
    plan = draw(seed, deep=deep)
    with bugs.planted(bug):
        if smaller and (rule := _fails(plan)):
            plan = shrink(plan, rule, _fails)
        result = trial.run(plan, history=trace)
    for line in result.history:
        print(line)
    for fault in plan.faults if smaller else ():
        print(f"  {fault}")
    print(f"seed {seed}: {result.violation or 'nothing broken'}; {result.steps} steps")
    print(f"hash {result.digest}")
    return 1 if result.violation else 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim")
    commands = parser.add_subparsers(dest="command", required=True)
    running = commands.add_parser("run")
    size = running.add_mutually_exclusive_group()
    size.add_argument("--seeds", type=int)
    size.add_argument("--budget", type=float, default=float("inf"))
    running.add_argument("--from", type=int, default=0, dest="first")
    running.add_argument("--short", action="store_true")
    running.add_argument("--jobs", type=int, default=os.cpu_count())
    replaying = commands.add_parser("replay")
    replaying.add_argument("seed", type=int)
    replaying.add_argument("--short", action="store_true")
    replaying.add_argument("--trace", action="store_true")
    replaying.add_argument("--shrink", action="store_true")
    replaying.add_argument("--bug", default="", choices=["", *bugs.BUGS])
    planting = commands.add_parser("bugs")
    planting.add_argument("names", nargs="*", default=list(bugs.BUGS))
    planting.add_argument("--within", type=int, default=2_000)
    planting.add_argument("--jobs", type=int, default=os.cpu_count())
    asked = parser.parse_args()
    match asked.command:
        case "run":
            seeds = asked.seeds or (None if asked.budget < float("inf") else SEEDS)
            return run(
                asked.first,
                seeds,
                deep=not asked.short,
                jobs=asked.jobs,
                budget_s=asked.budget,
            )
        case "replay":
            return replay(
                asked.seed,
                deep=not asked.short,
                trace=asked.trace,
                bug=asked.bug,
                smaller=asked.shrink,
            )
        case _:
            return hunt.hunt(asked.names, within=asked.within, jobs=asked.jobs)


if __name__ == "__main__":
    sys.exit(main())
