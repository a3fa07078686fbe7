"""Real commands on a real agent of two slots."""

import json
import time
from collections.abc import Iterator
from statistics import median
from typing import Any, Final

from bench import floors, measure, peers, subject
from bench.measure import Cost, figure
from bench.rows.size import Size
from bench.rows.submit import ECHO
from bench.table import Beside, Budget, Row

SLOTS: Final = 2
HOPS: Final = 200
FAN: Final = 2_000
ROUNDS: Final = 3
WATCH_S: Final = 0.1  # so rarely that the watching costs nothing, and is no part of a row's figure


def latency(size: Size) -> Iterator[Row]:
    with subject.styx() as styx:
        _array(styx, 20)  # warm
        feed = subject.Feed(styx.port)
        ours = figure(measure.readings_s(size.repeats, lambda: _one(styx, feed)), 1e3)
        beside = peers.each("one", 1, SLOTS, size.few, styx.where, scale=1e3)
        yield Row(
            "one", "one `echo hi`, submit to finished, idle agent (p50)", "ms", ours,
            Budget(7), beside,
        )  # fmt: skip
        hops = figure(measure.readings_s(size.few, lambda: _chain(styx, feed)), 1e3 / HOPS)
        beside = peers.each("chain", HOPS, SLOTS, 1, styx.where, scale=1e3 / HOPS)
        yield Row("chain", f"chain of {HOPS}: a hop", "ms", hops, Budget(5), beside)
        fans = figure(measure.readings_s(size.few, lambda: _fan(styx, feed, size.fan)))
        beside = peers.each("fan", size.fan, SLOTS, 1, styx.where)
        yield Row("fan", f"1 → {size.fan:,} → 1", "s", fans, Budget(2.5 * size.fan / FAN), beside)
        feed.close()


def throughput(size: Size) -> Iterator[Row]:
    tasks = size.tasks
    rates: list[float] = []
    loops: list[Cost] = []
    used: list[list[float]] = []  # of server, Postgres, agent and tasks
    with subject.styx() as styx:
        _array(styx, 20)
        groups = (styx.server_pids, styx.postgres_pids, styx.agent_pids)
        for _ in range(ROUNDS):
            before = [measure.cpu_s(pids) for pids in groups]
            started = time.perf_counter()
            _array(styx, tasks)
            rates.append(tasks / (time.perf_counter() - started))
            after = [measure.cpu_s(pids) for pids in groups]
            used.append([1e3 * (b - a) / tasks for a, b in zip(before, after, strict=True)])
            loops.append(floors.spawn_loop(tasks, SLOTS))
        lines = floors.xargs(tasks, SLOTS)
        found = peers.costs("array", tasks, SLOTS, styx.where)
    yield Row(
        "rate",
        f"{tasks:,} × `echo hi`, output kept, durable, one agent of {SLOTS} slots",
        "tasks/s",
        figure(rates),
        None,
        (
            Beside(
                "bare loop", tasks / median(loop.wall_s for loop in loops), Budget(0.6, least=True)
            ),
            Beside(f"xargs -P{SLOTS}", tasks / lines.wall_s),
            *peers.besides(
                found,
                lambda cost: tasks / cost.wall_s,
                {"HyperQueue": Budget(1.8, least=True)},
            ),
        ),
    )
    server, postgres, agent = (median(part) for part in zip(*used, strict=True))
    yield Row(
        "cpu",
        "… CPU a task, everything included",
        "ms",
        figure(map(sum, used)),
        Budget(1.7),
        (
            Beside("bare loop", 1e3 * median(loop.cpu_s for loop in loops) / tasks),
            *peers.besides(found, lambda cost: 1e3 * cost.cpu_s / tasks),
        ),
        f"server {server:.2f}, Postgres {postgres:.2f}, agent and tasks {agent:.2f}",
    )


def _one(styx: subject.Styx, feed: subject.Feed) -> None:
    accepted = styx.client.post("/api/v1/tasks", json.dumps(ECHO).encode())
    _must_succeed(feed.until_over(accepted["task_id"]))


def _chain(styx: subject.Styx, feed: subject.Feed) -> None:
    tasks = [ECHO | {"name": f"t{n}", "needs": [f"t{n - 1}"] if n else []} for n in range(HOPS)]
    _job(styx, feed, tasks)


def _fan(styx: subject.Styx, feed: subject.Feed, width: int) -> None:
    middle = ECHO | {"name": "middle", "array": width, "needs": ["first"]}
    last = ECHO | {"name": "last", "needs": ["middle"]}
    _job(styx, feed, [ECHO | {"name": "first"}, middle, last])


def _job(styx: subject.Styx, feed: subject.Feed, tasks: list[Any]) -> None:
    accepted = styx.client.post("/api/v1/jobs", json.dumps({"tasks": tasks}).encode())
    _must_succeed(feed.until_over(accepted["job_id"]))


def _array(styx: subject.Styx, tasks: int) -> None:
    body = {"tasks": [ECHO | {"name": "many", "array": tasks}]}
    accepted = styx.client.post("/api/v1/jobs", json.dumps(body).encode())
    while (status := styx.client.get(f"/api/v1/jobs/{accepted['job_id']}")["status"]) == "running":
        time.sleep(WATCH_S)
    _must_succeed(status)


def _must_succeed(status: str) -> None:
    if status != "succeeded":
        raise RuntimeError(f"it {status}")
