"""Growing files are noticed, by the kernel's word or without it."""

import asyncio
from collections.abc import Iterable
from pathlib import Path

import pytest

from styx.agent import watch
from tests.support.supervised import eventually


async def noticed(directory: Path, *, polls: bool) -> None:
    seen: list[set[str] | None] = []

    def grown(names: Iterable[str] | None) -> None:
        seen.append(None if names is None else set(names))

    watched = watch.Watch(str(directory), grown)
    async with asyncio.TaskGroup() as group:
        watching = group.create_task(watched.run())
        watched.want(True)
        await eventually(lambda: seen)
        assert seen == [None]  # what was written before
        for number in range(3):
            seen.clear()
            with (directory / "ö.out").open("ab") as file:
                file.write(b"x" * (number + 1))
            await eventually(lambda: seen)
            assert seen[-1] == (None if polls else {"ö.out"})
        watching.cancel()


async def test_the_kernel_tells(tmp_path: Path) -> None:
    await noticed(tmp_path, polls=False)


async def test_without_the_kernels_help_it_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "POLL_S", 0.01)
    monkeypatch.setattr(watch, "_inotify", lambda: None)
    await noticed(tmp_path, polls=True)


async def test_a_flood_is_read_in_large_bites(tmp_path: Path) -> None:
    calls = 0

    def grown(_: Iterable[str] | None) -> None:
        nonlocal calls
        calls += 1

    watched = watch.Watch(str(tmp_path), grown)
    async with asyncio.TaskGroup() as group:
        watching = group.create_task(watched.run())
        watched.want(True)
        await eventually(lambda: calls)
        writes = 2_000
        with (
            (tmp_path / "a").open("wb", buffering=0) as one,
            (tmp_path / "b").open("wb", buffering=0) as two,
        ):
            for _ in range(writes // 2):
                one.write(b"x")
                two.write(b"x")
                await asyncio.sleep(0)
        await eventually(lambda: calls)
        watching.cancel()
    assert calls < writes / 10


async def test_nobody_is_woken_for_what_nobody_wants(tmp_path: Path) -> None:
    seen: list[set[str] | None] = []

    def grown(names: Iterable[str] | None) -> None:
        seen.append(None if names is None else set(names))

    watched = watch.Watch(str(tmp_path), grown)
    async with asyncio.TaskGroup() as group:
        watching = group.create_task(watched.run())
        watched.want(True)
        await eventually(lambda: seen)
        watched.want(False)
        (tmp_path / "last").write_text("x")
        await eventually(lambda: len(seen) == 2)
        await asyncio.sleep(2 * watch.PAUSE_S)
        (tmp_path / "unseen").write_text("x")
        await asyncio.sleep(2 * watch.PAUSE_S)
        assert seen == [None, {"last"}]
        watched.want(True)
        await eventually(lambda: len(seen) > 2)
        assert seen[2] is None
        watching.cancel()
