"""The client against a real server: the sync one, and the async one behind the same face."""

import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

from styx import sdk
from styx.errors import Conflict, InvalidSpec, NotFound
from styx.sdk import calls
from styx.sdk.aio import calls as aio_calls
from styx.sdk.aio.client import AsyncStyx
from styx.sdk.client import Styx
from styx.sdk.failures import TaskFailed
from tests.sdk import bridge
from tests.support.site import ROOT, Site


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = Site(tmp_path_factory.mktemp("sdk"))
    try:
        made.start()
        made.agent("solo")
        yield made
    finally:
        made.close()


@pytest.fixture(params=[Styx, bridge.styx], ids=["sync", "async"])
def styx(site: Site, request: pytest.FixtureRequest) -> Iterator[Styx]:
    with request.param(f"http://127.0.0.1:{site.port}", "") as made:
        yield made


def test_submit_follow_wait(styx: Styx) -> None:
    task_id = styx.submit({"name": "hello", "run": "echo out; echo err >&2"}).task_id
    assert b"".join(styx.logs(task_id, follow=True)) == b"out\n"
    task = styx.wait(task_id, check=True)
    assert (task.name, task.status, task.exit_code) == ("hello", "succeeded", 0)
    assert b"".join(styx.logs(task_id, stream="err")) == b"err\n"


def test_a_task_belongs_to_its_submitters_trace(
    styx: Styx, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace, span = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    task = {"run": "echo $TRACEPARENT"}
    monkeypatch.setenv("TRACEPARENT", f"00-{trace}-{span}-01")
    traced = b"".join(styx.logs(styx.submit(task).task_id, follow=True)).decode().strip()
    assert re.fullmatch(f"00-{trace}-[0-9a-f]{{16}}-01", traced)
    assert span not in traced, "a span of its own"
    monkeypatch.setenv("TRACEPARENT", "nonsense\r\nX-More: 1")
    alone = b"".join(styx.logs(styx.submit(task).task_id, follow=True)).decode().strip()
    assert re.fullmatch("00-[0-9a-f]{32}-[0-9a-f]{16}-01", alone)
    assert trace not in alone


def test_a_failure_is_an_error_for_those_who_check(styx: Styx) -> None:
    task_id = styx.submit({"run": "echo why >&2; exit 3"}).task_id
    assert styx.wait(task_id).exit_code == 3
    with pytest.raises(TaskFailed, match=r"failed \(exit 3\)") as caught:
        styx.wait(task_id, check=True)
    assert (caught.value.exit_code, caught.value.reason) == (3, "exit_code")
    assert caught.value.tail == b"why\n"


def test_waiting_has_a_limit(styx: Styx) -> None:
    task_id = styx.submit({"command": "true", "resources": {"cpus": 999}}).task_id
    with pytest.raises(TimeoutError, match=r"not over after 0\.1 s"):
        styx.wait(task_id, timeout_s=0.1)
    assert styx.cancel(task_id).status == "cancelled"
    assert styx.wait(task_id).status == "cancelled"


def test_a_job(styx: Styx) -> None:
    job = styx.submit_job(
        {"name": "two", "tasks": {"a": {"run": "true"}, "b": {"run": "exit 2", "needs": ["a"]}}}
    )
    over = styx.wait_job(job.job_id)
    assert (over.status, over.counts["succeeded"], over.counts["failed"]) == ("failed", 1, 1)
    assert {row.name for row in styx.tasks(job=job.job_id)} == {"a", "b"}
    assert styx.job("two").id == job.job_id
    assert next(iter(styx.jobs(name="two", limit=1))).id == job.job_id


def test_the_same_key_is_the_same_task(styx: Styx) -> None:
    first = styx.submit({"run": "true"}, key="k")
    assert styx.submit({"run": "true"}, key="k").task_id == first.task_id
    with pytest.raises(Conflict):
        styx.submit({"run": "false"}, key="k")


def test_pages_are_one_list(styx: Styx, monkeypatch: pytest.MonkeyPatch) -> None:
    job = styx.submit_job({"name": "many", "tasks": [{"run": "true", "array": 7}]})
    for module in (calls, aio_calls):
        monkeypatch.setattr(module, "PAGE", 3)
    rows = list(styx.tasks(job=job.job_id))
    assert sorted(row.array_index or 0 for row in rows) == list(range(7))
    assert [row.id for row in styx.tasks(job=job.job_id, limit=5)] == [row.id for row in rows[:5]]
    styx.cancel_job(job.job_id)


def test_agents(styx: Styx) -> None:
    assert [agent.name for agent in styx.agents()] == ["solo"]
    assert styx.drain("solo").status == "draining"
    assert styx.resume("solo").status == "ready"
    assert styx.agent("solo").resources.cpus == 2


def test_explain_and_history(styx: Styx) -> None:
    task_id = styx.submit({"run": "exit 1"}).task_id
    styx.wait(task_id)
    assert styx.explain(task_id).status == "failed"
    words = [event.what for event in styx.history(task_id)]
    assert (words[0], words[-1]) == ("submitted", "failed")
    again = styx.retry(task_id).task_id
    assert again != task_id


def test_events_tell_of_changes(styx: Styx) -> None:
    other = styx.another()
    events = styx.events(last_id="0-0")  # of no term: begins with a reset
    assert next(events).kind == "reset"
    task_id = other.submit({"run": "true"}).task_id
    assert next(event for event in events if event.object_id == task_id).kind == "task"
    other.close()


def test_refusals(styx: Styx) -> None:
    with pytest.raises(NotFound):
        styx.task("nobody")
    with pytest.raises(InvalidSpec) as caught:
        styx.submit({"run": "x", "nmae": "y"})
    assert caught.value.errors[0].path == "nmae"


def test_the_package_itself_has_it() -> None:
    import styx as package

    assert package.Styx is Styx
    assert package.AsyncStyx is AsyncStyx
    for name in sdk.MODULES:
        assert getattr(sdk, name).__name__ == name
    assert set(sdk.MODULES) >= package.SDK
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = sdk.nothing  # pyright: ignore[reportAttributeAccessIssue]: the point of the test
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = package.nothing  # pyright: ignore[reportAttributeAccessIssue]: the point of the test


def test_the_sync_client_imports_nothing_async() -> None:
    program = (
        "import sys; from styx import Styx; Styx('http://a', 't').close(); print(*sys.modules)"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert {"styx.sdk.client", "http.client"} <= loaded
    assert loaded & {"asyncio", "h11", "styx.sdk.aio", "styx.sdk.flow"} == set()


def test_without_arguments_it_is_the_local_server(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STYX_HOME", str(site.home))
    for name in ("STYX_SERVER_URL", "STYX_SERVER_PORT", "STYX_CONFIG", "STYX_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    with Styx() as styx:
        assert styx.url == f"http://127.0.0.1:{site.port}"
        assert styx.health().service == "styx-server"
