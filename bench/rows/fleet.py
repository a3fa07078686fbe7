"""Many real processes at once, under many real agents on this machine."""

import contextlib
import json
import time
from collections.abc import Iterator
from statistics import median
from typing import Final

from bench import measure, subject
from bench.measure import figure
from bench.rows.size import Size
from bench.table import Budget, Row
from styx.wire.agent import HEARTBEAT_S

RAMP_S: Final = 300.0
LOOK_S: Final = 0.2
PATHS: Final = ("/api/v1/agents", "/api/v1/jobs?limit=20", "/api/v1/tasks?limit=50")


def running(size: Size) -> Iterator[Row]:
    slots = -(-size.running // size.agents)
    with subject.styx(agents=size.agents, cpus=slots) as styx:
        job, ramp_s = _start(styx, size.running)
        shed_s = _settle(styx)
        late_s, taken_s = _watch(styx, size.watch_s)
        counts = styx.client.get(f"/api/v1/jobs/{job}")["counts"]
        memory_mib = measure.pss_mib(styx.server_pids)
        agents_mib = measure.pss_mib(styx.link_pids) / size.agents
        styx.client.post(f"/api/v1/jobs/{job}/cancel", b"{}")
        started = time.perf_counter()
        while styx.client.get(f"/api/v1/jobs/{job}")["status"] == "running":
            _in_time(started, "the cancel does not end")
        cancel_s = time.perf_counter() - started
    yield Row(
        "all",
        f"{size.running:,} tasks running at once over {size.agents} agents",
        "tasks",
        figure([counts.get("running", 0)]),
        Budget(size.running, least=True),
        note=f"after {ramp_s:.0f} s, lists refused for {shed_s:.0f} more; server {memory_mib:.0f} MiB, an agent's two halves {agents_mib:.0f};"
        f" all cancelled in {cancel_s:.0f} s",
    )
    yield Row(
        "heartbeat", "… a heartbeat is late by, p99", "s",
        figure([measure.percentile(late_s, 0.99)]), Budget(1),
        note=f"p50 {median(late_s):.2f} s of {len(late_s)}",
    )  # fmt: skip
    yield Row(
        "api", "… an answer of the API, p99", "ms",
        figure([1e3 * measure.percentile(taken_s, 0.99)]), Budget(100),
        note=f"p50 {1e3 * median(taken_s):.1f} ms of {len(taken_s)}: agents, jobs, tasks in turn",
    )  # fmt: skip


def _start(styx: subject.Styx, tasks: int) -> tuple[str, float]:
    """A job of sleepers, all of which run, and how long that took."""
    sleep = {"name": "sleep", "command": "/bin/sleep", "args": ["3600"], "array": tasks}
    started = time.perf_counter()
    job = styx.client.post("/api/v1/jobs", json.dumps({"tasks": [sleep]}).encode())["job_id"]
    while styx.client.get(f"/api/v1/jobs/{job}")["counts"].get("running", 0) < tasks:
        if time.perf_counter() - started > RAMP_S:
            break  # the row says how many did
        time.sleep(LOOK_S)
    return job, time.perf_counter() - started


def _settle(styx: subject.Styx) -> float:
    """Seconds until lists are given again: a server that was late for long, as its agents took all of the
    machine, first sees to tasks and agents.
    """
    started = time.perf_counter()
    while True:
        with contextlib.suppress(RuntimeError):  # 503
            styx.client.get(PATHS[0])
            return time.perf_counter() - started
        _in_time(started, "the server gives no lists")


def _watch(styx: subject.Styx, watch_s: float) -> tuple[list[float], list[float]]:
    """By how much heartbeats were late, and what answers took.

    An agent's silence grows until it is heard again: what it had grown to, above the period, was late.
    """
    late_s: list[float] = []
    taken_s: list[float] = []
    silent_s: dict[str, float] = {}
    until = time.perf_counter() + watch_s
    while time.perf_counter() < until:
        for path in PATHS:
            started = time.perf_counter()
            answer = styx.client.get(path)
            taken_s.append(time.perf_counter() - started)
            if path == PATHS[0]:
                for agent in answer:
                    now_s = agent["last_seen_s"]
                    now_s = watch_s if now_s is None else now_s
                    before_s = silent_s.get(agent["id"], 0.0)
                    if now_s < before_s:
                        late_s.append(max(0.0, before_s - HEARTBEAT_S))
                    silent_s[agent["id"]] = now_s
        time.sleep(LOOK_S)
    late_s += [max(0.0, silent - HEARTBEAT_S) for silent in silent_s.values()]
    return late_s, taken_s


def _in_time(started: float, what: str) -> None:
    if time.perf_counter() - started > RAMP_S:
        raise RuntimeError(what)
    time.sleep(LOOK_S)
