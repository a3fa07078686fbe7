"""The server alone: agents that run nothing, and many tasks that are stored, wait, or hang together."""

import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

from bench import floors, measure, noop, peers, subject
from bench.measure import Figure, figure
from bench.rows.size import Size
from bench.table import Beside, Budget, Row

TRUE: Final = {"command": "true"}
BATCH: Final = 1_000  # tasks a request, where the request is not what is measured
ROUND: Final = 2_000  # tasks of one reading of the CPU
LOOK_S: Final = 0.02  # so rarely that looking costs nothing
SETTLE_S: Final = 3.0  # what follows an answer at leisure is over
HOPS: Final = 300
PENDING_ROUNDS: Final = 3
STUCK_S: Final = 60.0
NEEDS: Final = 3  # of each task of the DAG
LAYER: Final = 1_000  # its width


class Spent(NamedTuple):
    wall_s: float
    submit_s: float
    server_s: float
    postgres_s: float


def noop_rows(size: Size) -> Iterator[Row]:
    with subject.styx(agents=0) as styx, noop.fleet(styx.url) as fleet:
        _run(styx, fleet, BATCH)  # warm
        rounds = [_run(styx, fleet, size.tasks) for _ in range(size.few)]
        floor = floors.unnest_cost(styx.database_url, max(1, size.tasks // BATCH), BATCH)
    floor_tasks = max(1, size.tasks // BATCH) * BATCH
    yield Row(
        "rate",
        f"no-op agent: {size.tasks:,} tasks, {BATCH:,} a request, submit to finished",
        "tasks/s",
        figure(size.tasks / spent.wall_s for spent in rounds),
        Budget(15_000, least=True),
        (Beside("unnest of as many rows, once", floor_tasks / floor.wall_s),),
        f"submit alone {size.tasks / figure(s.submit_s for s in rounds).value:,.0f}/s",
    )
    postgres = figure((s.postgres_s for s in rounds), 1e6 / size.tasks)
    yield Row(
        "cpu",
        "… CPU of the server a task",
        "µs",
        figure((s.server_s for s in rounds), 1e6 / size.tasks),
        Budget(60),
        (Beside("unnest of one row, once", 1e6 * floor.cpu_s / floor_tasks),),
        f"Postgres {postgres}",
    )


def flat(size: Size) -> Iterator[Row]:
    """CPU a task while ever more are stored, then the boot of a server that has all of them."""
    with tempfile.TemporaryDirectory(prefix="styx-bench-") as home:
        styx = subject.Styx(Path(home))
        try:
            with noop.fleet(styx.url) as fleet:
                yield from _flat(styx, fleet, size)
            styx.client.post("/api/v1/jobs", _array(size.many))
        finally:
            styx.close()
        yield _boot(Path(home), size)


def _flat(styx: subject.Styx, fleet: noop.Fleet, size: Size) -> Iterator[Row]:
    _run(styx, fleet, BATCH)
    first, stored = _rounds(styx, fleet), BATCH
    yield Row("first", f"server CPU a task, {stored:,} tasks stored", "µs", first, Budget(60))
    for target in sorted({t for t in (10_000, 100_000) if t < size.million} | {size.million}):
        stored += 5 * ROUND
        while stored < target:
            part = min(100_000, target - stored)
            _finish(styx, fleet, _array(part), part)
            stored += part
        yield Row(
            f"{target}",
            f"… {target:,} tasks stored",
            "µs",
            _rounds(styx, fleet),
            Budget(60),
            (Beside("with 1,000 stored", first.value, Budget(1.15)),),
        )


def _rounds(styx: subject.Styx, fleet: noop.Fleet) -> Figure:
    return figure((_run(styx, fleet, ROUND).server_s for _ in range(5)), 1e6 / ROUND)


def _boot(home: Path, size: Size) -> Row:
    styx = subject.Styx(home, until="/readyz")
    try:
        server, postgres = (measure.pss_mib(p) for p in (styx.server_pids, styx.postgres_pids))
    finally:
        styx.close()
    return Row(
        "boot",
        f"boot to ready with {size.million:,} tasks stored and {size.many:,} live",
        "s",
        figure([styx.start_s]),
        Budget(5),
        note=f"server {server:.0f} MiB, Postgres {postgres:.0f}",
    )


def pending(size: Size) -> Iterator[Row]:
    """Submitted in batches, each a job; nothing runs them. A server of its own for each reading."""
    requests = max(1, size.many // BATCH)
    tasks = requests * BATCH
    taken: list[tuple[float, float, float, float]] = []
    beside: tuple[Beside, ...] = ()
    for _ in range(PENDING_ROUNDS):
        with subject.styx(agents=0) as styx:
            taken.append(_pend(styx, requests))
            beside = beside or peers.each("pending", tasks, 1, 1, styx.where)
    walls_s, grown_mib, floors_s, late_s = zip(*taken, strict=True)
    yield Row(
        "submit",
        f"{tasks:,} tasks, {BATCH:,} a request, pending: all submitted",
        "s",
        figure(walls_s),
        Budget(3 * tasks / 100_000),
        (Beside("unnest of as many rows", median(floors_s)), *beside),
        f"/health meanwhile: longest {1e3 * max(late_s):.0f} ms",
    )
    yield Row(
        "memory",
        "… grown by, server",
        "MiB",
        figure(grown_mib),
        Budget(60 * tasks / 100_000),
        note=f"{median(grown_mib) * 2**20 / tasks:,.0f} bytes a task",
    )


def _pend(styx: subject.Styx, requests: int) -> tuple[float, float, float, float]:
    """Seconds, MiB that the server grew by, seconds of the floor, and how late /health was at most."""
    batch = json.dumps([TRUE | {"name": f"t{n}"} for n in range(BATCH)]).encode()
    styx.client.post("/api/v1/tasks", batch)
    before_mib = measure.pss_mib(styx.server_pids)
    with subject.Watcher(styx.port) as watcher:
        started = time.perf_counter()
        for _ in range(requests):
            styx.client.post("/api/v1/tasks", batch)
        wall_s = time.perf_counter() - started
    time.sleep(SETTLE_S)
    grown_mib = measure.pss_mib(styx.server_pids) - before_mib
    floor = floors.unnest_cost(styx.database_url, requests, BATCH)
    return wall_s, grown_mib, floor.wall_s, max(watcher.taken_s, default=0.0)


def backlog(size: Size) -> Iterator[Row]:
    """One array far larger than what runs. Its scheduling latency is that of an agent of one slot: from
    the end of a task, as it is sent, to the next assignment.
    """
    with subject.styx(agents=0) as styx, noop.fleet(styx.url, slots=1) as fleet:
        _finish(styx, fleet, _array(HOPS), HOPS)  # warm
        styx.client.post("/api/v1/jobs", _array(HOPS + HOPS // 10))
        alone_s = _hop_s(fleet)
        before_mib = measure.pss_mib(styx.server_pids)
        with subject.Watcher(styx.port) as watcher:
            started = time.perf_counter()
            styx.client.post("/api/v1/jobs", _array(size.million))
            accepted_s = time.perf_counter() - started
        time.sleep(SETTLE_S)
        grown_mib = measure.pss_mib(styx.server_pids) - before_mib
        behind_s = _hop_s(fleet)
    yield Row(
        "memory",
        f"backlog of {size.million:,} tasks, one array: server grown by",
        "MiB",
        figure([grown_mib]),
        Budget(250 * size.million / 1_000_000),
        note=f"{grown_mib * 2**20 / size.million:,.0f} bytes a task",
    )
    yield Row("accepted", "… accepted in", "s", figure([accepted_s]), note=_lag(watcher))
    yield Row(
        "latency",
        "… an end to the next assignment, p50",
        "ms",
        figure([1e3 * behind_s]),
        None,
        (Beside("without a backlog", 1e3 * alone_s, Budget(1.2)),),
    )


def dag(size: Size) -> Iterator[Row]:
    body, edges = _graph(size.many)
    with subject.styx(agents=0) as styx, noop.fleet(styx.url) as fleet:
        _run(styx, fleet, BATCH)
        before_mib = measure.pss_mib(styx.server_pids)
        with subject.Watcher(styx.port) as watcher:
            started = time.perf_counter()
            styx.client.post("/api/v1/jobs", body)
            accepted_s = time.perf_counter() - started
        grown_mib = measure.pss_mib(styx.server_pids) - before_mib
        with subject.Watcher(styx.port) as running:
            _until(fleet, size.many)
            completed_s = time.perf_counter() - started
    yield Row(
        "accepted",
        f"DAG of {size.many:,} tasks and {edges:,} edges: accepted in",
        "s",
        figure([accepted_s]),
        Budget(5 * size.many / 100_000),
        note=f"server grown by {grown_mib:.0f} MiB",
    )
    for name, seen in (("lag", watcher), ("lag-running", running)):
        yield Row(
            name,
            f"… /health {'meanwhile' if seen is watcher else 'while it runs'}, longest",
            "ms",
            figure([1e3 * max(seen.taken_s, default=0.0)]),
            Budget(100) if seen is watcher else None,
            note=f"p99 {1e3 * measure.percentile(seen.taken_s or [0.0], 0.99):.0f} ms",
        )
    yield Row(
        "completed", "… completed by a no-op agent", "s", figure([completed_s]),
        note=f"{size.many / completed_s:,.0f} tasks/s",
    )  # fmt: skip


def _run(styx: subject.Styx, fleet: noop.Fleet, tasks: int) -> Spent:
    """Submit in batches and see them finished."""
    per = min(BATCH, tasks)
    batch = json.dumps([TRUE | {"name": f"t{n}"} for n in range(per)]).encode()
    groups = (styx.server_pids, styx.postgres_pids)
    before = [measure.cpu_s(pids) for pids in groups]
    started = time.perf_counter()
    for _ in range(tasks // per):
        styx.client.post("/api/v1/tasks", batch)
    submit_s = time.perf_counter() - started
    _until(fleet, tasks // per * per)
    wall_s = time.perf_counter() - started
    server_s, postgres_s = (
        measure.cpu_s(pids) - was for pids, was in zip(groups, before, strict=True)
    )
    return Spent(wall_s, submit_s, server_s, postgres_s)


def _finish(styx: subject.Styx, fleet: noop.Fleet, body: bytes, tasks: int) -> None:
    styx.client.post("/api/v1/jobs", body)
    _until(fleet, tasks)


def _until(fleet: noop.Fleet, tasks: int) -> None:
    """Until so many more are over. Raises: RuntimeError, once nothing has moved for a minute."""
    over, moved_at = 0, time.monotonic()
    while over < tasks:
        done = fleet.done()
        if done.reconnects:
            raise RuntimeError(f"the server ended {done.reconnects} sessions of its agents")
        over += done.tasks
        if done.tasks:
            moved_at = time.monotonic()
        elif time.monotonic() - moved_at > STUCK_S:
            raise RuntimeError(f"{over:,} of {tasks:,} tasks are over, and nothing moves")
        time.sleep(LOOK_S)


def _hop_s(fleet: noop.Fleet) -> float:
    """Median of what the next `HOPS` tasks take."""
    fleet.done()
    hops_s: list[float] = []
    moved_at = time.monotonic()
    while len(hops_s) < HOPS:
        time.sleep(LOOK_S)
        seen = fleet.done().hops_s
        hops_s += seen
        if seen:
            moved_at = time.monotonic()
        elif time.monotonic() - moved_at > STUCK_S:
            raise RuntimeError("the backlog does not move")
    return median(hops_s)


def _array(tasks: int) -> bytes:
    return json.dumps({"tasks": [TRUE | {"name": "many", "array": tasks}]}).encode()


def _graph(tasks: int) -> tuple[bytes, int]:
    """Layers; each task needs `NEEDS` neighbours of the layer above."""
    width = min(LAYER, max(NEEDS, tasks // 10))
    listed: list[dict[str, object]] = []
    for number in range(tasks):
        needs: object = []
        if number >= width:
            above, place = divmod(number - width, width)
            needs = [f"t{above * width + (place + step) % width}" for step in range(NEEDS)]
        listed.append({**TRUE, "name": f"t{number}", "needs": needs})
    return json.dumps({"tasks": listed}).encode(), NEEDS * (tasks - width)


def _lag(watcher: subject.Watcher) -> str:
    longest_ms = 1e3 * max(watcher.taken_s, default=0.0)
    return f"/health meanwhile: longest {longest_ms:.0f} ms"
