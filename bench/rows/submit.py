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
ONCE: Final = 25  # requests of a reading, which is their median
ROUNDS: Final = 5


def submit(size: Size) -> Iterator[Row]:
    with subject.styx(agents=0) as styx:
        one = json.dumps(ECHO | {"name": "one"}).encode()
        for _ in range(WARM):
            styx.client.post("/api/v1/tasks", one)
        yield _singles(styx, one, size)
        yield _batches(styx, size)


def _singles(styx: subject.Styx, one: bytes, size: Size) -> Row:
    taken_s: list[float] = []
    seen: list[tuple[float, float, float]] = []
    with (
        floors.Commits(styx.database_url) as commits,
        peers.at("submit", where=styx.where) as others,
    ):
        for _ in range(size.repeats):
            # One after the other: a machine that is restless is so for all three.
            health_s, commit_s, posted_s = measure.in_turn(
                ONCE,
                lambda: measure.wall_s(lambda: styx.client.get("/health")),
                lambda: measure.wall_s(commits.once),
                lambda: measure.wall_s(lambda: styx.client.post("/api/v1/tasks", one)),
            )
            taken_s += posted_s
            seen.append((median(health_s), median(commit_s), median(posted_s)))
            others.read()
    health, commit, posted = (figure(readings, 1e3) for readings in zip(*seen, strict=True))
    floor = figure(map(sum, zip(health.readings, commit.readings, strict=True)))
    return Row(
        "one",
        "submit one task, durable, keep-alive, one after the other (p50)",
        "ms",
        posted,
        Budget(2.0),
        (
            Beside("/health + one commit", floor, Budget(2.0)),
            *others.besides(lambda cost: 1e3 * cost.wall_s),
        ),
        f"of {ONCE} each; /health {health.value:.2f} ms, commit {commit.value:.2f} ms;"
        f" p99 {1e3 * measure.percentile(taken_s, 0.99):.1f} ms",
    )


def _batches(styx: subject.Styx, size: Size) -> Row:
    batch = json.dumps([ECHO | {"name": f"t{n}"} for n in range(BATCH)]).encode()
    groups = (styx.server_pids, styx.postgres_pids)
    tasks = size.repeats * BATCH
    walls_s: list[float] = []

    def post() -> list[float]:
        """CPU seconds of the server and of Postgres."""
        before, started = [measure.cpu_s(pids) for pids in groups], time.perf_counter()
        for _ in range(size.repeats):
            styx.client.post("/api/v1/tasks", batch)
        walls_s.append(time.perf_counter() - started)
        return [measure.cpu_s(pids) - was for pids, was in zip(groups, before, strict=True)]

    def insert() -> list[float]:
        return [floors.unnest_cost(styx.database_url, size.repeats, BATCH).cpu_s]

    used, floor = measure.in_turn(ROUNDS, post, insert)
    return Row(
        "batch",
        f"submit {BATCH} a request: CPU of the server a task",
        "µs",
        figure((server_s for server_s, _ in used), 1e6 / tasks),
        Budget(25),
        (Beside("unnest of one row", figure((cpu_s for (cpu_s,) in floor), 1e6 / tasks)),),
        f"Postgres {figure((s for _, s in used), 1e6 / tasks)} µs;"
        f" {tasks / median(walls_s):,.0f} tasks/s",
    )
