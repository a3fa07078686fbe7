"""What it costs to hand in work: the request's answer is a durable promise."""

import json
import time
from collections.abc import Iterator
from statistics import median
from typing import Final

from bench import floors, measure, peers, subject
from bench.measure import figure
from bench.rows.size import Size
from bench.table import Beside, Budget, Row

ECHO: Final = {"command": "/bin/echo", "args": ["hi"]}
BATCH: Final = 100
WARM: Final = 50
ROUNDS: Final = 5


def submit(size: Size) -> Iterator[Row]:
    with subject.styx(agents=0) as styx:
        one = json.dumps(ECHO | {"name": "one"}).encode()
        for _ in range(WARM):
            styx.client.post("/api/v1/tasks", one)
        health_s: list[float] = []
        commit_s: list[float] = []
        taken_s: list[float] = []
        for _ in range(
            ROUNDS
        ):  # side by side, so that a restless machine is restless for all three
            times = size.repeats * 5
            health_s += measure.readings_s(times, lambda: styx.client.get("/health"))
            commit_s += floors.commits_s(styx.database_url, times)
            taken_s += measure.readings_s(times, lambda: styx.client.post("/api/v1/tasks", one))
        floor_ms = [1e3 * median(seen) for seen in (health_s, commit_s)]
        batches = _batches(styx, size)
        yield Row(
            "one",
            "submit one task, durable, keep-alive, one after the other (p50)",
            "ms",
            figure(taken_s, 1e3),
            Budget(2.0),
            (
                Beside("/health + one commit", sum(floor_ms), Budget(2.0)),
                *peers.submits(size.repeats * 5, styx.where),
            ),
            f"/health {floor_ms[0]:.2f} ms, commit {floor_ms[1]:.2f} ms;"
            f" p99 {1e3 * measure.percentile(taken_s, 0.99):.1f} ms",
        )
        yield batches


def _batches(styx: subject.Styx, size: Size) -> Row:
    batch = json.dumps([ECHO | {"name": f"t{n}"} for n in range(BATCH)]).encode()
    groups = (styx.server_pids, styx.postgres_pids)
    readings: list[list[float]] = []
    tasks = size.repeats * BATCH
    started = time.perf_counter()
    for _ in range(ROUNDS):
        before = [measure.cpu_s(pids) for pids in groups]
        for _ in range(size.repeats):
            styx.client.post("/api/v1/tasks", batch)
        readings.append(
            [(measure.cpu_s(pids) - was) / tasks for pids, was in zip(groups, before, strict=True)]
        )
    rate = ROUNDS * tasks / (time.perf_counter() - started)
    floor = floors.unnest_cost(styx.database_url, size.repeats, BATCH)
    return Row(
        "batch",
        f"submit {BATCH} a request: CPU of the server a task",
        "µs",
        figure((server_s for server_s, _ in readings), 1e6),
        Budget(25),
        (Beside("unnest of one row", 1e6 * floor.cpu_s / tasks),),
        f"Postgres {figure((s for _, s in readings), 1e6)} µs; {rate:,.0f} tasks/s",
    )
