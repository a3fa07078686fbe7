"""What it takes to be there: memory, and the time of a start."""

import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from statistics import median
from typing import Final

from bench import floors, heartbeat, measure, noop, peers, subject
from bench.measure import figure
from bench.rows.size import Size
from bench.table import Beside, Budget, Row

SETTLE_S: Final = 3.0  # what an agent and a pool do at first is done
ALONE_S: Final = 5.0
BARE: Final = 5  # of a reading, which is their median


def memory(size: Size) -> Iterator[Row]:
    readings: list[tuple[float, float, float]] = []
    for _ in range(size.few):
        with subject.styx() as styx:
            time.sleep(SETTLE_S)
            server, postgres, agent = (
                measure.pss_mib(pids)
                for pids in (styx.server_pids, styx.postgres_pids, styx.agent_pids)
            )
            readings.append((server, server + postgres, agent))
    with peers.at("memory") as others:
        others.read()
    beside = others.besides(lambda cost: cost.wall_s)  # which is memory here
    for name, what, limit, seen in (
        ("server", "idle server, PSS", 75, [r[0] for r in readings]),
        ("postgres", "… with its own Postgres", 95, [r[1] for r in readings]),
        ("agent", "idle agent, both halves, PSS", 22, [r[2] for r in readings]),
    ):
        yield Row(
            name, what, "MiB", figure(seen), Budget(limit), beside if name == "postgres" else ()
        )


def starting(size: Size) -> Iterator[Row]:
    firsts: list[float] = []
    warms: list[float] = []
    bares: list[float] = []
    with peers.at("start") as others:
        for _ in range(size.few):
            with tempfile.TemporaryDirectory(prefix="styx-bench-") as home:
                firsts.append(_start_s(Path(home)))
                bares.append(median(measure.readings_s(BARE, floors.python_start)))
                warms.append(_start_s(Path(home)))
            others.read()
    floor = Beside("`python -c pass`", figure(bares))
    yield Row(
        "warm", "`styx serve` to the first 200, warm", "s", figure(warms), Budget(1.2),
        (floor, *others.besides(lambda cost: cost.wall_s)),
    )  # fmt: skip
    yield Row(
        "first", "`styx serve` to the first 200, first ever, initdb included", "s",
        figure(firsts), Budget(3.5), (floor,),
    )  # fmt: skip


def _start_s(home: Path) -> float:
    styx = subject.Styx(home)
    styx.close()
    return styx.start_s


def idle_agents(size: Size) -> Iterator[Row]:
    """The agents are light ones in a process of their own: it is the server that is measured."""
    with subject.styx(agents=0) as styx:
        time.sleep(SETTLE_S)
        before_mib = measure.pss_mib(styx.server_pids)
        alone = _busy(styx, ALONE_S)
        with noop.fleet(styx.url, agents=size.idle) as fleet:
            time.sleep(SETTLE_S)
            grown_mib = measure.pss_mib(styx.server_pids) - before_mib
            fleet.done()  # who came too early, and had to come again, is not counted
            used = _busy(styx, size.watch_s)
            done = fleet.done()
    part = size.idle / 1_000
    beats = max(1, done.beats)
    floor = heartbeat.cpu_s(beats) / size.watch_s
    yield Row(
        "memory", f"{size.idle:,} connected idle agents: server grown by", "MiB",
        figure([grown_mib]), Budget(60 * part),
        note=f"{1024 * grown_mib / size.idle:.1f} KiB an agent",
    )  # fmt: skip
    yield Row(
        "cpu", "… CPU of the server, of a core", "%", figure([100 * used]), Budget(5 * part),
        (Beside("as many heartbeats in wsproto and msgspec alone", figure([100 * floor])),),
        f"{100 * alone:.2f} % without them;"
        f" {1e6 * size.watch_s * (used - alone) / beats:,.0f} µs a heartbeat,"
        f" {done.beats / size.watch_s:.0f} a second; {done.reconnects} sessions lost",
    )  # fmt: skip


def _busy(styx: subject.Styx, within_s: float) -> float:
    """The part of a core that the server uses."""
    before_s, started = measure.cpu_s(styx.server_pids), time.perf_counter()
    time.sleep(within_s)
    return (measure.cpu_s(styx.server_pids) - before_s) / (time.perf_counter() - started)


def command_line(size: Size) -> Iterator[Row]:
    with subject.styx(agents=0) as styx:
        calls = ("version", "--help", "status")
        bare_s, *taken_s = measure.in_turn(
            size.repeats,
            lambda: measure.wall_s(floors.python_start),
            *(partial(measure.wall_s, partial(subject.call, styx.env, (call,))) for call in calls),
        )
    for call, seen_s in zip(calls, taken_s, strict=True):
        yield Row(
            call.strip("-"), f"`styx {call}`", "ms", figure(seen_s, 1e3),
            beside=(Beside("`python -c pass`", figure(bare_s, 1e3)),),
        )  # fmt: skip
