"""For a type checker: what it knows of decorated functions and of clients. `test_types.py` lets it look."""

from typing import assert_type

from styx import AsyncStyx, Styx, job, task
from styx.sdk import AsyncJobHandle, AsyncTaskHandle, JobHandle, TaskHandle


@task(gpus="A100", retries=3)
def train(lr: float, *, seed: int = 0) -> str:
    return f"{lr} {seed}"


@task
def best(runs: list[str]) -> str:
    return runs[0]


@job(on_failure="fail_fast")
def sweep(rates: list[float]) -> str:
    assert_type(train(1e-4, seed=1), str)
    assert_type(train.local(1e-4), str)
    runs = train.map(rates, seed=2)
    assert_type(runs, list[str])
    train.after(runs, on="done").options(cpus=2)(0.5)
    train("x")  # pyright: ignore[reportArgumentType]
    train(1e-4, sed=1)  # pyright: ignore[reportCallIssue]
    train.map(["x"])  # pyright: ignore[reportArgumentType]
    train.map([1.0], sed=1)  # pyright: ignore[reportCallIssue]
    train.options(gpu=1)  # pyright: ignore[reportCallIssue]
    best(train(1e-4))  # pyright: ignore[reportArgumentType]
    return best(runs)


@task(gpu=1)  # pyright: ignore[reportCallIssue, reportUntypedFunctionDecorator]
def wrong() -> None: ...


def sync(styx: Styx) -> None:
    assert_type(styx.run("true", cpus=1), TaskHandle)
    assert_type(styx.run("true", array=3), JobHandle)
    assert_type(styx.run(["true"], matrix={"seed": "0..7", "lr": [0.1]}), JobHandle)
    assert_type(sweep.submit(styx, [0.1]), JobHandle)
    assert_type(sweep.local([0.1]), str)
    styx.run("true", gpu=1)  # pyright: ignore[reportCallIssue]
    sweep.submit(styx, "x")  # pyright: ignore[reportArgumentType]
    for line in styx.run("true").logs():
        assert_type(line, str)


async def later(styx: AsyncStyx) -> None:
    assert_type(await styx.run("true", labels={"team": "x"}), AsyncTaskHandle)
    assert_type(await styx.run("true", array=3), AsyncJobHandle)
    assert_type(await sweep.submit(styx, [0.1]), AsyncJobHandle)
    async for line in (await styx.run("true")).logs(follow=True):
        assert_type(line, str)
