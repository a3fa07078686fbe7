"""Schedules over HTTP, kept by the real loop on a real database; what time it is, the test says."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from styx.engine import schedules
from tests.api.conftest import Site, ended, started
from tests.support.peer import Peer

PATH = "/api/v1/schedules"
DAILY = {"schedule": "0 2 * * *", "tasks": {"a": {"run": "true"}}}
MINUTE = timedelta(minutes=1)


def named(name: str, cron: str = "* * * * *", **more: str) -> dict[str, Any]:
    tasks = {"a": {"run": "true", "env": {"A": "1"}}}
    return {"name": name, "schedule": {"cron": cron, **more}, "tasks": tasks}


async def put(site: Site, document: dict[str, Any], status: int = 201) -> Any:
    answer = await site.http.put(f"{PATH}/{document.get('name', 'nightly')}", json=document)
    assert answer.status_code == status, answer.text
    return answer.json()


async def actions(site: Site) -> list[str]:
    return [entry["action"] for entry in await site.get("/audit") if "schedule" in entry["action"]]


# --- what is kept ---------------------------------------------------------------------------------


async def test_put_look_and_delete(site: Site):
    made = await put(site, DAILY | {"schedule": {"cron": "0 2 * * *", "timezone": "Europe/Berlin"}})
    assert (made["name"], made["status"], made["cron"]) == ("nightly", "active", "0 2 * * *")
    assert (made["timezone"], made["missed"], made["overlap"]) == ("Europe/Berlin", "once", "skip")
    assert made["job"] == {"name": "nightly", "tasks": DAILY["tasks"]}
    assert len(made["upcoming"]) == 3
    assert datetime.fromisoformat(made["upcoming"][0]) == datetime.fromisoformat(made["due_at"])
    assert {moment[11:16] for moment in made["upcoming"]} == {"02:00"}
    assert await site.get("/schedules/nightly") == made
    listed = await site.get("/schedules")
    assert [{**made, **row} for row in listed] == [made]
    gone = await site.http.delete(f"{PATH}/nightly")
    assert (gone.status_code, gone.json()["name"]) == (200, "nightly")
    assert await site.get("/schedules") == []
    for name in ("nightly", "%00", "a%2Fb", "ö"):
        await site.refused(404, "GET", f"{PATH}/{name}")
    await site.refused(404, "DELETE", f"{PATH}/nightly")


async def test_the_same_again_changes_nothing_and_another_replaces(site: Site):
    made = await put(site, DAILY)
    assert await put(site, DAILY, 200) == made
    changed = await put(site, DAILY | {"schedule": "0 3 * * *"}, 200)
    assert (changed["id"], changed["created_at"]) == (made["id"], made["created_at"])
    assert changed["due_at"].endswith("T03:00:00Z")
    other = await put(site, DAILY | {"schedule": "0 3 * * *", "labels": {"a": "b"}}, 200)
    assert other["job"]["labels"] == {"a": "b"}
    assert await actions(site) == ["schedule.create", "schedule.replace", "schedule.replace"]


async def test_lists_go_page_by_page(site: Site):
    for name in "abc":
        await put(site, named(name, "@daily"))
    page = await site.http.get(f"{PATH}?limit=2")
    assert [row["name"] for row in page.json()] == ["a", "b"]
    rest = await site.http.get(page.links["next"]["url"])
    assert [row["name"] for row in rest.json()] == ["c"]
    assert "next" not in rest.links


async def test_who_changed_what_is_told(site: Site):
    await put(site, DAILY)
    for verb, status in (("pause", 200), ("pause", 200), ("resume", 200), ("run", 201)):
        await site.post(f"/schedules/nightly/{verb}", status=status)
    await site.http.delete(f"{PATH}/nightly")
    assert await actions(site) == [
        *("schedule.create", "schedule.pause", "schedule.resume", "schedule.run"),
        "schedule.delete",
    ]
    trail = await site.get("/audit")
    assert {entry["actor"] for entry in trail} == {trail[0]["actor"]}


@pytest.mark.parametrize(
    ("document", "path"),
    [
        ({"tasks": {"a": {"run": "x"}}}, "schedule"),
        (DAILY | {"name": "other"}, "name"),
        (DAILY | {"schedule": "0 2 * *"}, "schedule"),
        (DAILY | {"schedule": {"cron": "@daily", "timezone": "Mars"}}, "schedule.timezone"),
        (DAILY | {"tasks": {"a": {"run": "x", "gpu": 1}}}, "tasks.a.gpu"),
        ([], ""),
    ],
)
async def test_bad_input_gets_a_clear_answer(empty: Site, document: Any, path: str):
    problem = await empty.refused(422, "PUT", f"{PATH}/nightly", json=document)
    assert path in [error["path"] for error in problem["errors"]]
    assert await empty.get("/schedules") == []


async def test_a_job_with_a_schedule_is_sent_elsewhere(empty: Site):
    for path in ("/api/v1/jobs", "/api/v1/tasks"):
        problem = await empty.refused(422, "POST", path, json={"run": "x", **DAILY})
        told = {error["path"]: error["message"] for error in problem["errors"]}
        assert "/api/v1/schedules/NAME" in told["schedule"]


async def test_the_keys_of_schedules_are_their_own(empty: Site):
    key = {"idempotency-key": "schedule:x:2026-12-01T02:00:00Z"}
    await empty.refused(400, "POST", "/api/v1/tasks", json={"run": "x"}, headers=key)


# --- what is due ----------------------------------------------------------------------------------


class Day:
    """The time of day of a test."""

    def __init__(self) -> None:
        self.now = datetime(2026, 12, 1, 12, 0, 30, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
async def day(site: Site, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Day]:
    """The schedules are kept, by this clock."""
    monkeypatch.setattr(schedules, "LOOK_S", 0.01)
    day = Day()
    site.schedules._clock = day
    async with asyncio.TaskGroup() as group:
        keeping = group.create_task(site.schedules.run())
        yield day
        keeping.cancel()


async def at(site: Site, day: Day, moment: datetime, *names: str) -> None:
    """It is so late, and all that is due is settled."""
    day.now = moment
    for name in names or [row["name"] for row in await site.get("/schedules")]:
        async with asyncio.timeout(30):
            while (due := await due_at(site, name)) is not None and due <= moment:
                await asyncio.sleep(0.01)


async def due_at(site: Site, name: str) -> datetime | None:
    due = (await site.get(f"/schedules/{name}"))["due_at"]
    return due and datetime.fromisoformat(due)


async def times(site: Site, name: str) -> list[str]:
    """For which its jobs are, oldest first."""
    jobs = (await site.get(f"/schedules/{name}"))["jobs"]
    return [job["due_at"][11:16] if job["due_at"] else "now" for job in reversed(jobs)]


NOON = datetime(2026, 12, 1, 12, tzinfo=UTC)


async def test_each_due_time_makes_a_job(site: Site, day: Day):
    await put(site, named("x", overlap="allow"))
    for minute in (1, 2, 3):
        await at(site, day, NOON + minute * MINUTE)
    assert await times(site, "x") == ["12:01", "12:02", "12:03"]
    shown = await site.get("/schedules/x")
    job = await site.get(f"/jobs/{shown['last_job_id']}")
    assert job["labels"] == {"styx.schedule": "x"}
    assert shown["last_due_at"] == "2026-12-01T12:03:00Z"
    tasks = await site.get("/tasks", job=job["id"])
    detail = await site.get(f"/tasks/{tasks[0]['id']}")
    assert detail["env"] == {"A": "1", "STYX_SCHEDULED_AT": "2026-12-01T12:03:00Z"}
    trail = [e for e in await site.get("/audit") if e["action"] == "job.submit"]
    assert {entry["actor"] for entry in trail} == {"schedule:x"}


async def test_what_was_missed_is_as_its_policy_says(site: Site, day: Day):
    for missed in ("once", "skip", "all"):
        await put(site, named(missed, "*/10 * * * *", missed=missed, overlap="allow"))
    await at(site, day, NOON + 45 * MINUTE)
    assert await times(site, "once") == ["12:40"]
    assert await times(site, "skip") == []
    assert await times(site, "all") == ["12:10", "12:20", "12:30", "12:40"]
    for name, passed in (("once", "12:10"), ("skip", "12:40")):
        shown = await site.get(f"/schedules/{name}")
        assert shown["passed_at"][11:16] == passed
        assert shown["passed_why"] == "missed: no server ran"
    await at(site, day, NOON + 50 * MINUTE)
    assert await times(site, "skip") == ["12:50"]


async def test_who_has_much_to_make_up_for_lets_others_in(site: Site, day: Day):
    await put(site, named("much", missed="all"))
    await put(site, named("skip", missed="skip"))
    await at(site, day, NOON + 100 * MINUTE)
    found = await site.get("/jobs", limit=1_000)
    assert len(found) == 101
    order = [job["name"] for job in reversed(found)]
    assert order.index("skip") <= 2 * schedules.PART
    made = [job["labels"]["styx.schedule"] for job in found]
    assert made.count("much") == 100


async def test_overlap(site: Site, day: Day):
    for overlap in ("skip", "allow", "cancel"):
        await put(site, named(overlap, overlap=overlap))
    await at(site, day, NOON + 1 * MINUTE)
    await at(site, day, NOON + 2 * MINUTE)
    shown = await site.get("/schedules/skip")
    assert await times(site, "skip") == ["12:01"]
    assert shown["passed_at"] == "2026-12-01T12:02:00Z"
    assert shown["passed_why"] == f"overlap: the job {shown['last_job_id']} still ran"
    assert await times(site, "allow") == ["12:01", "12:02"]
    assert await times(site, "cancel") == ["12:01", "12:02"]
    found = [job["status"] for job in (await site.get("/schedules/cancel"))["jobs"]]
    assert found == ["running", "cancelled"]
    trail = [entry for entry in await site.get("/audit") if entry["action"] == "job.cancel"]
    assert [entry["actor"] for entry in trail] == ["schedule:cancel"]


async def test_a_job_that_is_over_is_no_overlap(site: Site, day: Day, agent: Peer):
    await put(site, named("x"))
    await at(site, day, NOON + 1 * MINUTE)
    task = (await site.get("/tasks"))[0]
    await ended(agent, await started(agent, task["id"]), code=0)
    assert (await site.get(f"/jobs/{task['job_id']}", wait=30))["status"] == "succeeded"
    await at(site, day, NOON + 2 * MINUTE)
    assert await times(site, "x") == ["12:01", "12:02"]


async def test_while_paused_nothing_is_due(site: Site, day: Day):
    await put(site, named("x", overlap="allow"))
    paused = await site.post("/schedules/x/pause", status=200)
    assert (paused["status"], paused["due_at"]) == ("paused", None)
    assert (await site.get("/schedules/x"))["upcoming"] == []
    await put(site, named("other"))
    await at(site, day, NOON + 5 * MINUTE, "other")
    resumed = await site.post("/schedules/x/resume", status=200)
    assert (resumed["status"], resumed["due_at"]) == ("active", "2026-12-01T12:06:00Z")
    await at(site, day, NOON + 6 * MINUTE)
    assert await times(site, "x") == ["12:06"]


async def test_a_clock_that_is_set_back_runs_nothing_twice(site: Site, day: Day):
    await put(site, named("x", overlap="allow"))
    await at(site, day, NOON + 1 * MINUTE)
    await at(site, day, NOON + 2 * MINUTE)
    day.now = NOON
    await put(site, named("y", overlap="allow"))
    await at(site, day, NOON + 2 * MINUTE)
    assert await times(site, "y") == ["12:02"]
    assert await times(site, "x") == ["12:01", "12:02"]
    # Not even when its due times are computed anew.
    day.now = NOON
    await put(site, named("x", overlap="allow", missed="all"), 200)
    assert await due_at(site, "x") == NOON + 1 * MINUTE
    await at(site, day, NOON + 3 * MINUTE)
    assert await times(site, "x") == ["12:01", "12:02", "12:03"]


async def test_a_changed_schedule_begins_anew_and_its_jobs_stay(site: Site, day: Day):
    await put(site, named("x", overlap="allow"))
    await at(site, day, NOON + 1 * MINUTE)
    changed = await put(site, named("x", "*/5 * * * *", overlap="allow"), 200)
    assert changed["due_at"] == "2026-12-01T12:05:00Z"
    await at(site, day, NOON + 5 * MINUTE)
    assert await times(site, "x") == ["12:01", "12:05"]


async def test_run_is_now_and_beside_its_due_times(site: Site, day: Day):
    made = await put(site, named("x"))
    await site.post("/schedules/x/pause", status=200)
    key = {"idempotency-key": "k"}
    first = await site.post("/schedules/x/run", headers=key)
    assert await site.post("/schedules/x/run", headers=key) == first
    second = await site.post("/schedules/x/run")
    assert second != first
    shown = await site.get("/schedules/x")
    assert [job["id"] for job in shown["jobs"]] == [second["job_id"], first["job_id"]]
    assert await times(site, "x") == ["now", "now"]
    assert shown["last_job_id"] == second["job_id"]
    assert (await site.post("/schedules/x/resume", status=200))["due_at"] == made["due_at"]
    await site.refused(404, "POST", f"{PATH}/y/run")


async def test_what_this_version_does_not_accept_is_passed_over(site: Site, day: Day):
    """A document of another version's."""
    await put(site, named("x"))
    async with site.database.writers.acquire() as connection:
        await connection.execute("UPDATE schedules SET document = $1", '{"name": "x"}')
    await at(site, day, NOON + 1 * MINUTE)
    shown = await site.http.get(f"{PATH}/x")
    assert shown.json()["passed_why"].startswith("refused: tasks: missing")
    assert await site.get("/jobs") == []


@pytest.mark.parametrize("said", ["other", {}, [], 7])
async def test_a_name_that_is_not_the_path_s_is_refused(site: Site, said: object):
    answer = await site.http.put(f"{PATH}/nightly", json=DAILY | {"name": said})
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["path"] == "name"


async def test_who_may_never_be_told_is_refused_with_the_schedule(site: Site):
    hooked = DAILY | {"on": {"failed": "https://127.0.0.1/hook"}}
    answer = await site.http.put(f"{PATH}/nightly", json=hooked)
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["path"] == "on.failed"
    assert await site.get("/schedules") == []


async def test_what_is_done_for_one_due_time_does_not_stand_for_another(
    site: Site, agent: Peer
) -> None:
    cached = {"run": "true", "cache": True}
    await put(site, DAILY | {"tasks": {"a": cached}})
    for _ in range(2):
        made = await site.post("/schedules/nightly/run")
        (task,) = await site.get("/tasks", job=made["job_id"])
        await ended(agent, await started(agent, task["id"]), code=0)
    await site.post("/jobs", {"tasks": {"a": cached}})
    assert (await site.get("/tasks", limit="1"))[0]["reason"] == ""
