"""T-5 and T-6: a whole Styx of real processes works while its parts are killed; then it is judged."""

import random
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from tests.chaos import oracle, rig, workload
from tests.chaos.client import Client
from tests.chaos.evidence import Evidence
from tests.chaos.faults import Faults
from tests.chaos.report import Report
from tests.chaos.rig import Rig
from tests.chaos.submitter import Submitters

SETTINGS: Final = """
[scheduler]
retry_base_s = 0.2
retry_cap_s = 0.5
"""
SETTLE_S: Final = 300.0  # from the last fault until every task is over
KILLS_PER_S: Final = 2.5  # of links: each costs a new Python
ORPHANS_S: Final = 60.0
PAGE: Final = 1_000


def run(
    *,
    seed: int,
    tasks: int,
    server_kills: int,
    agent_kills: int,
    postgres_kills: int,
    servers: int,
    agents: int,
    seconds: float,
    longest_s: float,
) -> Report:
    """`seconds` is how long faults and submits are spread over; 0 is what that many faults need."""
    seconds = seconds or max(15.0, 7.0 * server_kills, 2.0 * agent_kills, 12.0 * postgres_kills)

    def plan(faults: Faults) -> None:
        faults.plan(seconds, servers=server_kills, agents=agent_kills, postgres=postgres_kills)

    work = _Work(tasks, servers, agents, seconds, longest_s)
    return _carried_out("chaos", seed, work, plan)


def restarts(*, seed: int, tasks: int, kills: int, agents: int, longest_s: float) -> Report:
    """T-9: only links are killed: no exit may be unknown, and no byte of output lost."""
    seconds = max(15.0, kills / KILLS_PER_S)
    work = _Work(tasks, 1, agents, seconds, longest_s)
    return _carried_out("restarts", seed, work, lambda faults: faults.plan_links(seconds, kills))


@dataclass(frozen=True)
class _Work:
    tasks: int
    servers: int
    agents: int
    seconds: float
    longest_s: float


def _carried_out(kind: str, seed: int, work: _Work, plan: Callable[[Faults], None]) -> Report:
    dice = random.Random(seed)
    with rig.running(kind, seed, SETTINGS) as site:
        ledger = site.directory / "ledger"
        ledger.touch()
        plans = workload.plans(dice, work.tasks, ledger, longest_s=work.longest_s)
        site.start(work.servers)
        site.join(work.agents, "--cpus", "8")
        began = time.monotonic()
        submitters = Submitters(site, plans, 0.9 * work.seconds)
        faults = Faults(site, dice, freeze_s=(5.0, 60.0) if work.seconds > 120 else (2.0, 6.0))
        plan(faults)
        faults.run(lambda: None)
        submitters.join()
        faulty_s = time.monotonic() - began
        report = Report(kind, seed, site.directory)
        verdict = harvest(site, report, submitters, faults.supervisor_kills, faults.history)
        report.figure("tasks", sum(plan.width for plan in plans))
        report.figure("jobs", len(plans))
        for what, count in sorted(faults.counts.items()):
            report.figure(what, count)
        report.figure("servers / agents", f"{work.servers} / {work.agents}")
        report.figure("under faults for", f"{faulty_s:.0f} s")
        judged(report, verdict)
        return report


def harvest(
    site: Rig,
    report: Report,
    submitters: Submitters,
    supervisor_kills: list[tuple[str, float]],
    history: list[tuple[float, str]],
) -> oracle.Verdict:
    """Once no fault is left: wait for the end of all work, gather the evidence, and judge it."""
    settled_s = _settle(site, submitters)
    orphans, orphaned_s = _orphans(site)
    report.figure("all over after the last fault", f"{settled_s:.1f} s")
    report.figure("last process gone after", f"{orphaned_s:.1f} s")
    evidence = _collect(site, submitters, orphans)
    evidence.supervisor_kills, evidence.history = supervisor_kills, history
    evidence.write(site.directory)
    return oracle.judge(evidence)


def judged(report: Report, verdict: oracle.Verdict) -> None:
    for what, count in verdict.figures.items():
        report.figure(what, count)
    for what, count in verdict.classes.items():
        report.figure(f"tasks {what}", count)
    for promise, found in verdict.violations.items():
        report.promise(promise, found)


def _settle(site: Rig, submitters: Submitters) -> float:
    """Until every job is over; or until patience ends: then the judge finds what is not."""
    began = time.monotonic()
    left = [submit.job_id for submit in submitters.submits]
    with site.client() as client:
        while left and time.monotonic() - began < SETTLE_S:
            job = client.settle("GET", f"/api/v1/jobs/{left[-1]}?wait=5")
            if job.status == 404 or (job.status == 200 and job.json()["status"] != "running"):
                left.pop()
    return time.monotonic() - began


def _orphans(site: Rig) -> tuple[list[str], float]:
    """Processes of tasks that are all over, and that do not go away."""
    began = time.monotonic()
    while found := [f"{key}: process {pid}" for key, pid in site.task_processes()]:
        if time.monotonic() - began > ORPHANS_S:
            break
        time.sleep(0.2)
    return found, time.monotonic() - began


def _collect(site: Rig, submitters: Submitters, orphans: list[str]) -> Evidence:
    evidence = Evidence(
        submits=submitters.submits,
        jobs=[],
        tasks={},
        output={},
        ledger=(site.directory / "ledger").read_text().splitlines(),
        cancelled=submitters.cancelled,
        supervisor_kills=[],
        orphans=orphans,
        refused=submitters.refused,
    )
    with site.client() as client:
        evidence.jobs = [job["id"] for job in client.pages(f"/api/v1/jobs?limit={PAGE}")]
        for submit in submitters.submits:
            for task_id in (task_id for ids in submit.names.values() for task_id in ids):
                _collect_task(client, evidence, task_id)
    return evidence


def _collect_task(client: Client, evidence: Evidence, task_id: str) -> None:
    answer = client.settle("GET", f"/api/v1/tasks/{task_id}")
    if answer.status != 200:
        evidence.refused.append(f"task {task_id}: {answer.status}")
        return
    task = answer.json()
    evidence.tasks[task_id] = task
    for attempt in task["attempts"]:
        _await_logs(client, attempt, task_id)
        path = f"/api/v1/tasks/{task_id}/logs?attempt={attempt['n']}&stream="
        output = [client.settle("GET", path + name).body.decode() for name in ("out", "err")]
        evidence.output[oracle.key_of(task, attempt)] = (output[0], output[1])


def _await_logs(client: Client, attempt: dict[str, object], task_id: str) -> None:
    """A task may be over a moment before its last bytes are stored."""
    deadline = time.monotonic() + 30.0
    while not attempt["logs_complete"] and time.monotonic() < deadline:
        time.sleep(0.2)
        with suppress(StopIteration):
            now = client.get(f"/api/v1/tasks/{task_id}")["attempts"]
            attempt |= next(each for each in now if each["n"] == attempt["n"])
