"""The server alone: agents that run nothing, and many tasks that are stored, wait, or hang together."""

import json
import tempfile
import time
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

from bench import floors, measure, noop, peers, subject
from bench.measure import figure
from bench.rows.size import Size
from bench.table import Beside, Budget, Row

TRUE: Final = {"command": "true"}
BATCH: Final = 1_000  # tasks a request, where the request is not what is measured
ROUND: Final = 2_000  # tasks of one reading of the CPU
LOOK_S: Final = 0.02  # so rarely that looking costs nothing
SETTLE_S: Final = 3.0  # what follows an answer at leisure is over
HOPS: Final = 100  # of a reading, which is their median
DAGS: Final = 3  # readings: each takes a minute
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
        rounds: list[Spent] = []
        floor: list[measure.Cost] = []
        for _ in range(size.few):
            rounds.append(_run(styx, fleet, size.tasks))
            floor.append(_unnest(styx, size.tasks))
    yield Row(
        "rate",
        f"no-op agent: {size.tasks:,} tasks, {BATCH:,} a request, submit to finished",
        "tasks/s",
        figure(size.tasks / spent.wall_s for spent in rounds),
        Budget(15_000, least=True),
        (Beside("unnest of as many rows, once", figure(size.tasks / c.wall_s for c in floor)),),
        f"submit alone {size.tasks / figure(s.submit_s for s in rounds).value:,.0f}/s",
    )
    postgres = figure((s.postgres_s for s in rounds), 1e6 / size.tasks)
    yield Row(
        "cpu",
        "… CPU of the server a task",
        "µs",
        figure((s.server_s for s in rounds), 1e6 / size.tasks),
        Budget(60),
        (Beside("unnest of one row, once", figure((c.cpu_s for c in floor), 1e6 / size.tasks)),),
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
    first, floor = measure.in_turn(
        size.few, lambda: _cpu_s(styx, fleet), lambda: _unnest(styx, ROUND).cpu_s
    )
    yield Row(
        "first",
        f"server CPU a task, {BATCH:,} tasks stored",
        "µs",
        figure(first, 1e6 / ROUND),
        Budget(60),
        (Beside("unnest of one row", figure(floor, 1e6 / ROUND)),),
    )
    stored = BATCH + size.few * ROUND
    for target in sorted({t for t in (10_000, 100_000) if t < size.million} | {size.million}):
        while stored < target:
            part = min(100_000, target - stored)
            _finish(styx, fleet, _array(part), part)
            stored += part
        yield _flat_at(styx, fleet, target, size)
        stored += size.few * ROUND


def _flat_at(styx: subject.Styx, fleet: noop.Fleet, target: int, size: Size) -> Row:
    """In turn with a server that has few."""
    with subject.styx(agents=0) as small, noop.fleet(small.url) as beside:
        _run(small, beside, BATCH)
        many, few = measure.in_turn(
            size.few, lambda: _cpu_s(styx, fleet), lambda: _cpu_s(small, beside)
        )
    return Row(
        f"{target}",
        f"… {target:,} tasks stored",
        "µs",
        figure(many, 1e6 / ROUND),
        Budget(60),
        (Beside("with 1,000 stored", figure(few, 1e6 / ROUND), Budget(1.15)),),
    )


def _cpu_s(styx: subject.Styx, fleet: noop.Fleet) -> float:
    return _run(styx, fleet, ROUND).server_s


def _unnest(styx: subject.Styx, tasks: int) -> measure.Cost:
    return floors.unnest_cost(styx.database_url, max(1, tasks // BATCH), min(BATCH, tasks))


def _boot(home: Path, size: Size) -> Row:
    starts_s: list[float] = []
    memory_mib: list[float] = []
    for _ in range(size.few):
        styx = subject.Styx(home, until="/readyz")
        starts_s.append(styx.start_s)
        memory_mib = [measure.pss_mib(pids) for pids in (styx.server_pids, styx.postgres_pids)]
        styx.close()
    return Row(
        "boot",
        f"boot to ready with {size.million:,} tasks stored and {size.many:,} live",
        "s",
        figure(starts_s),
        Budget(5),
        note=f"server and Postgres {' and '.join(f'{mib:.0f}' for mib in memory_mib)} MiB",
    )


def pending(size: Size) -> Iterator[Row]:
    """Submitted in batches, each a job; nothing runs them. A server of its own for each reading."""
    requests = max(1, size.many // BATCH)
    tasks = requests * BATCH
    taken: list[tuple[float, float, float, float]] = []
    with (
        subject.styx(agents=0) as host,  # of Procrastinate's database
        peers.at("pending", tasks, where=host.where) as others,
    ):
        for _ in range(size.few):
            with subject.styx(agents=0) as styx:
                taken.append(_pend(styx, requests))
            others.read()
    walls_s, grown_mib, floors_s, late_s = zip(*taken, strict=True)
    yield Row(
        "submit",
        f"{tasks:,} tasks, {BATCH:,} a request, pending: all submitted",
        "s",
        figure(walls_s),
        Budget(3 * tasks / 100_000),
        (
            Beside("unnest of as many rows", figure(floors_s)),
            *others.besides(lambda cost: cost.wall_s),
        ),
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
    floor = _unnest(styx, requests * BATCH)
    return wall_s, grown_mib, floor.wall_s, max(watcher.taken_s, default=0.0)


def backlog(size: Size) -> Iterator[Row]:
    """One array far larger than what runs. Its scheduling latency is that of an agent of one slot, from the
    end of a task, as it is sent, to the next assignment, in turn with a server that has no such array.
    """
    with (
        subject.styx(agents=0) as styx,
        noop.fleet(styx.url, slots=1) as fleet,
        subject.styx(agents=0) as empty,
        noop.fleet(empty.url, slots=1) as beside,
    ):
        for server, its in ((styx, fleet), (empty, beside)):
            _finish(server, its, _array(HOPS), HOPS)  # warm
            its.hold()
        before_mib = measure.pss_mib(styx.server_pids)
        with subject.Watcher(styx.port) as watcher:
            accepted_s = measure.wall_s(
                lambda: styx.client.post("/api/v1/jobs", _array(size.million))
            )
        time.sleep(SETTLE_S)
        grown_mib = measure.pss_mib(styx.server_pids) - before_mib

        def alone() -> float:
            empty.client.post("/api/v1/jobs", _array(2 * HOPS))
            return _hop_s(beside)

        behind_s, alone_s = measure.in_turn(size.repeats, lambda: _hop_s(fleet), alone)
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
        figure(behind_s, 1e3),
        None,
        (Beside("without a backlog", figure(alone_s, 1e3), Budget(1.2)),),
    )


def dag(size: Size) -> Iterator[Row]:
    """On a server of its own for each reading."""
    body, edges = _graph(size.many)
    rounds = [_hang_together(body, size.many) for _ in range(DAGS)]
    yield Row(
        "accepted",
        f"DAG of {size.many:,} tasks and {edges:,} edges: accepted in",
        "s",
        figure(done.accepted_s for done in rounds),
        Budget(5 * size.many / 100_000),
        (Beside("unnest of as many rows as tasks", figure(done.floor_s for done in rounds)),),
        f"server grown by {median(done.grown_mib for done in rounds):.0f} MiB",
    )
    for name, what, seen in (
        ("lag", "meanwhile", [done.accepting_s for done in rounds]),
        ("lag-running", "while it runs", [done.running_s for done in rounds]),
    ):
        yield Row(
            name,
            f"… /health {what}, longest",
            "ms",
            figure(map(max, seen), 1e3),
            Budget(100) if name == "lag" else None,
            note=f"p99 {1e3 * measure.percentile(chain.from_iterable(seen), 0.99):.0f} ms",
        )
    completed = figure(done.completed_s for done in rounds)
    yield Row(
        "completed", "… completed by a no-op agent", "s", completed,
        note=f"{size.many / completed.value:,.0f} tasks/s",
    )  # fmt: skip


class Hung(NamedTuple):
    accepted_s: float
    completed_s: float
    floor_s: float
    grown_mib: float
    accepting_s: list[float]  # what /health took meanwhile
    running_s: list[float]


def _hang_together(body: bytes, tasks: int) -> Hung:
    with subject.styx(agents=0) as styx, noop.fleet(styx.url) as fleet:
        _run(styx, fleet, BATCH)
        floor_s = _unnest(styx, tasks).wall_s
        before_mib = measure.pss_mib(styx.server_pids)
        started = time.perf_counter()
        with subject.Watcher(styx.port) as accepting:
            accepted_s = measure.wall_s(lambda: styx.client.post("/api/v1/jobs", body))
        grown_mib = measure.pss_mib(styx.server_pids) - before_mib
        with subject.Watcher(styx.port) as running:
            _until(fleet, tasks)
        completed_s = time.perf_counter() - started
    return Hung(
        accepted_s, completed_s, floor_s, grown_mib,
        accepting.taken_s or [0.0], running.taken_s or [0.0],
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
    """Median of what the next `HOPS` tasks take; then it holds the next one."""
    fleet.go()
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
    fleet.hold()
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
