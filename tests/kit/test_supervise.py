"""A loop that fails ends its group loudly, or is told and started anew; never neither."""

import asyncio

import pytest

from styx.kit import supervise


class Broken(Exception): ...


async def forever() -> None:
    await asyncio.Event().wait()


def test_a_failure_ends_the_group_and_its_other_loops():
    ended: list[str] = []

    async def other() -> None:
        try:
            await forever()
        finally:
            ended.append("other")

    async def failing() -> None:
        await asyncio.sleep(0)
        raise Broken

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            supervise.start(group, "other", other)
            supervise.start(group, "failing", failing)

    with pytest.raises(ExceptionGroup) as caught:
        asyncio.run(main())
    assert caught.group_contains(Broken)
    assert ended == ["other"]


async def test_a_loop_with_a_report_starts_anew(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(supervise, "RESTART_BASE_S", 0.001)
    told: list[tuple[str, str]] = []
    runs = 0

    async def failing_twice() -> None:
        nonlocal runs
        runs += 1
        if runs < 3:
            raise Broken(f"run {runs}")

    async with asyncio.TaskGroup() as group:
        supervise.start(
            group,
            "loop",
            failing_twice,
            report=lambda name, error, wait_s: told.append((name, str(error))),
        )
    assert runs == 3
    assert told == [("loop", "run 1"), ("loop", "run 2")]


def test_children_carry_their_names():
    async def main() -> str:
        async with asyncio.TaskGroup() as group:
            task = supervise.start(group, "redrive", forever)
            task.cancel()
            return task.get_name()

    assert asyncio.run(main()) == "redrive"


def test_the_first_to_end_ends_the_others():
    ended: list[str] = []

    async def other() -> None:
        try:
            await forever()
        finally:
            ended.append("other")

    async def first() -> None:
        await asyncio.sleep(0)

    asyncio.run(supervise.until_first_ends(first=first, other=other))
    assert ended == ["other"]


def test_an_error_of_any_is_raised():
    async def failing() -> None:
        raise Broken

    with pytest.raises(ExceptionGroup) as caught:
        asyncio.run(supervise.until_first_ends(forever=forever, failing=failing))
    assert caught.group_contains(Broken)
