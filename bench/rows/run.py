"""Real commands on a real agent of two slots."""

import json
import time
from collections.abc import Callable, Iterator
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
PEER_HOPS: Final = 50  # they take long
PEER_PART: Final = 5
WATCH_S: Final = 0.1  # so rarely that the watching costs nothing, and is no part of a row's figure


def latency(size: Size) -> Iterator[Row]:
    with subject.styx() as styx:
        _array(styx, 20)  # warm
        feed = subject.Feed(styx.port)
        ours, beside = _beside(styx, "one", 1, size.repeats, lambda: _one(styx, feed))
        yield Row(
            "one", "one `echo hi`, submit to finished, idle agent (p50)", "ms",
            figure(ours, 1e3), Budget(7), beside(1e3),
        )  # fmt: skip
        ours, beside = _beside(styx, "chain", PEER_HOPS, size.few, lambda: _chain(styx, feed))
        yield Row(
            "chain", f"chain of {HOPS}: a hop", "ms",
            figure(ours, 1e3 / HOPS), Budget(5), beside(1e3 / PEER_HOPS),
            f"of the peers' chains of {PEER_HOPS}",
        )  # fmt: skip
        ours, beside = _beside(styx, "fan", size.fan, size.few, lambda: _fan(styx, feed, size.fan))
        yield Row(
            "fan", f"1 → {size.fan:,} → 1", "s",
            figure(ours), Budget(2.5 * size.fan / FAN), beside(1),
        )  # fmt: skip
        feed.close()


def _beside(
    styx: subject.Styx, what: str, tasks: int, times: int, act: Callable[[], None]
) -> tuple[list[float], Callable[[float], tuple[Beside, ...]]]:
    """Wall seconds of ours and, by a scale, of the peers at `what`, all in turn."""
    ours: list[float] = []
    with peers.at(what, tasks, SLOTS, styx.where) as others:
        for _ in range(times):
            ours.append(measure.wall_s(act))
            others.read()
    return ours, lambda scale: others.besides(lambda cost: scale * cost.wall_s)


def throughput(size: Size) -> Iterator[Row]:
    tasks = size.tasks
    theirs = max(1, tasks // PEER_PART)
    rates: list[float] = []
    loops: list[Cost] = []
    lines: list[Cost] = []
    used: list[list[float]] = []  # of server, Postgres, agent and tasks
    with subject.styx() as styx, peers.at("array", theirs, SLOTS, styx.where) as others:
        _array(styx, 20)
        groups = (styx.server_pids, styx.postgres_pids, styx.agent_pids)
        for _ in range(size.few):
            before = [measure.cpu_s(pids) for pids in groups]
            rates.append(tasks / measure.wall_s(lambda: _array(styx, tasks)))
            after = [measure.cpu_s(pids) for pids in groups]
            used.append([1e3 * (b - a) / tasks for a, b in zip(before, after, strict=True)])
            loops.append(floors.spawn_loop(tasks, SLOTS))
            lines.append(floors.xargs(tasks, SLOTS))
            others.read()
    yield Row(
        "rate",
        f"{tasks:,} × `echo hi`, output kept, durable, one agent of {SLOTS} slots",
        "tasks/s",
        figure(rates),
        None,
        (
            Beside(
                "bare loop", figure(tasks / loop.wall_s for loop in loops), Budget(0.6, least=True)
            ),
            Beside(f"xargs -P{SLOTS}", figure(tasks / line.wall_s for line in lines)),
            *others.besides(
                lambda cost: theirs / cost.wall_s, {"HyperQueue": Budget(1.8, least=True)}
            ),
        ),
        f"of the peers {theirs:,} a reading",
    )
    server, postgres, agent = (median(part) for part in zip(*used, strict=True))
    yield Row(
        "cpu",
        "… CPU a task, everything included",
        "ms",
        figure(map(sum, used)),
        Budget(1.7),
        (
            Beside("bare loop", figure(1e3 * loop.cpu_s / tasks for loop in loops)),
            *others.besides(lambda cost: 1e3 * cost.cpu_s / theirs),
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
