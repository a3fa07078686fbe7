"""Images that are pulled before a task starts, by an engine that is a script."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from styx.agent.errand import Ended
from styx.agent.pull import Pulls, refusal
from styx.core.task import Reason

PULL = 'case "$1" in image) exit 1;; esac; echo "$$" >> pulls; '
Start = Callable[[str], dict[str, Any]]


class Given:
    """What came through to the supervisor."""

    def __init__(self, program: Path) -> None:
        self.orders: list[dict[str, Any]] = []
        self.news = asyncio.Event()
        env = {"PATH": os.environ["PATH"]}
        self.pulls = Pulls(env, self.orders.append, self.news.set, until=lambda _: 99.0)
        self._program = str(program)

    def start(self, key: str, timeout: float | None = None) -> None:
        order = {"do": "start", "k": key, "image": (self._program, "i"), "until": 1.0}
        self.pulls.command(order | {"timeout": timeout})

    async def flushed(self) -> None:
        async with asyncio.timeout(10):
            await self.news.wait()
        self.news.clear()


@pytest.fixture
async def given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Given]:
    monkeypatch.chdir(tmp_path)
    made = Given(tmp_path / "engine")
    running = asyncio.create_task(made.pulls.run())
    yield made
    running.cancel()
    await asyncio.wait([running])


def behave(script: str) -> None:
    path = Path("engine")
    path.write_text(f"#!/bin/sh\n{PULL}{script}\n")
    path.chmod(0o700)


async def test_one_pull_serves_all_who_want_the_image(given: Given) -> None:
    behave("exit 0")
    given.start("a")
    given.start("b", timeout=50.0)
    assert given.orders == []
    await given.flushed()
    given.start("c")
    assert [order["k"] for order in given.orders] == ["a", "b", "c"]
    assert [order["until"] for order in given.orders] == [99.0, 99.0, 1.0]
    assert given.orders[1]["timeout"] < 50.0, "the pull counts"
    assert len(Path("pulls").read_text().splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "reason"),
    [("Error: manifest unknown", Reason.IMAGE), ("dial tcp: i/o timeout", Reason.REGISTRY)],
)
async def test_a_failure_is_the_end_of_the_try(given: Given, words: str, reason: Reason) -> None:
    behave(f"echo noise >&2; echo '{words}' >&2; exit 125")
    given.start("a")
    await given.flushed()
    detail = f"no image: i: {words.removeprefix('Error: ')}"
    assert given.orders[0]["end"] == {"reason": reason, "detail": detail}


async def test_a_pull_that_nobody_wants_any_more_ends(given: Given) -> None:
    os.mkfifo("pulls")  # says when the client is there, and holds it no longer than that
    behave("exec sleep 1000")
    given.start("a")
    given.start("b", timeout=0.5)
    pid = int(await asyncio.to_thread(Path("pulls").read_text))
    given.pulls.command({"do": "stop", "k": "a"})
    assert given.orders == [{"do": "stop", "k": "a"}]
    await given.flushed()
    assert given.orders[1]["end"]["reason"] == Reason.TIMEOUT
    async with asyncio.timeout(10):
        while Path(f"/proc/{pid}").exists():
            await asyncio.sleep(0.005)


@pytest.mark.parametrize(
    ("words", "ended"),
    [
        ("reading manifest 9 in docker.io/library/a: manifest unknown", Ended.REFUSED),
        ("pull access denied for a, repository does not exist", Ended.REFUSED),
        ("lookup nosuch.invalid on 10.0.0.1:53: no such host", Ended.REFUSED),
        ("connect: connection refused", Ended.AWAY),
        ("received unexpected HTTP status: 503 Service Unavailable", Ended.AWAY),
        ("toomanyrequests: You have reached your pull rate limit", Ended.AWAY),
        ("Cannot connect to the Docker daemon at unix:///var/run/docker.sock.", Ended.AWAY),
        ("writing blob: write /var/tmp/x: no space left on device", Ended.FULL),
    ],
)
def test_the_engines_last_words_say_whose_failure_it_is(words: str, ended: Ended) -> None:
    outcome = refusal("a", f"connection refused\nError: {words}\n")
    assert (outcome.ended, outcome.detail) == (ended, f"a: {words}")


def test_an_image_that_was_built_here_has_no_registry_to_wait_for() -> None:
    assert refusal("localhost/a", "connection refused").ended is Ended.REFUSED
