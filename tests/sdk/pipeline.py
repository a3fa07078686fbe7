"""A job as functions, for its neighbours to run: as an agent's processes would, and in their own."""

import math
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from styx import job, task


@dataclass
class Run:
    lr: float
    loss: float
    where: Path


class Scalar:
    """A number as libraries of arrays have it."""

    ndim = 0

    def item(self) -> float:
        return math.inf


@task(cpus=0.5)
def prepare(rows: int) -> list[int]:
    print("preparing", rows)  # noqa: T201 - what tasks do
    return [*range(rows)]


@task(cpus=0.5, retries=1)
def train(lr: float, data: list[int], *, seed: int = 0) -> Run:
    return Run(lr, lr * len(data) + seed, Path("/models") / str(seed))


@task
def best(runs: list[Run], **extra: Run) -> Run:
    assert all(isinstance(run, Run) for run in [*runs, *extra.values()])
    return min([*runs, *extra.values()], key=lambda run: run.loss)


@task(name="summary", num_nodes=1)
def tell(loss: float, worst, *notes: Path) -> dict[str, object]:
    assert all(isinstance(note, Path) for note in notes)
    return {"loss": loss, "worst": worst, "notes": [*notes], "none": math.nan, "limit": Scalar()}


@job(name="pipeline", labels={"team": "x"})
def pipeline(rows: int = 3) -> tuple[object, Run]:
    data = prepare(rows)
    runs = train.map([1e-4, 3e-4], data, seed=1)
    extra = train.options(cpus=1)(0.5, data)
    chosen = best(runs, more=extra)
    return tell.after(data, on="done")(chosen.loss, runs[1].lr, chosen.where), chosen


@task
def hello(word: str) -> None:
    print("hello", word, os.environ["STYX_TASK_NAME"])  # noqa: T201 - the same


@task
def fail() -> None:
    sys.exit(7)


@job
def greet(word: str = "you") -> None:
    first = hello(word)
    each = hello.after(first).map(["a", "b"])
    hello.after(each)("last")


@job
def broken() -> None:
    hello.after(fail())("never")
