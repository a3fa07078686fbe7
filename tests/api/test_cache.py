"""`cache`: what succeeded before is not run again, over HTTP and in the database."""

from tests.api.conftest import Site, ended, started

LONE = {"run": "x", "cache": True, "name": "lone"}
SWEEP = {
    "tasks": {
        "sweep": {"run": "x", "cache": True, "array": {"over": ["p", "q"]}},
        "report": {"run": "y", "cache": True, "needs": ["sweep"]},
    }
}


async def test_a_success_is_taken_and_said_so(site: Site, agent) -> None:
    first = (await site.post("/tasks", LONE))["task_id"]
    await ended(agent, await started(agent, first), code=0)
    again = (await site.post("/tasks", {**LONE, "name": "other", "retries": 2}))["task_id"]
    task = await site.get(f"/tasks/{again}")
    assert (task["status"], task["reason"], task["taken_from"]) == ("succeeded", "cached", first)
    assert (task["attempt"], task["attempts"]) == (0, [])
    why = await site.get(f"/tasks/{again}/explain")
    assert why["summary"] == f"succeeded: cached, taken from {first}, which did the same"
    third = (await site.post("/tasks", LONE))["task_id"]
    assert (await site.get(f"/tasks/{third}"))["taken_from"] == first  # the one that ran


async def test_only_what_succeeded_counts(site: Site, agent) -> None:
    first = (await site.post("/tasks", LONE))["task_id"]
    during = (await site.post("/tasks", LONE))["task_id"]
    await ended(agent, await started(agent, first), code=1)
    after = (await site.post("/tasks", LONE))["task_id"]
    for task_id in (during, after):
        assert (await site.get(f"/tasks/{task_id}"))["taken_from"] is None


async def test_it_can_be_run_anew(site: Site, agent) -> None:
    first = (await site.post("/tasks", LONE))["task_id"]
    await ended(agent, await started(agent, first), code=0)
    for path, document in (("/tasks", LONE), ("/jobs", {"tasks": [LONE]})):
        await site.post(path, document, params={"no_cache": "1"})
    anew = await site.get("/tasks", status="queued,assigned,running")
    assert [task["reason"] for task in anew] == ["", ""]


async def test_elements_and_what_needs_them(site: Site, agent) -> None:
    made = await site.post("/jobs", SWEEP)
    for element in made["task_ids"]["sweep"]:
        await ended(agent, await started(agent, element), code=0)
    await ended(agent, await started(agent, made["task_ids"]["report"]), code=0)
    whole = await site.post("/jobs", SWEEP)
    job = await site.get(f"/jobs/{whole['job_id']}")
    assert (job["status"], job["counts"]) == ("succeeded", {"succeeded": 3})
    wider = {"sweep": SWEEP["tasks"]["sweep"] | {"array": {"over": ["q", "new"]}}}
    plan = await site.post(
        "/jobs", {"tasks": SWEEP["tasks"] | wider}, status=200, params={"plan": "1"}
    )
    assert (plan["cached"], plan["starting"] + plan["waiting"], plan["blocked"]) == (1, 1, 1)
    more = await site.post("/jobs", {"tasks": SWEEP["tasks"] | wider})
    job = await site.get(f"/jobs/{more['job_id']}")
    assert job["counts"]["succeeded"] == 1


async def test_another_leader_knows_as_much(site: Site, agent) -> None:
    """A task that waits for some that were taken is told of them from the rows, too."""
    first = (await site.post("/tasks", {**LONE, "run": "a"}))["task_id"]
    await ended(agent, await started(agent, first), code=0)
    document = {
        "tasks": {
            "a": {"run": "a", "cache": True},
            "b": {"run": "b"},
            "c": {"run": "c", "needs": ["a", "b"]},
        }
    }
    made = await site.post("/jobs", document)
    rows = await site.engine.store.load()
    assert rows.settled == {made["task_ids"]["a"]: "succeeded"}
    assert sum(sum(tally.values()) for tally in rows.tallies.values()) == 1
