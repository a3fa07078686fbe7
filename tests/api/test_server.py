"""The application as a whole: every route is guarded and described, every refusal is a problem."""

import asyncio
import re
import subprocess
import sys

import pytest

from styx.api import gate
from styx.errors import StoreUnavailable
from tests.api.conftest import HELLO

# Stable for generated clients: added to, never renamed.
OPERATIONS = {
    *("getHealth", "getReady", "getDocs", "getSchema"),
    *("submitTasks", "listTasks", "getTask", "cancelTask", "retryTask", "explainTask"),
    *("getTaskEvents", "getTaskLogs"),
    *("submitJob", "listJobs", "getJob", "getJobGraph", "cancelJob", "retryJob"),
    *("listAgents", "getAgent", "drainAgent", "resumeAgent"),
    *("putSchedule", "listSchedules", "getSchedule", "deleteSchedule"),
    *("pauseSchedule", "resumeSchedule", "runSchedule"),
    *("getFiles", "offerBundle", "getBundle", "sendBlobs", "fetchBlobs"),
    *("getOutputs", "getInputs"),
    *("putSecret", "listSecrets", "getSecret", "deleteSecret", "giveSecrets", "rotateSecretKeys"),
    *("followEvents", "listAudit", "getMetrics"),
}
OPEN = {("GET", "/health"), ("GET", "/readyz")}


async def document(site):
    answer = await site.http.get("/schema/openapi.json")
    assert answer.headers["content-type"] == "application/json"
    return answer.json()


def operations(described):
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


# --- who may enter --------------------------------------------------------------------------------


@pytest.mark.parametrize("credential", ["", "Bearer wrong", "Basic YTpi"])
async def test_no_route_answers_without_a_credential(empty, credential):
    headers = {"authorization": credential, "x-forwarded-for": "203.0.113.9"}
    for method, path, _ in operations(await document(empty)):
        answer = await empty.http.request(method, path.replace("{id}", "last"), headers=headers)
        if (method, path) in OPEN:
            assert answer.status_code == 200
        else:
            assert answer.status_code == 401, (method, path)
            assert answer.json()["code"] == "unauthenticated"
    for path in (
        "/",
        "/nope",
        "/health/",
        "/health/x",
        "/api/v1/tasks/health",
        "//health",
        "/Health",
    ):
        answer = await empty.http.get(path, headers=headers)
        assert answer.status_code == 401, path


async def test_the_servers_own_user_needs_no_token(site):
    """The four curl calls of the contract, as a newcomer types them."""
    local = {"authorization": ""}
    del local["authorization"]
    site.http.headers.pop("authorization")
    assert (await site.http.post("/api/v1/tasks", json=HELLO, headers=local)).status_code == 201
    assert (await site.http.get("/api/v1/tasks")).status_code == 200
    page = {"sec-fetch-site": "cross-site"}
    assert (await site.http.get("/api/v1/tasks", headers=page)).status_code == 401
    evil = {"host": "evil.test"}
    assert (await site.http.get("/api/v1/tasks", headers=evil)).status_code == 403
    form = {"content-type": "text/plain", "origin": "http://evil.test"}
    answer = await site.http.post("/api/v1/tasks", content=b"{}", headers=form)
    assert answer.status_code == 403


# --- refusals -------------------------------------------------------------------------------------


async def test_what_the_framework_refuses_is_a_problem_too(empty):
    assert (await empty.refused(404, "GET", "/nope"))["code"] == "not_found"
    wrong = await empty.refused(405, "DELETE", "/api/v1/tasks")
    assert wrong["code"] == "method_not_allowed"
    answer = await empty.http.request("DELETE", "/api/v1/tasks")
    assert {"GET", "POST"} <= set(answer.headers["allow"].split(", "))


async def test_an_unforeseen_error_tells_nothing(empty, monkeypatch, capsys):
    async def broken(*_args, **_more):
        raise ZeroDivisionError("the secret")

    monkeypatch.setattr(type(empty.database.query), "tasks", broken)
    problem = await empty.refused(500, "GET", "/api/v1/tasks")
    assert problem["code"] == "internal"
    assert "secret" not in str(problem)
    logged = capsys.readouterr()
    assert problem["request_id"] in logged.out + logged.err
    assert (await empty.http.get("/health")).status_code == 200


async def test_a_database_that_is_away_is_said_with_when_to_come_back(empty, monkeypatch):
    async def away(*_args, **_more):
        raise StoreUnavailable("the database does not answer")

    monkeypatch.setattr(type(empty.database.query), "tasks", away)
    answer = await empty.http.get("/api/v1/tasks")
    assert answer.status_code == 503
    assert 1 <= int(answer.headers["retry-after"]) <= 5
    empty.engine.healthy = False
    try:
        ready = await empty.http.get("/readyz")
        assert ready.status_code == 503
        assert ready.json()["database"] == "unavailable"
        assert (await empty.http.get("/health")).status_code == 200
        await empty.refused(503, "POST", "/api/v1/tasks", json=HELLO)
    finally:
        empty.engine.healthy = True
    assert (await empty.http.get("/readyz")).json()["ready"] is True


# --- the description ------------------------------------------------------------------------------


async def test_the_description_is_openapi(empty):
    described = await document(empty)
    assert described["openapi"] == "3.1.0"
    names = [operation["operationId"] for _, _, operation in operations(described)]
    assert len(names) == len(set(names))
    assert set(names) == OPERATIONS
    references = set(
        re.findall(r'"#/components/schemas/([^"]+)"', str(described).replace("'", '"'))
    )
    assert references == set(described["components"]["schemas"]) & references
    for method, path, operation in operations(described):
        assert operation["summary"], (method, path)
        assert {"500", "503"} <= operation["responses"].keys()
        if (method, path) not in OPEN:
            assert {"401", "403"} <= operation["responses"].keys()
        if method == "POST":
            assert {"400", "413", "415"} <= operation["responses"].keys()
        given = {each["name"] for each in operation.get("parameters", ()) if each["in"] == "path"}
        assert given == set(re.findall(r"{(\w+)}", path))
        if "{id}" in path:
            assert "404" in operation["responses"]
        if "{id}" in path and operation["operationId"] != "getBundle":  # by its whole id only
            assert {"404", "409"} <= operation["responses"].keys()
        for status, response in operation["responses"].items():
            if status >= "400" and (method, path, status) != ("GET", "/readyz", "503"):
                assert list(response["content"]) == ["application/problem+json"]


async def test_the_examples_are_accepted(site):
    for method, path, operation in operations(await document(site)):
        body = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
        if "example" in body:
            there = path.replace("{name}", "nightly")
            answer = await site.http.request(method, there, json=body["example"])
            assert answer.status_code < 300, (path, answer.text)
            assert str(answer.status_code) in operation["responses"]


async def test_the_page_needs_nothing_from_elsewhere(empty):
    answer = await empty.http.get("/schema")
    assert answer.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "getTaskLogs" in answer.text
    assert "id=problem-invalid_spec" in answer.text
    assert "<script" not in answer.text
    assert "https://" not in answer.text


# --- limits ---------------------------------------------------------------------------------------


async def test_those_who_wait_do_not_keep_others_out(site, monkeypatch):
    monkeypatch.setattr(gate, "BUSY_LIMIT", 1)
    task_id = await site.submit()
    waiting = [asyncio.ensure_future(site.get(f"/tasks/{task_id}", wait=30)) for _ in range(3)]
    await asyncio.sleep(0)
    async with asyncio.timeout(30):
        while (await site.http.post(f"/api/v1/tasks/{task_id}/cancel")).status_code == 503:
            pass
    assert {(await w)["status"] for w in waiting} == {"cancelled"}


def test_the_framework_brings_no_models_that_nobody_uses():
    """Should it find another way to bring them, a start takes a sixth longer again."""
    program = (
        "import sys; from styx.api import server;"
        " server._Plain([], openapi_config=None, logging_config=None);"
        " print({'pydantic', 'attrs'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n", done.stderr
