"""Jobs at the edge of what is accepted: a chain, a fan and a cycle of a hundred thousand tasks."""

import time
from collections.abc import Callable
from typing import Any, Final

from tests.chaos.client import Client
from tests.chaos.report import Report
from tests.chaos.rig import Rig
from tests.chaos.vitals import Vitals
from tests.support.site import until

LONG_S: Final = 600.0  # only a hang takes so long
SUBMIT_S: Final = 10.0
SKIP_S: Final = 30.0


def chain(site: Rig, report: Report, tasks: int) -> None:
    """Each needs the one before, and the first fails: all others are skipped."""

    def act(client: Client) -> None:
        job_id = _submit(report, client, "chain", _chain(tasks, "sleep 3; false"), tasks)
        until(lambda: _counts(client, job_id).get("running"), "the first runs", deadline_s=LONG_S)
        skipped_s = _over(client, job_id) - 3.0
        report.limit("chain: all skipped", skipped_s, SKIP_S)
        counts = _counts(client, job_id)
        right = counts.get("skipped") == tasks - 1 and counts.get("failed") == 1
        report.promise("chain: other ends", [] if right else [f"{counts}"])

    _under(site, report, "chain", act)


def fan(site: Rig, report: Report, tasks: int) -> None:
    """All need the first, which succeeds; they fit nowhere, and are cancelled together."""

    def act(client: Client) -> None:
        job_id = _submit(report, client, "fan", _fan(tasks), tasks)
        began = time.monotonic()
        done = lambda: _counts(client, job_id).get("succeeded")  # noqa: E731
        until(done, "the first is over", deadline_s=LONG_S)
        report.figure("fan: the first over after", f"{time.monotonic() - began:.1f} s")
        time.sleep(3.0)
        client.settle("POST", f"/api/v1/jobs/{job_id}/cancel")
        report.limit("fan: all cancelled", _over(client, job_id), SKIP_S)
        counts = _counts(client, job_id)
        right = counts.get("cancelled") == tasks - 1 and counts.get("succeeded") == 1
        report.promise("fan: other ends", [] if right else [f"{counts}"])

    _under(site, report, "fan", act)


def cycle(site: Rig, report: Report, tasks: int) -> None:
    """The first of the chain needs its last: refused, in time."""

    def act(client: Client) -> None:
        graph = _chain(tasks, "true")
        graph["t0"]["needs"] = [f"t{tasks - 1}"]
        began = time.monotonic()
        answer = client.ask("POST", "/api/v1/jobs", {"tasks": graph})
        report.limit("cycle: answered", time.monotonic() - began, SUBMIT_S)
        said = f"{answer.status}: {answer.body[:200]!r} of {len(answer.body)} bytes"
        refused = answer.status == 422 and len(answer.body) < 64 << 10
        report.promise("cycle: not refused in a few words", [] if refused else [said])

    _under(site, report, "cycle", act)


def _under(site: Rig, report: Report, part: str, act: Callable[[Client], None]) -> None:
    site.start(1)
    site.join(1, "--cpus", "1")
    vitals = Vitals(site)
    with site.client(LONG_S) as client:
        act(client)
    vitals.tell(report, part)


def _chain(tasks: int, first: str) -> dict[str, Any]:
    graph: dict[str, Any] = {f"t{i}": {"run": "true", "needs": [f"t{i - 1}"]} for i in range(tasks)}
    graph["t0"] = {"run": first}
    return graph


def _fan(tasks: int) -> dict[str, Any]:
    child = {"run": "true", "needs": ["t0"], "resources": {"cpus": 64}}
    return {"t0": {"run": "true"}} | {f"t{i}": child for i in range(1, tasks)}


def _submit(report: Report, client: Client, part: str, graph: dict[str, Any], tasks: int) -> str:
    began = time.monotonic()
    answer = client.ask("POST", "/api/v1/jobs", {"tasks": graph})
    report.figure(f"{part}: tasks", tasks)
    report.limit(f"{part}: submit", time.monotonic() - began, SUBMIT_S)
    assert answer.status == 201, (answer.status, answer.body[:500])
    return str(answer.json()["job_id"])


def _counts(client: Client, job_id: str) -> dict[str, int]:
    return client.get(f"/api/v1/jobs/{job_id}")["counts"]


def _over(client: Client, job_id: str) -> float:
    began = time.monotonic()
    path = f"/api/v1/jobs/{job_id}?wait=10"
    until(lambda: client.get(path)["status"] != "running", "over", deadline_s=LONG_S)
    return time.monotonic() - began
