# ruff: noqa: T201 -- a command line prints
"""Seeds are tried until each planted bug is caught, by the rule that it breaks."""

import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import NamedTuple

from tests.sim import trial
from tests.sim.bugs import BUGS, planted
from tests.sim.plan import draw


class Catch(NamedTuple):
    name: str
    seed: int | None
    text: str
    cpu_s: float
    others: dict[str, int]  # other rules that it broke before: how often


def _hunted(name: str, within: int) -> Catch:
    began, wanted = time.process_time(), BUGS[name].rules.split()
    others: dict[str, int] = {}
    with planted(name):
        for seed in range(within):
            violation = trial.run(draw(seed)).violation
            if violation is None:
                continue
            if violation.rule in wanted:
                return Catch(name, seed, str(violation), time.process_time() - began, others)
            others[violation.rule] = others.get(violation.rule, 0) + 1
    return Catch(name, None, "", time.process_time() - began, others)


def hunt(names: Sequence[str], *, within: int, jobs: int) -> int:
    """Print what exposed each, as soon as it did. Returns 1 if one was not caught."""
    print(f"{'bug':32} {'rules':22} {'seeds':>6} {'seconds':>8}  violation, at the last of them")
    missed = 0
    with ProcessPoolExecutor(jobs, initializer=trial.quiet) as pool:
        hunts = [pool.submit(_hunted, name, within) for name in names]
        for ended in as_completed(hunts):
            catch = ended.result()
            print(_line(catch), flush=True)
            missed += catch.seed is None
    print(f"{len(names)} planted, {missed} missed within {within} seeds")
    return 1 if missed else 0


def _line(catch: Catch) -> str:
    seeds = "MISSED" if catch.seed is None else catch.seed + 1  # they begin with 0
    before = "; ".join(f"{rule} {n} times" for rule, n in catch.others.items())
    return (
        f"{catch.name:32} {BUGS[catch.name].rules:22} {seeds:>6} {catch.cpu_s:8.1f}  "
        f"{catch.text[:120]}{f' (before: {before})' if before else ''}"
    )
