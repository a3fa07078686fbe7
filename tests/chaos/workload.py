"""What is submitted: random jobs whose every task keeps a ledger of its own life, outside of Styx.

A task appends whole lines to the ledger, each by one write to a file opened with O_APPEND, so their order
is the order in which things happened:

    start KEY PID SECONDS      it runs (seconds since boot)
    beat KEY                   it still does
    end KEY CODE               the last that it does is to exit with this code
"""

import functools
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec

FAILURE: Final = 7  # what a flaky task exits with before it succeeds
MOST_LINES: Final = 2_000_000  # of a run, about: the judge reads them all
LOUD: Final = 350  # tasks that say much, about, at most: the judge reads every line
INFRA_RETRIES: Final = 30  # a supervisor that is killed often must not end a task
SCRIPT: Final = """\
exec 3>>"$LEDGER"
read -r up _ </proc/uptime
echo "start $STYX_ATTEMPT_KEY $$ $up" >&3
for ((i = 0; i < LINES; i++)); do
  echo "$STYX_ATTEMPT_KEY out $i"
  echo "$STYX_ATTEMPT_KEY err $i" >&2
  if ((i % EVERY == 0)); then sleep "$NAP"; echo "beat $STYX_ATTEMPT_KEY" >&3; fi
done
code=$CODE
if ((STYX_ATTEMPT <= FAILS)); then code=7; fi
echo "end $STYX_ATTEMPT_KEY $code" >&3
exit $code
"""


class Plan(msgspec.Struct):
    """One submit. `cancels` are the names of tasks ("" is the whole job) to be cancelled, and after how
    many seconds.
    """

    key: str
    path: str
    document: Any
    width: int
    cancels: list[tuple[str, float]] = []


def plans(dice: random.Random, tasks: int, ledger: Path, *, longest_s: float) -> list[Plan]:
    """Jobs of that many tasks in sum."""
    made: list[Plan] = []
    left = tasks
    loud = min(1.0, 6 * LOUD / tasks)
    task = functools.partial(_task, dice, ledger, longest_s, loud)
    while left > 0:
        key = f"chaos-{len(made)}"
        kind = dice.random()
        if kind < 0.15 or left < 3:
            plan = Plan(key, "/api/v1/tasks", task() | {"name": "lone"}, 1)
        elif kind < 0.45:
            width = min(left, dice.randint(3, 12))
            array = task() | {"array": width}
            plan = Plan(key, "/api/v1/jobs", {"name": "array", "tasks": {"many": array}}, width)
        else:
            width = min(left, dice.randint(3, 9))
            plan = Plan(key, "/api/v1/jobs", _dag(dice, width, task), width)
        if plan.path.endswith("jobs") and dice.random() < 0.12:
            names = [*plan.document["tasks"], ""]
            plan.cancels = [(dice.choice(names), dice.uniform(0, longest_s))]
        made.append(plan)
        left -= plan.width
    return made


def _dag(dice: random.Random, width: int, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    tasks: dict[str, Any] = {}
    for number in range(width):
        task = make()
        parents = dice.sample(list(tasks), k=min(number, dice.choice([0, 1, 1, 2])))
        on = ["success"] * 6 + ["done"] * 2 + ["failure"]
        task["needs"] = [{"task": parent, "on": dice.choice(on)} for parent in parents]
        tasks[f"t{number}"] = task
    return {"name": "dag", "tasks": tasks}


def _task(dice: random.Random, ledger: Path, longest_s: float, loud: float) -> dict[str, Any]:
    naps = dice.randint(1, 8)
    lines = naps * dice.choices([1, 5, 20, 250], [2, 1, 2, loud])[0]
    took_s = min(longest_s, dice.expovariate(4 / longest_s))
    env: dict[str, Any] = {
        "LEDGER": str(ledger),
        "LINES": lines,
        "EVERY": lines // naps,
        "NAP": f"{took_s / naps:.3f}",
        "CODE": 0,
        "FAILS": 0,
    }
    spec: dict[str, Any] = {
        "run": SCRIPT,
        "env": env,
        "resources": {"cpus": 0.1},
        "infra_retries": INFRA_RETRIES,
        "grace": 5,
    }
    match dice.choices(["plain", "fails", "flaky", "once", "exclusive"], [50, 8, 12, 15, 15])[0]:
        case "fails":
            env["CODE"] = dice.randint(1, 100)
        case "flaky":
            env["FAILS"] = dice.randint(1, 3)
            spec["retries"] = dice.randint(1, 3)
        case "once":
            spec["delivery"] = "at_most_once"
        case "exclusive":
            spec["exclusive"] = True
        case _:
            pass
    return spec
