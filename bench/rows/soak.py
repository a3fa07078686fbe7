"""Work that does not end: what a server and an agent have grown by, once their bounded memories are full."""

import json
import time
from collections.abc import Iterator
from statistics import median
from typing import Final

from bench import measure, subject
from bench.measure import figure
from bench.rows.size import Size
from bench.table import Budget, Row

TASKS: Final = 50  # of a round: an array, and two that need each other
PAUSE_S: Final = 0.5  # between two rounds: it is not the rate that counts
LOOK_S: Final = 0.02
ROUND_S: Final = 60.0
GROWN_MIB: Final = 2.0
JOB: Final = json.dumps(
    {
        "name": "soak",
        "tasks": {
            "many": {"command": "echo", "args": ["hi"], "array": TASKS - 2},
            "first": {"run": "echo hi >&2; exit 0", "labels": {"kind": "soak"}},
            "then": {"command": "true", "needs": ["first"]},
        },
    }
).encode()


def soak(size: Size) -> Iterator[Row]:
    server: list[float] = []
    agent: list[float] = []
    rounds = 0
    with subject.styx() as styx:
        until = time.perf_counter() + size.soak_s
        while time.perf_counter() < until:
            _round(styx)
            rounds += 1
            server.append(measure.pss_mib(styx.server_pids))
            agent.append(measure.pss_mib(styx.link_pids))
            time.sleep(PAUSE_S)
    for name, readings in (("server", server), ("agent", agent)):
        middle, end = _third(readings, 1), _third(readings, 2)
        yield Row(
            name,
            f"{size.soak_s // 60:,} minutes of work: {name} grown by, from the second third to the last",
            "MiB",
            figure([end - middle]),
            Budget(GROWN_MIB),
            note=f"{readings[0]:.1f} at first, then {middle:.1f} and {end:.1f};"
            f" {rounds * TASKS:,} tasks in {rounds:,} jobs",
        )


def _round(styx: subject.Styx) -> None:
    """Raises: RuntimeError, if it does not end as it should."""
    job = styx.client.post("/api/v1/jobs", JOB)["job_id"]
    until = time.perf_counter() + ROUND_S
    while (state := styx.client.get(f"/api/v1/jobs/{job}")["status"]) == "running":
        if time.perf_counter() > until:
            raise RuntimeError(f"job {job} does not end")
        time.sleep(LOOK_S)
    if state != "succeeded":
        raise RuntimeError(f"job {job} has {state}")
    for path in ("tasks?limit=20", "jobs?limit=20", f"tasks?job={job}&status=succeeded", "agents"):
        styx.client.get(f"/api/v1/{path}")


def _third(readings: list[float], number: int) -> float:
    length = max(1, len(readings) // 3)
    return median(readings[number * length : (number + 1) * length] or readings)
