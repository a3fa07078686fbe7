"""Who asked for what, over HTTP: each request once, with who it was."""

import itertools
from typing import Any

from styx.core.audit import Link

HOP = "X-Styx-Forwarded"


async def trail(site, **query: Any) -> list[Any]:
    return [row for row in await site.get("/audit", **query) if row["action"] != "agent.join"]


async def test_each_request_is_told_once_with_who_it_was(site, agent):
    task_id = await site.submit(name="seen", resources={"cpus": 64})
    job_id = (await site.get(f"/tasks/{task_id}"))["job_id"]
    await site.post(f"/tasks/{task_id}/cancel", status=202)
    again = await site.post(f"/tasks/{task_id}/retry", status=201)
    new_job = (await site.get(f"/tasks/{again['task_id']}"))["job_id"]
    await site.post("/agents/agent-1/drain", status=200)
    found = await trail(site)
    assert [(row["action"], row["object_id"]) for row in found] == [
        ("job.submit", job_id),
        ("task.cancel", task_id),
        ("job.retry", new_job),
        ("agent.drain", agent.agent_id),
    ]
    assert {row["actor"] for row in found} == {found[0]["actor"]}
    assert found[0]["actor"].startswith("token:")
    assert found[0]["detail"] == "seen: 1 tasks"
    assert await trail(site, since=found[1]["seq"], limit=1) == [found[2]]
    whole = [Link(r["seq"], r["prev"], r["text"], r["hash"]) for r in await site.get("/audit")]
    assert all(link.holds for link in whole)
    assert all(link.follows(before) for before, link in itertools.pairwise(whole))


async def test_a_repeated_submit_is_one_and_a_refused_one_none(site):
    for _ in range(2):
        await site.http.post(
            "/api/v1/tasks", json={"command": "true"}, headers={"Idempotency-Key": "k"}
        )
    await site.http.post("/api/v1/tasks", json={"nonsense": 1})
    assert [row["action"] for row in await trail(site)] == ["job.submit"]


async def test_what_a_replica_sends_on_is_told_of_both(site):
    for said in ("peer:ann", "not a name\\"):
        await site.http.post("/api/v1/tasks", json={"command": "true"}, headers={HOP: said})
    relayed, direct = [row["actor"] for row in await trail(site)]
    assert relayed == f"peer:ann by {direct}"
