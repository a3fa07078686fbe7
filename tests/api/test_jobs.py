"""Jobs over HTTP."""

import asyncio

import pytest

from tests.api.conftest import ended, started

CHAIN = {
    "name": "chain",
    "tasks": {
        "a": {"command": "a"},
        "b": {"command": "b", "needs": ["a"]},
        "c": {"command": "c", "needs": [{"task": "b", "on": "done"}]},
        "d": {"command": "d", "needs": [{"task": "b", "on": "failure"}]},
    },
}


async def test_submit(site):
    document = {"tasks": {"a": {"command": "x"}, "b": {"command": "y", "array": 3}}}
    made = await site.post("/jobs", document)
    assert made.keys() == {"job_id", "task_ids", "status"}
    assert made["status"] == "submitted"
    assert isinstance(made["task_ids"]["a"], str)
    assert len(made["task_ids"]["b"]) == 3
    job = await site.get(f"/jobs/{made['job_id']}")
    assert (job["status"], job["total"], job["counts"]) == ("running", 4, {"queued": 4})
    assert {t["id"] for t in await site.get("/tasks", job=made["job_id"])} == {
        made["task_ids"]["a"],
        *made["task_ids"]["b"],
    }


async def test_the_same_key_is_the_same_job(site):
    key = {"idempotency-key": "k"}
    document = {"tasks": {"z": {"command": "x"}, "a": {"command": "y", "array": 1_200}}}
    first = await site.post("/jobs", document, headers=key)
    again = await site.post("/jobs", document, headers=key, status=200)
    assert again == first
    assert list(again["task_ids"]) == ["z", "a"]


@pytest.mark.parametrize(
    ("document", "path"),
    [
        ({}, "tasks"),
        ({"tasks": {}}, "tasks"),
        ({"tasks": {"a": {"command": "x", "needs": ["b"]}}}, "tasks.a.needs[0]"),
        ({"tasks": {"a": {"command": "x", "resources": {"gpu": 1}}}}, "tasks.a.resources.gpu"),
        ({"tasks": [{"name": "a", "command": "x"}] * 2}, "tasks[1].name"),
        (
            {
                "tasks": {
                    "a": {"command": "x", "needs": ["c"]},
                    "b": {"command": "x", "needs": ["a"]},
                    "c": {"command": "x", "needs": ["b"]},
                }
            },
            "tasks.a.needs",
        ),
    ],
)
async def test_bad_input_gets_a_clear_answer(empty, document, path):
    problem = await empty.refused(422, "POST", "/api/v1/jobs", json=document)
    assert [error["path"] for error in problem["errors"]] == [path]
    assert await empty.get("/jobs") == []


async def test_a_name_given_twice_is_seen_though_json_hides_it(empty):
    body = b'{"tasks": {"a": {"command": "x"}, "a": {"command": "y"}}}'
    headers = {"content-type": "application/json"}
    problem = await empty.refused(422, "POST", "/api/v1/jobs", content=body, headers=headers)
    assert [error["path"] for error in problem["errors"]] == ["tasks.a"]


async def test_the_graph(site):
    document = {"tasks": {**CHAIN["tasks"], "e": {"command": "e", "array": 3, "needs": ["a"]}}}
    document["tasks"]["f"] = {"command": "f", "needs": ["e"]}
    made = await site.post("/jobs", document)
    graph = await site.get(f"/jobs/{made['job_id']}/graph")
    nodes = {node["name"]: node for node in graph["nodes"]}
    assert list(nodes) == ["a", "b", "c", "d", "e", "f"]
    assert nodes["e"]["task_ids"] == made["task_ids"]["e"]
    assert (nodes["e"]["width"], nodes["e"]["counts"]) == (3, {"blocked": 3})
    edges = {(edge["source"], edge["target"], edge["on"]) for edge in graph["edges"]}
    assert edges == {
        ("a", "b", "success"),
        ("b", "c", "done"),
        ("b", "d", "failure"),
        ("a", "e", "success"),
        ("e", "f", "success"),
    }


async def test_lists(site, agent):
    first = await site.post("/jobs", {"name": "one", "tasks": {"a": {"command": "x"}}})
    await ended(agent, await started(agent, first["task_ids"]["a"]), code=0)
    second = await site.post(
        "/jobs", {"name": "two", "tasks": {"a": {"command": "x"}}, "labels": {"team": "x"}}
    )

    async def ids(**params):
        return [job["id"] for job in await site.get("/jobs", **params)]

    assert await ids() == [second["job_id"], first["job_id"]]
    assert await ids(limit=1) == [second["job_id"]]
    assert await ids(after=second["job_id"]) == [first["job_id"]]
    assert await ids(status="succeeded") == [first["job_id"]]
    assert await ids(name="two") == await ids(label="team=x") == [second["job_id"]]
    for _ in range(2):  # counted, then remembered
        assert (await site.get("/jobs/one"))["counts"] == {"succeeded": 1}


async def test_a_job_is_found_by_prefix_name_and_last(site):
    made = await site.post("/jobs", CHAIN)
    for reference in (made["job_id"], made["job_id"][:-2], "chain", "last"):
        assert (await site.get(f"/jobs/{reference}"))["id"] == made["job_id"]
    await site.refused(404, "GET", "/api/v1/jobs/nope")
    await site.refused(404, "GET", "/api/v1/jobs/00000000-0000-7000-8000-000000000000")


async def test_cancel_ends_all_of_it(site, agent):
    made = await site.post("/jobs", CHAIN)
    key = await started(agent, made["task_ids"]["a"])
    cancelled = await site.post(f"/jobs/{made['job_id']}/cancel", status=202)
    assert cancelled == {"id": made["job_id"], "status": "cancelling"}
    await ended(agent, key, signal=15, signalled=True)
    job = await site.get(f"/jobs/{made['job_id']}", wait=30)
    assert (job["status"], job["counts"]) == ("cancelled", {"cancelled": 4})
    again = await site.post(f"/jobs/{made['job_id']}/cancel", status=200)
    assert again["status"] == "cancelled"


async def test_waiting_ends_with_the_job(site, agent):
    made = await site.post("/jobs", {"tasks": {"a": {"command": "x"}}})
    key = await started(agent, made["task_ids"]["a"])
    waiting = asyncio.ensure_future(site.get(f"/jobs/{made['job_id']}", wait=60))
    await asyncio.sleep(0)
    await ended(agent, key, code=0)
    assert (await waiting)["status"] == "succeeded"


# --- retry ----------------------------------------------------------------------------------------


async def test_retry_makes_again_only_what_did_not_succeed(site, agent):
    made = await site.post("/jobs", CHAIN | {"labels": {"team": "x"}})
    ids = made["task_ids"]
    await site.refused(409, "POST", f"/api/v1/jobs/{made['job_id']}/retry")
    await ended(agent, await started(agent, ids["a"]), code=0)
    await ended(agent, await started(agent, ids["b"]), code=1)
    await ended(agent, await started(agent, ids["c"]), code=0)
    await ended(agent, await started(agent, ids["d"]), code=1)
    assert (await site.get(f"/jobs/{made['job_id']}"))["status"] == "failed"
    again = await site.post(f"/jobs/{made['job_id']}/retry")
    assert list(again["task_ids"]) == ["b", "d"]
    job = await site.get(f"/jobs/{again['job_id']}")
    assert job["labels"] == {"team": "x", "styx.retry_of": made["job_id"]}
    assert job["counts"] == {"queued": 1, "blocked": 1} or job["counts"]["blocked"] == 1
    graph = await site.get(f"/jobs/{again['job_id']}/graph")
    assert [(e["source"], e["target"], e["on"]) for e in graph["edges"]] == [("b", "d", "failure")]


async def test_retry_leaves_out_what_waited_in_vain_for_a_failure(site, agent):
    document = {
        "tasks": {
            "a": {"command": "a"},
            "cleanup": {"command": "x", "needs": [{"task": "a", "on": "failure"}]},
            "after": {"command": "x", "needs": ["cleanup"]},
            "b": {"command": "b"},
        }
    }
    made = await site.post("/jobs", document)
    await ended(agent, await started(agent, made["task_ids"]["a"]), code=0)
    await ended(agent, await started(agent, made["task_ids"]["b"]), code=1)
    again = await site.post(f"/jobs/{made['job_id']}/retry")
    assert "cleanup" not in again["task_ids"]
    assert "b" in again["task_ids"]


async def test_retry_of_an_array_takes_the_elements_that_are_left(site, agent):
    document = {
        "tasks": {
            "sweep": {"command": "x", "array": {"over": ["p", "q", "r"]}, "parallel": 1},
            "report": {"command": "y", "needs": ["sweep"]},
        }
    }
    made = await site.post("/jobs", document)
    elements = made["task_ids"]["sweep"]
    for element, code in zip(elements, (0, 1, 1), strict=True):
        await ended(agent, await started(agent, element), code=code)
    again = await site.post(f"/jobs/{made['job_id']}/retry")
    assert list(again["task_ids"]) == ["sweep-1", "sweep-2", "report"]
    second = await site.get(f"/tasks/{again['task_ids']['sweep-2']}")
    assert second["env"] == {"STYX_ARRAY_INDEX": "2", "STYX_ARRAY_VALUE": "r"}
    report = await site.get(f"/tasks/{again['task_ids']['report']}")
    assert report["needs"] == [again["task_ids"]["sweep-1"], again["task_ids"]["sweep-2"]]
    why = await site.get(f"/tasks/{again['task_ids']['sweep-2']}/explain")
    assert [each["code"] for each in why["hindrances"]] == ["parallel"]


async def test_an_element_of_a_matrix_keeps_its_variables_when_it_is_tried_again(site, agent):
    document = {"tasks": {"sweep": {"command": "x", "matrix": {"lr": ["p", "q"]}}}}
    made = await site.post("/jobs", document)
    for element, code in zip(made["task_ids"]["sweep"], (0, 1), strict=True):
        await ended(agent, await started(agent, element), code=code)
    again = await site.post(f"/jobs/{made['job_id']}/retry")
    second = await site.get(f"/tasks/{again['task_ids']['sweep-1']}")
    assert second["env"] == {
        "STYX_ARRAY_INDEX": "1", "STYX_ARRAY_VALUE": '{"lr":"q"}', "lr": "q",
    }  # fmt: skip


async def test_an_element_made_again_takes_no_name_that_is_taken(site, agent):
    document = {
        "tasks": {
            "a": {"command": "x", "array": 2},
            "a-1": {"command": "y", "needs": ["a"]},
        }
    }
    made = await site.post("/jobs", document)
    for element, code in zip(made["task_ids"]["a"], (0, 1), strict=True):
        await ended(agent, await started(agent, element), code=code)
    again = await site.post(f"/jobs/{made['job_id']}/retry")
    assert list(again["task_ids"]) == ["a-1-again", "a-1"]
    needing = await site.get(f"/tasks/{again['task_ids']['a-1']}")
    assert needing["needs"] == [again["task_ids"]["a-1-again"]]


async def test_nothing_is_left_to_retry(site, agent):
    made = await site.post("/jobs", {"tasks": {"a": {"command": "x"}}})
    await ended(agent, await started(agent, made["task_ids"]["a"]), code=0)
    problem = await site.refused(409, "POST", f"/api/v1/jobs/{made['job_id']}/retry")
    assert "succeeded" in problem["detail"]
