"""Tasks over HTTP: what is promised is durable, what is wrong is told, what is over stays over."""

import asyncio
import json
from uuid import UUID

import pytest

from styx.core.ids import TaskId
from styx.core.task import Reason
from styx.wire import agent as wire
from tests.api.conftest import HELLO, ended, started, wrote

# --- submit ---------------------------------------------------------------------------------------


async def test_the_four_calls_of_the_origin(site):
    health = (await site.http.get("/health", headers={"authorization": ""})).json()
    assert health.keys() == {"status", "version", "service"}
    assert (health["status"], health["service"]) == ("healthy", "styx-server")
    submitted = await site.post("/tasks", HELLO)
    assert submitted == {"task_id": submitted["task_id"], "status": "submitted"}
    assert UUID(submitted["task_id"]).version == 7
    (listed,) = await site.get("/tasks")
    one = await site.get(f"/tasks/{submitted['task_id']}")
    assert listed["id"] == one["id"] == submitted["task_id"]
    assert (one["name"], one["command"], one["status"]) == ("test", ["echo", "Hello"], "queued")
    assert one["attempts"] == []


async def test_what_was_submitted_is_in_the_database(site):
    task_id = await site.submit(env={"A": 1}, resources={"cpus": 2}, labels={"team": "x"})
    task, attempts = await site.database.query.task(TaskId(task_id))
    assert (task.spec.env, task.spec.requirements.cpus_milli) == ({"A": "1"}, 2_000)
    assert attempts == []


async def test_a_list_is_one_job_and_its_answer_a_list(site):
    batch = [{"command": "a"}, {"command": "b", "array": 3}, {"command": "a", "needs": ["b"]}]
    answers = await site.post("/tasks", batch)
    assert [a["status"] for a in answers] == ["submitted"] * 3
    assert [len(a.get("task_ids", [])) for a in answers] == [0, 3, 0]
    assert answers[1]["task_ids"][0] == answers[1]["task_id"]
    listed = await site.get("/tasks")
    assert len(listed) == 5
    assert len({task["job_id"] for task in listed}) == 1
    assert {task["name"] for task in listed} == {"a", "b/0", "b/1", "b/2", "a-2"}


async def test_a_batch_is_accepted_whole_or_not_at_all(empty):
    problem = await empty.refused(
        422, "POST", "/api/v1/tasks", json=[HELLO, {"command": "x", "gpus": 1}]
    )
    assert (
        problem["errors"] == [{"path": "[1].gpus", "message": "no such key; did you mean 'args'?"}]
        or problem["errors"][0]["path"] == "[1].gpus"
    )
    assert await empty.get("/tasks") == []


@pytest.mark.parametrize(
    ("body", "status", "path"),
    [
        (b"", 400, None),
        (b"{", 400, None),
        (b'{"command": }', 400, None),
        (b"\xff\xfe", 400, None),
        (b"[" * 50_000, 400, None),
        (b'{"command": 1e999}', 400, None),
        (b"null", 422, ""),
        (b'"echo"', 422, ""),
        (b"[]", 422, ""),
        (b"{}", 422, "command"),
        (b'{"command": "x", "comand": "y"}', 422, "comand"),
        (b'{"command": "x", "resources": {"gpu": 1}}', 422, "resources.gpu"),
        (b'{"command": "x", "resources": {"memory": "16 quarts"}}', 422, "resources.memory"),
        (b'{"command": "x", "image": "--privileged"}', 422, "image"),
        (b'[{"command": "x"}, {"command": "x", "env": {"A": []}}]', 422, "[1].env.A"),
        (b'[{"name": "a", "command": "x"}, {"name": "a", "command": "x"}]', 422, "[1].name"),
        (b'[{"name": "a", "command": "x", "needs": ["b"]}]', 422, "[0].needs[0]"),
    ],
)
async def test_bad_input_gets_a_clear_answer(empty, body, status, path):
    headers = {"content-type": "application/json"}
    problem = await empty.refused(status, "POST", "/api/v1/tasks", content=body, headers=headers)
    assert problem["code"] == ("invalid_spec" if status == 422 else "bad_request")
    if path is not None:
        assert [error["path"] for error in problem["errors"]] == [path]
    assert await empty.get("/tasks") == []
    assert (await empty.http.get("/health")).status_code == 200


async def test_a_body_too_big_is_refused(empty):
    problem = await empty.refused(
        413, "POST", "/api/v1/tasks", json={**HELLO, "env": {"A": "x" * (5 << 20)}}
    )
    assert "4,194,304" in problem["detail"]


async def test_a_large_document_is_checked_beside_the_loop(site):
    batch = [{"name": f"t{i}", "command": "true", "needs": [f"t{i - 1}"]} for i in range(1, 3_000)]
    batch.append({"name": "t0", "command": "true"})
    assert len(json.dumps(batch)) > 64 << 10
    answers = await site.post("/tasks", batch)
    assert len({a["task_id"] for a in answers}) == 3_000
    batch[7]["needs"] = ["t2999"]
    problem = await site.refused(422, "POST", "/api/v1/tasks", json=batch)
    assert "wait for each other" in problem["detail"]


async def test_a_task_that_no_agent_could_run_is_accepted_with_a_warning(site, agent):
    submitted = await site.post("/tasks", {"command": "true", "resources": {"gpus": "H100:8"}})
    assert len(submitted["warnings"]) == 1
    explained = await site.get(f"/tasks/{submitted['task_id']}/explain")
    assert explained["hindrances"][0]["code"] == "no_such_gpu"


# --- idempotency ----------------------------------------------------------------------------------


async def test_the_same_key_is_the_same_submit(site):
    key = {"idempotency-key": "k-1"}
    batch = [HELLO, {"command": "x", "array": 3}]
    first = await site.post("/tasks", batch, headers=key)
    again = await site.post("/tasks", batch, headers=key, status=200)
    assert again == first
    assert len(await site.get("/tasks")) == 4
    other = {"json": [HELLO], "headers": key}
    problem = await site.refused(409, "POST", "/api/v1/tasks", **other)
    assert "k-1" in problem["detail"]
    elsewhere = {"json": {"tasks": batch}, "headers": key}
    await site.refused(409, "POST", "/api/v1/jobs", **elsewhere)


async def test_a_key_outlives_its_job(site, agent):
    key = {"idempotency-key": "k-1"}
    first = await site.post("/tasks", HELLO, headers=key)
    await ended(agent, await started(agent, first["task_id"]), code=0)
    assert (await site.get(f"/tasks/{first['task_id']}"))["status"] == "succeeded"
    assert await site.post("/tasks", HELLO, headers=key, status=200) == first


async def test_many_at_once_with_one_key_are_one(site):
    key = {"idempotency-key": "k-1"}
    answers = await asyncio.gather(
        *(site.http.post("/api/v1/tasks", json=HELLO, headers=key) for _ in range(20))
    )
    assert {a.status_code for a in answers} <= {200, 201}
    assert len({a.json()["task_id"] for a in answers}) == 1
    assert len(await site.get("/tasks")) == 1


async def test_a_key_has_its_limits(empty):
    headers = {"idempotency-key": "x" * 201}
    await empty.refused(400, "POST", "/api/v1/tasks", json=HELLO, headers=headers)


# --- finding --------------------------------------------------------------------------------------


async def test_a_task_is_found_by_id_prefix_name_and_last(site):
    first, second = await site.submit(name="a"), await site.submit(name="a")
    for reference in (second, second[:-1], "a", "last"):
        assert (await site.get(f"/tasks/{reference}"))["id"] == second
    assert (await site.get(f"/tasks/{first}"))["id"] == first
    problem = await site.refused(409, "GET", f"/api/v1/tasks/{first[:4]}")
    assert first in problem["detail"] or second in problem["detail"]
    assert "(a)" in problem["detail"]


async def test_an_element_is_found_by_its_index(site):
    submitted = await site.post("/tasks", {"name": "sweep", "command": "x", "array": 3})
    assert (await site.get("/tasks/sweep%2F1"))["id"] == submitted["task_ids"][1]
    problem = await site.refused(409, "GET", "/api/v1/tasks/sweep")
    assert "NAME/INDEX" in problem["hint"]


@pytest.mark.parametrize(
    "reference",
    [
        "nope",
        "last",
        "00000000-0000-7000-8000-000000000000",
        "abc",
        "%00",
        "x" * 300,
        "%2e%2e",
        "é",
    ],
)
async def test_what_is_not_there_is_said(empty, reference):
    problem = await empty.refused(404, "GET", f"/api/v1/tasks/{reference}")
    assert problem["code"] == "not_found"
    assert problem["hint"]


# --- lists ----------------------------------------------------------------------------------------


async def test_pages_hold_every_task_once_newest_first(site):
    ids = [a["task_id"] for a in await site.post("/tasks", [{"command": "x"} for _ in range(7)])]
    seen: list[str] = []
    target = "/api/v1/tasks?limit=3"
    pages = 0
    while target:
        answer = await site.http.get(target)
        seen += [task["id"] for task in answer.json()]
        target = answer.links.get("next", {}).get("url")
        pages += 1
    assert seen == ids[::-1]
    assert pages == 3


async def test_filters(site, agent):
    done = await site.submit(name="done", labels={"team": "a"})
    await ended(agent, await started(agent, done), code=0)
    waiting = await site.submit(name="waiting", labels={"team": "b"}, resources={"cpus": 99})

    async def ids(**params):
        return [task["id"] for task in await site.get("/tasks", **params)]

    assert await ids(status="succeeded") == [done]
    assert await ids(status="queued,running") == [waiting]
    assert await ids(name="done") == [done]
    assert await ids(label="team=b") == [waiting]
    assert await ids(job="waiting") == [waiting]
    assert await ids(since="1h") == [waiting, done]
    assert await ids(since="2100-01-01T00:00:00Z") == []
    assert await ids(since="0001-01-01") == [waiting, done]


@pytest.mark.parametrize(
    ("query", "path"),
    [
        ("stauts=failed", "stauts"),
        ("status=sad", "status"),
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=x", "limit"),
        ("after=x", "after"),
        ("since=yesterday", "since"),
        ("since=9999-12-31T23:59:59-12:00", "since"),
        ("name=%00", "name"),
        ("label=a%3D%00", "label"),
        ("label=x", "label"),
    ],
)
async def test_a_wrong_parameter_is_named(empty, query, path):
    problem = await empty.refused(400, "GET", f"/api/v1/tasks?{query}")
    assert [error["path"] for error in problem["errors"]] == [path]


async def test_an_unchanged_list_costs_no_body(site):
    await site.submit()
    first = await site.http.get("/api/v1/tasks")
    known = {"if-none-match": first.headers["etag"]}
    same = await site.http.get("/api/v1/tasks", headers=known)
    assert (same.status_code, same.content) == (304, b"")
    await site.submit()
    assert (await site.http.get("/api/v1/tasks", headers=known)).status_code == 200


# --- a task's life --------------------------------------------------------------------------------


async def test_what_an_attempt_tells_is_shown(site, agent):
    task_id = await site.submit(name="t")
    key = await started(agent, task_id)
    running = await site.get(f"/tasks/{task_id}")
    assert (running["status"], running["agent"], running["attempt"]) == ("running", "agent-1", 1)
    assert running["started_at"]
    assert running["exit_code"] is None
    await wrote(agent, key, b"Hello\n")
    await ended(agent, key, code=3, ran_ms=12, cpu_ms=5, max_rss_bytes=1 << 20, out_bytes=6)
    over = await site.get(f"/tasks/{task_id}")
    assert (over["status"], over["reason"], over["exit_code"]) == ("failed", "exit_code", 3)
    assert over["duration_ms"] == 12
    (attempt,) = over["attempts"]
    assert (attempt["n"], attempt["status"], attempt["out_bytes"]) == (1, "failed", 6)
    assert attempt["logs_complete"] is True


async def test_waiting_ends_with_the_task(site, agent):
    task_id = await site.submit()
    key = await started(agent, task_id)
    waiting = asyncio.ensure_future(site.get(f"/tasks/{task_id}", wait=60))
    await asyncio.sleep(0)
    await ended(agent, key, code=0)
    assert (await waiting)["status"] == "succeeded"
    assert (await site.get(f"/tasks/{task_id}", wait=60))["status"] == "succeeded"


async def test_waiting_has_an_end(site):
    task_id = await site.submit()
    assert (await site.get(f"/tasks/{task_id}", wait=0.05))["status"] == "queued"
    await site.refused(400, "GET", f"/api/v1/tasks/{task_id}?wait=61")


async def test_cancel_of_a_waiting_task_is_final_at_once(site):
    task_id = await site.submit()
    assert await site.post(f"/tasks/{task_id}/cancel", status=202) == {
        "id": task_id,
        "status": "cancelled",
    }
    again = await site.post(f"/tasks/{task_id}/cancel", status=200)
    assert again["status"] == "cancelled"


@pytest.mark.parametrize(
    ("asked", "grace_s"),
    [({}, 30.0), ({"params": {"force": "true"}}, 0.0), ({"document": {"force": True}}, 0.0)],
)
async def test_cancel_of_a_running_task_asks_its_agent(site, agent, asked, grace_s):
    task_id = await site.submit()
    key = await started(agent, task_id)
    cancelled = await site.post(f"/tasks/{task_id}/cancel", status=202, **asked)
    assert cancelled["status"] == "cancelling"
    stop = await agent.hear(wire.Stop)
    assert (stop.key, stop.grace_s) == (key, grace_s)
    await ended(agent, key, signal=15, signalled=True)
    over = await site.get(f"/tasks/{task_id}")
    assert (over["status"], over["reason"]) == ("cancelled", "cancelled")


@pytest.mark.parametrize("body", [b'{"force": 1}', b'{"forse": true}', b"[]", b"{"])
async def test_a_cancel_of_nonsense(site, body):
    task_id = await site.submit()
    headers = {"content-type": "application/json"}
    path = f"/api/v1/tasks/{task_id}/cancel"
    await site.refused(400, "POST", path, content=body, headers=headers)
    assert (await site.get(f"/tasks/{task_id}"))["status"] == "queued"


async def test_retry_makes_a_new_task(site, agent):
    task_id = await site.submit(name="t", env={"A": "b"}, labels={"team": "x"})
    await site.refused(409, "POST", f"/api/v1/tasks/{task_id}/retry")
    await ended(agent, await started(agent, task_id), code=1)
    key = {"idempotency-key": "again"}
    made = await site.post(f"/tasks/{task_id}/retry", headers=key)
    assert await site.post(f"/tasks/{task_id}/retry", headers=key, status=200) == made
    new = await site.get(f"/tasks/{made['task_id']}")
    assert new["id"] != task_id
    assert (new["name"], new["env"]) == ("t", {"A": "b"})
    assert new["labels"] == {"team": "x", "styx.retry_of": task_id}
    assert (await site.get(f"/tasks/{task_id}"))["status"] == "failed"


async def test_retry_of_an_element_keeps_its_place(site):
    array = {"name": "sweep", "command": "x", "array": {"over": ["a", "b"]}}
    submitted = await site.post("/tasks", array)
    element = submitted["task_ids"][1]
    await site.post(f"/tasks/{element}/cancel", status=202)
    made = await site.post(f"/tasks/{element}/retry")
    new = await site.get(f"/tasks/{made['task_id']}")
    assert new["name"] == "sweep-1"
    assert new["env"] == {"STYX_ARRAY_INDEX": "1", "STYX_ARRAY_VALUE": "b"}
    assert new["array_index"] is None


# --- explain and history --------------------------------------------------------------------------


async def test_explain_says_what_is_missing(site):
    task_id = await site.submit()
    explained = await site.get(f"/tasks/{task_id}/explain")
    assert explained["status"] == "queued"
    assert [h["code"] for h in explained["hindrances"]] == ["no_agent"]
    assert "no agent is connected" in explained["summary"]
    assert "styx agent" in explained["hint"]


async def test_explain_says_what_happened(site, agent):
    task_id = await site.submit()
    key = await started(agent, task_id)
    assert "running on agent-1" in (await site.get(f"/tasks/{task_id}/explain"))["summary"]
    await ended(agent, key, signal=9, reason=Reason.OOM)
    explained = await site.get(f"/tasks/{task_id}/explain")
    assert explained["summary"] == "failed by signal 9: oom"
    assert "memory" in explained["hint"]
    told = [event["what"] for event in explained["history"]]
    assert told == [
        "submitted",
        "ready",
        "assigned",
        "accepted",
        "running",
        "attempt_failed",
        "failed",
    ]
    assert await site.get(f"/tasks/{task_id}/events") == explained["history"]


async def test_explain_names_the_need(site):
    submitted = await site.post(
        "/jobs", {"tasks": {"a": HELLO | {"name": "a"}, "b": {"run": "true", "needs": ["a"]}}}
    )
    explained = await site.get(f"/tasks/{submitted['task_ids']['b']}/explain")
    assert explained["status"] == "blocked"
    assert explained["hindrances"] == [
        {
            "code": "needs_unmet",
            "subject": "a",
            "message": "waits for a, which is queued",
            "id": submitted["task_ids"]["a"],
        }
    ]
