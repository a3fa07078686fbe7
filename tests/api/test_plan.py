"""POST /api/v1/jobs?plan=1: what would become of a job, and nothing is made."""

import pytest

from tests.api.conftest import Site

JOB = {
    "name": "sweep",
    "tasks": {
        "train": {"command": "x", "array": 3, "resources": {"cpus": 2}},
        "report": {"command": "y", "needs": [{"task": "train", "on": "done"}]},
    },
}


async def test_a_plan_makes_nothing(site: Site) -> None:
    plan = await site.post("/jobs", JOB, status=200, params={"plan": "1"})
    train, report = plan.pop("tasks")
    assert plan == {
        "name": "sweep",
        "total": 4,
        "starting": 0,
        "waiting": 3,
        "blocked": 1,
        "cached": 0,
        "untried": 0,
        "price_usd_per_hour": 0.0,
    }
    assert (train["name"], train["agents"]) == ("train", [])
    assert train["hindrances"][0]["code"] == "no_agent"
    assert report["needs"] == [{"task": "train", "on": "done"}]
    assert await site.get("/jobs") == []


async def test_a_key_stays_unused(site: Site) -> None:
    key = {"idempotency-key": "k"}
    await site.post("/jobs", JOB, status=200, params={"plan": "true"}, headers=key)
    made = await site.post("/jobs", JOB, headers=key)
    assert made["status"] == "submitted"


@pytest.mark.parametrize(
    ("document", "plan", "status"),
    [({"tasks": {}}, "1", 422), (JOB, "maybe", 400), ({"tasks": {"a": {"run": 1}}}, "1", 422)],
)
async def test_bad_input_is_refused_as_a_submit_is(
    site: Site, document: object, plan: str, status: int
) -> None:
    answer = await site.http.post("/api/v1/jobs", json=document, params={"plan": plan})
    assert answer.status_code == status, answer.text
    assert answer.json()["errors"]
