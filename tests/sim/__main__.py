# ruff: noqa: T201 -- a command line prints
"""The simulator's command line: `python -m tests.sim run|replay|bugs`. Seeds are numbers; each is one world.

run --seeds N [--from S] [--short] [--jobs J]    exit code 1 if an invariant was broken
replay SEED [--short] [--trace] [--bug NAME] [--shrink]
bugs [--within N] [--jobs J] [NAME …]            exit code 1 if a planted bug was not caught
"""

import argparse
import os
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Final, NamedTuple

from tests.sim import bugs, trial
from tests.sim.plan import Plan, draw
from tests.sim.shrink import shrink

CHUNK: Final = 20  # seeds handed to a worker at a time
SHOWN: Final = 5  # failing seeds that are shrunk


class Sum(NamedTuple):
    """What a chunk of seeds came to."""

    seeds: int
    cpu_s: float
    steps: int
    virtual_s: float
    commits: int
    tasks: int
    broken: list[tuple[int, str, str]]  # seed, rule, text


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
        [(r.seed, r.violation.rule, str(r.violation)) for r in results if r.violation],
    )


def _chunks(seeds: range) -> Iterator[range]:
    for start in range(seeds.start, seeds.stop, CHUNK):
        yield range(start, min(start + CHUNK, seeds.stop))


def _total(sums: Iterable[Sum]) -> Sum:
    total = Sum(0, 0.0, 0, 0.0, 0, 0, [])
    for one in sums:
        total = Sum(*(a + b for a, b in zip(total, one, strict=True)))
        for seed, _, text in one.broken:
            print(f"seed {seed}: {text}", flush=True)
    return total


def run(seeds: range, *, deep: bool, jobs: int) -> int:
    with ProcessPoolExecutor(jobs, initializer=trial.quiet) as pool:
        chunks = list(_chunks(seeds))
        total = _total(pool.map(_chunk, chunks, [deep] * len(chunks)))
    print(
        f"{total.seeds} seeds, {len(total.broken)} broken; {total.tasks} tasks, {total.commits} "
        f"commits, {total.virtual_s / 3600:.1f} virtual hours; "
        f"{total.steps / max(1, total.seeds):.0f} steps a seed, "
        f"{total.steps / total.cpu_s:.0f} steps/s and "
        f"{60 * total.seeds / total.cpu_s:.0f} seeds a minute and core, "
        f"{total.virtual_s / total.cpu_s:.0f} times real time"
    )
    trial.quiet()
    for seed, rule, _ in total.broken[:SHOWN]:
        _show_shrunk(draw(seed, deep=deep), rule)
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
    running.add_argument("--seeds", type=int, default=200)
    running.add_argument("--from", type=int, default=0, dest="first")
    running.add_argument("--short", action="store_true")
    running.add_argument("--deep", action="store_true")
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
            seeds = range(asked.first, asked.first + asked.seeds)
            return run(seeds, deep=not asked.short, jobs=asked.jobs)
        case "replay":
            return replay(
                asked.seed,
                deep=not asked.short,
                trace=asked.trace,
                bug=asked.bug,
                smaller=asked.shrink,
            )
        case _:
            return bugs.hunt(asked.names, within=asked.within, jobs=asked.jobs)


if __name__ == "__main__":
    sys.exit(main())
