"""The feed tells every change once, can be resumed, and says so when it cannot."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest

from styx.core import event as ev
from styx.engine import feed as feeds
from styx.engine.feed import Feed
from styx.wire.http import FeedEvent
from tests.support.desk import Desk, a_task


@dataclass
class Newsroom:
    desk: Desk = field(default_factory=Desk)
    term: int = 7

    def __post_init__(self) -> None:
        self.feed = Feed(lambda: self.desk.world, term=self.term, clock=lambda: datetime.now(UTC))
        step = self.desk._step

        def published(events):
            delta = step(events)
            self.feed.publish(delta)
            return delta

        self.desk._step = published


async def read(events: AsyncIterator[FeedEvent], count: int) -> list[FeedEvent]:
    """The next `count`, all of which are due already."""
    async with asyncio.timeout(10):
        return [await anext(events) for _ in range(count)]


def told(events: list[FeedEvent]) -> list[str]:
    return [f"{event.kind} {event.name} {event.status}" for event in events]


async def test_a_reader_is_told_what_happens_from_now_on():
    news = Newsroom()
    news.desk.join("a1")
    events = news.feed.since(None)
    waiting = asyncio.ensure_future(anext(events))
    await asyncio.sleep(0)
    (task,) = news.desk.submit(a_task("train"))
    news.desk.start(task)
    news.desk.exit(task, 3)
    seen = [await waiting, *await read(events, 4)]
    assert told(seen) == [
        "job job running",
        "task train assigned",
        "task train running",
        "task train failed",
        "job job failed",
    ]
    last = seen[3]
    assert (last.object_id, last.job_id, last.attempt) == (task, news.desk.last_job, 1)
    assert (last.reason, last.exit_code, last.agent) == ("exit_code", 3, "a1")


async def test_a_reader_resumes_behind_the_id_it_names():
    news = Newsroom()
    first = news.feed.since("7-0")
    news.desk.join("a1")
    news.desk.submit(a_task())
    seen = await read(first, 4)
    again = await read(news.feed.since(seen[1].id), 2)
    assert again == seen[2:]


@pytest.mark.parametrize("unknown", ["6-1", "7-99", "7-x", "", "nonsense", "7--1"])
async def test_an_id_that_means_nothing_here_is_a_reset_and_then_the_news(unknown: str):
    news = Newsroom()
    news.desk.join("a1")
    events = news.feed.since(unknown)
    (reset,) = await read(events, 1)
    assert reset.kind == "reset"
    news.desk.submit(a_task("t"))
    assert told(await read(events, 2)) == ["job job running", "task t assigned"]
    assert told(await read(news.feed.since(reset.id), 2)) == [
        "job job running",
        "task t assigned",
    ]


async def test_a_reader_too_slow_for_the_ring_is_reset(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(feeds, "RING", 8)
    news = Newsroom()
    events = news.feed.since("7-0")
    news.desk.join("a1")
    assert told(await read(events, 1)) == ["agent a1 joining"]
    for _ in range(8):
        news.desk.submit(a_task())
    assert (await read(events, 1))[0].kind == "reset"
    assert news.feed._oldest == news.feed._next - 8


async def test_a_delta_larger_than_the_ring_is_a_reset_not_a_copy(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(feeds, "RING", 8)
    news = Newsroom()
    events = news.feed.since("7-0")
    news.desk.submit(a_task(array_count=9))
    assert (await read(events, 1))[0].kind == "reset"


async def test_a_waiter_wakes_on_its_task_and_on_no_other():
    news = Newsroom()
    mine, other = news.desk.submit(a_task("mine"), a_task("other"))
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        waiting = group.create_task(news.feed.wait(mine))
        await asyncio.sleep(0)
        news.desk.turn(ev.CancelRequested((other,)))
        await asyncio.sleep(0)
        assert not waiting.done()
        news.desk.turn(ev.CancelRequested((mine,)))
        await waiting
    assert not news.feed._waiters


async def test_a_change_of_an_attempt_alone_wakes_who_waits_for_its_task():
    news = Newsroom()
    news.desk.join("a1")
    (task,) = news.desk.submit(a_task())
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        group.create_task(news.feed.wait(task))
        await asyncio.sleep(0)
        news.desk.start(task)


async def test_a_waiter_that_gives_up_leaves_nothing_behind():
    news = Newsroom()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await news.feed.wait("nobody")
    assert not news.feed._waiters


async def test_closing_ends_readers_and_waiters():
    news = Newsroom()

    async def follow() -> list[FeedEvent]:
        return [event async for event in news.feed.since(None)]

    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        reader = group.create_task(follow())
        group.create_task(news.feed.wait("task"))
        await asyncio.sleep(0)
        news.feed.close()
    assert reader.result() == []
    await news.feed.wait("task")
