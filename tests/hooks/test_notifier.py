"""From a job's end to a receiver that has it: over HTTP, on a real database, with an agent of ours."""

import asyncio
import contextlib
import re
import socket
import threading
import types
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from styx.config import Webhooks
from styx.core.job import JobState
from styx.core.spec import Ending, Hook
from styx.hooks.notifier import OF_A_HOST, Notifier, retry_after_s
from styx.hooks.settings import Settings
from styx.store.notices import Notices, Owed
from styx.store.postgres import Database
from tests.api import conftest as api
from tests.support import made, peer
from tests.support.peer import Peer
from tests.support.receiver import Got, Says, always, first, receiving
from tests.support.site import ROOT

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
QUICK = (0.01, 0.02)
PATIENCE_S = 30.0


def webhooks(**more: Any) -> Webhooks:
    return Webhooks(**{"secret": SECRET, "allow_hosts": ("127.0.0.1",), **more})


class Place:
    """A server with an agent, and the notifier beside it."""

    def __init__(self, site: api.Site, agent: Peer, settings: Webhooks) -> None:
        self.site = site
        self.agent = agent
        self.settings = settings

    @asynccontextmanager
    async def telling(self, waits_s: tuple[float, ...] = QUICK) -> AsyncIterator[None]:
        """As if the server were killed at the end: whatever is under way is cut."""
        database = self.site.database
        notifier = Notifier(
            Notices(database),
            database.query,
            self.site.engine.feed,
            Settings.of(self.settings, SECRET),
            waits_s=waits_s,
        )
        async with asyncio.TaskGroup() as group:
            running = group.create_task(notifier.run())
            yield
            running.cancel()

    async def job(self, on: object = None, **more: Any) -> str:
        document = {"tasks": {"a": {"command": "a", "env": {"KEY": "s3cret"}}}, "on": on, **more}
        return (await self.site.post("/jobs", document))["job_id"]

    async def ended(self, job_id: str, code: int = 0) -> None:
        for task in await self.site.get("/tasks", job=job_id):
            key = await api.started(self.agent, task["id"])
            await api.ended(self.agent, key, code=code)

    async def told(self, job_id: str) -> list[Any]:
        return (await self.site.get(f"/jobs/{job_id}"))["notifications"]

    async def settled(self, job_id: str, state: str) -> Any:
        """The one notification of the job, once a try's outcome left it in that state."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                told = await self.told(job_id)
                tried = told and (told[0]["detail"] or told[0]["last_status"])
                if tried and told[0]["status"] == state:
                    return told[0]
                await asyncio.sleep(0.01)


@asynccontextmanager
async def placed(
    database: Database, tmp_path: Path, settings: Webhooks | None = None
) -> AsyncIterator[Place]:
    settings = settings or webhooks()
    async with (
        api.running(database, tmp_path, settings) as site,
        peer.connected(site.engine) as agent,
    ):
        await agent.introduce()
        yield Place(site, agent, settings)


@pytest.fixture
async def place(database: Database, tmp_path: Path) -> AsyncIterator[Place]:
    async with placed(database, tmp_path) as opened:
        yield opened


def snippet() -> types.SimpleNamespace:
    """The verification of docs/webhooks.md, as it stands."""
    text = (ROOT / "docs" / "webhooks.md").read_text()
    found = re.search(r"```python\n(.+?)```", text, re.DOTALL)
    assert found
    names: dict[str, Any] = {"__name__": "snippet"}
    exec(found[1], names)
    return types.SimpleNamespace(**names)


def verified(got: Got, secret: str = SECRET) -> Any:
    return snippet().verified(got.headers, got.body, secret)


async def until(condition: Any) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.01)


# --- what is told -----------------------------------------------------------------------------------


async def test_a_failed_job_is_told_signed_and_once(place: Place) -> None:
    with receiving() as receiver:
        async with place.telling():
            job_id = await place.job({"failed": receiver.url(), "succeeded": receiver.url("/no")})
            assert await place.told(job_id) == []
            await place.ended(job_id, code=7)
            told = await place.settled(job_id, "delivered")
    (got,) = receiver.got
    said = verified(got)
    job = await place.site.get(f"/jobs/{job_id}")
    assert said["type"] == "job.failed"
    assert said["timestamp"] == job["finished_at"]
    assert said["data"]["job"] == {k: v for k, v in job.items() if k != "notifications"}
    failed = said["data"]["first_failed_task"]
    assert (failed["name"], failed["status"]) == ("a", "failed")
    assert (failed["reason"], failed["exit_code"]) == ("exit_code", 7)
    assert "s3cret" not in got.body.decode()
    assert told == {
        "id": got.id,
        "event": "job.failed",
        "url": f"http://127.0.0.1:{receiver.port}/…",
        "status": "delivered",
        "tries": 1,
        "last_status": 204,
        "detail": "",
        "tried_at": told["tried_at"],
        "next_at": None,
    }


async def test_a_forged_body_or_an_old_one_does_not_verify(place: Place) -> None:
    with receiving() as receiver:
        async with place.telling():
            await place.ended(await place.job({"done": receiver.url()}))
            await until(lambda: receiver.got)
    (got,) = receiver.got
    assert verified(got)["data"]["first_failed_task"] is None
    with pytest.raises(ValueError):
        verified(Got(got.path, got.headers, got.body + b" ", 0.0))
    with pytest.raises(ValueError):
        verified(got, "whsec_" + "A" * 32)
    old = got.headers | {"webhook-timestamp": str(int(got.headers["webhook-timestamp"]) - 3_600)}
    with pytest.raises(ValueError):
        verified(Got(got.path, old, got.body, 0.0))


async def test_a_cancelled_job_and_one_submitted_alone(place: Place) -> None:
    with receiving() as receiver:
        on = {"cancelled": receiver.url(), "done": {"url": receiver.url()}}
        async with place.telling():
            made_ = await place.site.post("/tasks", {"command": "a", "on": on})
            job_id = (await place.site.get(f"/tasks/{made_['task_id']}"))["job_id"]
            await place.site.post(f"/jobs/{job_id}/cancel", status=202)
            key = await api.started(place.agent, made_["task_id"])
            await api.ended(place.agent, key, signal=15, signalled=True)
            await place.settled(job_id, "delivered")
    assert [got.json()["type"] for got in receiver.got] == ["job.cancelled"], "one URL, told once"


async def test_who_is_configured_is_told_of_every_job(database: Database, tmp_path: Path) -> None:
    with receiving() as receiver:
        settings = webhooks(urls=(receiver.url("/all"),), events=(Ending.FAILED,))
        async with placed(database, tmp_path, settings) as place, place.telling():
            fine = await place.job()
            await place.ended(fine)
            broken = await place.job({"failed": receiver.url("/own")})
            await place.ended(broken, code=1)
            await until(lambda: len(receiver.got) == 2)
            assert {got.path for got in receiver.got} == {"/all", "/own"}
            again = (await place.site.post(f"/jobs/{broken}/retry"))["job_id"]
            await place.ended(again, code=1)
            await until(lambda: len(receiver.got) == 4)
            lone = await place.site.get("/tasks", job=again)
            last = (await place.site.post(f"/tasks/{lone[0]['id']}/retry"))["task_id"]
            key = await api.started(place.agent, last)
            await api.ended(place.agent, key, code=1)
            await until(lambda: len(receiver.got) == 6)
            assert await place.told(fine) == []
            assert len({got.id for got in receiver.got}) == 6


# --- what goes wrong --------------------------------------------------------------------------------


async def test_who_is_away_is_told_later_under_the_same_id(place: Place) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    async with place.telling(waits_s=(0.2, 0.2, *[0.2] * 100)):
        job_id = await place.job({"done": f"http://127.0.0.1:{port}/"})
        await place.ended(job_id)
        waiting = await place.settled(job_id, "waiting")
        assert waiting["detail"] == "it cannot be reached"
        assert waiting["last_status"] is None
        assert waiting["next_at"]
        with receiving(first(Says(503), Says(500)), port=port) as receiver:
            told = await place.settled(job_id, "delivered")
    assert len(receiver.got) == 3
    assert {got.id for got in receiver.got} == {told["id"]}
    assert len({got.body for got in receiver.got}) == 1
    assert told["tries"] >= 4
    assert all(verified(got) for got in receiver.got)


async def test_it_is_given_up_in_the_end(place: Place) -> None:
    with receiving(always(Says(500))) as receiver:
        async with place.telling():
            job_id = await place.job({"done": receiver.url()})
            await place.ended(job_id)
            told = await place.settled(job_id, "gave_up")
    assert (told["tries"], told["last_status"], told["next_at"]) == (3, 500, None)
    assert len(receiver.got) == 3


async def test_gone_is_gone(place: Place) -> None:
    with receiving(always(Says(410))) as receiver:
        async with place.telling():
            job_id = await place.job({"done": receiver.url()})
            await place.ended(job_id)
            told = await place.settled(job_id, "gave_up")
    assert (told["tries"], told["last_status"]) == (1, 410)


async def test_a_wish_for_more_time_is_heard(place: Place) -> None:
    with receiving(always(Says(429, {"retry-after": "3600"}))) as receiver:
        async with place.telling():
            job_id = await place.job({"done": receiver.url()})
            await place.ended(job_id)
            told = await place.settled(job_id, "waiting")
    left = datetime.fromisoformat(told["next_at"]) - datetime.now(UTC)
    assert timedelta(minutes=55) < left < timedelta(minutes=61)


async def test_a_redirect_is_not_followed(place: Place) -> None:
    with receiving() as inside:
        with receiving(always(Says(307, {"location": inside.url()}))) as receiver:
            async with place.telling():
                job_id = await place.job({"done": receiver.url()})
                await place.ended(job_id)
                told = await place.settled(job_id, "gave_up")
        assert inside.connections == 0
    assert told["last_status"] == 307


async def test_a_name_that_leads_inside_is_refused_and_recorded(
    database: Database, tmp_path: Path
) -> None:
    inside = webhooks(allow_hosts=())
    with receiving() as receiver:
        async with placed(database, tmp_path, inside) as place, place.telling():
            job_id = await place.job({"done": f"https://localhost:{receiver.port}/"})
            await place.ended(job_id)
            told = await place.settled(job_id, "gave_up")
        assert receiver.connections == 0
    assert told["tries"] == 1
    assert "permitted" in told["detail"]


@pytest.mark.parametrize(
    "url", ["http://example.org/", "https://127.0.0.1/", "https://169.254.169.254/latest"]
)
async def test_what_can_never_be_reached_is_refused_at_once(
    database: Database, tmp_path: Path, url: str
) -> None:
    async with placed(database, tmp_path, webhooks(allow_hosts=())) as place:
        for path, document in (
            ("/jobs", {"tasks": {"a": {"command": "a"}}, "on": {"failed": url}}),
            ("/tasks", {"command": "a", "on": {"failed": url}}),
        ):
            problem = await place.site.refused(422, "POST", f"/api/v1{path}", json=document)
            assert [error["path"] for error in problem["errors"]] == ["on.failed"]
            assert "allow_hosts" in problem["hint"]
        assert await place.site.get("/jobs") == []


async def test_a_slow_receiver_delays_nobody_else(place: Place) -> None:
    hold = threading.Event()
    with receiving(always(Says(hold=hold))) as slow, receiving() as quick:
        tasks = {"a": {"command": "a"}}
        for _ in range(10):
            await place.site.post(
                "/jobs", {"tasks": tasks, "on": {"done": [slow.url(f"/{n}") for n in range(10)]}}
            )
        await place.job({"done": quick.url()})
        for job in await place.site.get("/jobs"):
            await place.site.post(f"/jobs/{job['id']}/cancel", status=202)
        for job in await place.site.get("/jobs"):
            for task in await place.site.get("/tasks", job=job["id"], status="cancelling"):
                key = await api.started(place.agent, task["id"])
                await api.ended(place.agent, key, signal=15, signalled=True)
        async with place.telling():
            await until(lambda: quick.got)
            assert len(slow.got) <= OF_A_HOST
            hold.set()
            await until(lambda: len(slow.got) == 100)


# --- crashes ----------------------------------------------------------------------------------------


async def test_a_crash_in_the_middle_of_a_try_is_a_try(database: Database, tmp_path: Path) -> None:
    hold = threading.Event()
    with receiving(first(Says(hold=hold))) as receiver:
        async with placed(database, tmp_path, webhooks(timeout_s=0.1)) as place:
            job_id = await place.job({"done": receiver.url()})
            async with contextlib.AsyncExitStack() as first_life:
                await first_life.enter_async_context(place.telling())
                await place.ended(job_id)
                await until(lambda: receiver.got)
            (claimed,) = await place.told(job_id)
            assert (claimed["status"], claimed["tries"]) == ("waiting", 1)
            async with place.telling():
                told = await place.settled(job_id, "delivered")
        hold.set()
    assert told["tries"] == 2
    assert {got.id for got in receiver.got} == {told["id"]}


async def test_a_job_that_ended_while_nobody_told_is_found(place: Place) -> None:
    with receiving() as receiver:
        job_id = await place.job({"done": receiver.url()})
        await place.ended(job_id)
        async with place.telling():
            await place.settled(job_id, "delivered")
        async with place.telling():
            await asyncio.sleep(0.2)
    assert len(receiver.got) == 1


async def test_a_database_that_was_away_is_asked_again(place: Place) -> None:
    with receiving() as receiver:
        async with place.telling():
            first_one = await place.job({"done": receiver.url()})
            await place.ended(first_one)
            await place.settled(first_one, "delivered")
            async with place.site.database.writers.acquire() as connection:
                await connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
            ask = {"tasks": {"a": {"command": "a"}}, "on": {"done": receiver.url()}}
            key = {"idempotency-key": "second"}
            async with asyncio.timeout(PATIENCE_S):
                while not (
                    answer := await place.site.http.post("/api/v1/jobs", json=ask, headers=key)
                ).is_success:
                    await asyncio.sleep(0.05)
            second = answer.json()["job_id"]
            await place.ended(second)
            await place.settled(second, "delivered")
    assert len(receiver.got) == 2


async def test_a_leader_of_before_writes_nothing(database: Database) -> None:
    job = made.job(state=JobState.FAILED, finished_at=made.NOW, notify=(Hook(Ending.DONE, "u"),))
    await database.commit(made.delta(job, made.task(job)))
    stale = Notices(Database(database._pools, database.term - 1))
    (ended,) = await stale.ended()
    assert not await stale.owe([ended.job_id], [])
    assert await Notices(database).ended() == [ended]
    assert await database.query.notifications(job.id) == []


async def test_tries_are_claimed_once_and_only_the_newest_is_written_down(
    database: Database,
) -> None:
    notices = Notices(database)
    job = made.job(state=JobState.FAILED, finished_at=made.NOW, notify=(Hook(Ending.DONE, "u"),))
    await database.commit(made.delta(job, made.task(job)))
    from_job = await notices.ended()
    owed = [*owing_to("a", 3, job.id), *owing_to("b", 1, job.id, start=3)]
    await notices.owe([one.job_id for one in from_job], owed)
    await notices.owe([one.job_id for one in from_job], owed)  # by then nothing is owed any more
    assert await notices.next_s(busy=[]) <= 0
    begun = await notices.claim(busy=[], of_a_host=2, limit=10, within_s=0.0)
    assert sorted((one.host, one.tries) for one in begun) == [("a", 1), ("a", 1), ("b", 1)]
    again = await notices.claim(busy=["a"], of_a_host=2, limit=10, within_s=60.0)
    assert [(one.host, one.tries) for one in again] == [("b", 2)]
    old = next(one for one in begun if one.host == "b")
    await notices.tried(old, "delivered", again_s=None, status=200, detail="")
    assert [one.state for one in await database.query.notifications(job.id)] == ["waiting"] * 4
    await notices.tried(again[0], "gave_up", again_s=None, status=500, detail="no")
    last = (await database.query.notifications(job.id))[3]
    assert (last.state, last.status, last.due_at) == ("gave_up", 500, None)


def owing_to(host: str, count: int, job_id: Any, *, start: int = 0) -> list[Any]:
    return [Owed(job_id, start + n, "job.failed", "u", host) for n in range(count)]


# --- Retry-After ------------------------------------------------------------------------------------


def test_retry_after_is_seconds_or_a_date() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert retry_after_s("120", now) == 120
    assert retry_after_s(format_datetime(now + timedelta(minutes=5), usegmt=True), now) == 300
    assert retry_after_s(format_datetime(now - timedelta(minutes=5), usegmt=True), now) == 0
    assert retry_after_s("9" * 400, now) == 86_400


@given(st.text())
def test_whatever_it_says_is_a_wait_that_ends(text: str) -> None:
    assert 0 <= retry_after_s(text, datetime(2026, 1, 1, tzinfo=UTC)) <= 86_400
