"""One function per row of the table: what was measured, beside the floor or the peer it is a ratio of.

Every ratio is of figures from the same run on the same machine: the machine cancels out.
"""

import json
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench import floors, measure, peers, subject

SLOTS: Final = 2
WATCH_S: Final = 0.1  # so rarely that the watching costs nothing, and is no part of a row's figure
ECHO: Final = {"command": "/bin/echo", "args": ["hi"]}


@dataclass(frozen=True)
class Row:
    what: str
    figure: str
    ratio: str = ""
    beside: str = ""


@dataclass(frozen=True)
class Size:
    """How much of everything; `--quick` is a tenth."""

    tasks: int
    repeats: int

    @property
    def few(self) -> int:
        """For what takes a second each time."""
        return max(3, self.repeats // 4)


def submitting(size: Size) -> Iterator[Row]:
    with subject.styx(agent=False) as styx:
        one = json.dumps(ECHO | {"name": "one"}).encode()
        for _ in range(50):  # warm
            styx.client.post("/api/v1/tasks", one)
        times = size.repeats * 25
        health_s = measure.median_s(times, lambda: styx.client.get("/health"))
        commit_s = floors.commit_s(styx.database_url, times)
        submit_s = measure.median_s(times, lambda: styx.client.post("/api/v1/tasks", one))
        yield Row(
            "submit one task, durable (p50)",
            _ms(submit_s),
            f"{submit_s / (health_s + commit_s):.2f} ×",
            f"/health {_ms(health_s)} + one commit {_ms(commit_s)}",
        )
        batch = json.dumps([ECHO | {"name": f"t{n}"} for n in range(100)]).encode()
        requests = size.repeats * 5
        before = [measure.cpu_s(pids) for pids in (styx.server_pids, styx.postgres_pids)]
        started = time.perf_counter()
        for _ in range(requests):
            styx.client.post("/api/v1/tasks", batch)
        wall_s = time.perf_counter() - started
        after = [measure.cpu_s(pids) for pids in (styx.server_pids, styx.postgres_pids)]
        server_s, postgres_s = (b - a for a, b in zip(before, after, strict=True))
        tasks = requests * 100
        yield Row(
            f"submit {tasks:,} tasks, 100 a request",
            f"{1e6 * server_s / tasks:.0f} µs of server CPU a task",
            "",
            f"Postgres {1e6 * postgres_s / tasks:.0f} µs; {tasks / wall_s:,.0f} tasks/s",
        )


def running(size: Size) -> Iterator[Row]:
    with subject.styx() as styx:
        _array(styx, 20)  # warm
        feed = subject.Feed(styx.port)
        single_s = measure.median_s(size.repeats, lambda: _one(styx, feed))
        peer_s = _peer_s("chain", 1, size.few)
        yield Row(
            "one task, submitted to finished (p50)", _ms(single_s), *_against(single_s, peer_s)
        )
        hops = 200
        hop_s = measure.median_s(size.few, lambda: _chain(styx, feed, hops)) / hops
        peer_s = _peer_s("chain", hops, 1)
        yield Row(f"chain of {hops}: a hop", _ms(hop_s), *_against(hop_s, peer_s and peer_s / hops))
        feed.close()
        yield from _throughput(styx, size.tasks)


def _throughput(styx: subject.Styx, tasks: int) -> Iterator[Row]:
    groups = (styx.server_pids, styx.postgres_pids, styx.agent_pids)
    before = [measure.cpu_s(pids) for pids in groups]
    started = time.perf_counter()
    _array(styx, tasks)
    wall_s = time.perf_counter() - started
    used = [measure.cpu_s(pids) - was for pids, was in zip(groups, before, strict=True)]
    loop = floors.spawn_loop(tasks, SLOTS)
    lines = floors.xargs(tasks, SLOTS)
    yield Row(
        f"{tasks:,} × `echo hi`, output kept, durable",
        f"{tasks / wall_s:,.0f} tasks/s",
        f"{loop.wall_s / wall_s:.2f} × bare loop",
        f"posix_spawn + pidfd loop {tasks / loop.wall_s:,.0f}/s; xargs -P2 {tasks / lines.wall_s:,.0f}/s",
    )
    server, postgres, agent = (1e3 * s / tasks for s in used)
    yield Row(
        "… CPU a task, everything included",
        f"{sum(used) / tasks * 1e3:.2f} ms",
        f"{sum(used) / loop.cpu_s:.2f} × bare loop",
        f"server {server:.2f}, Postgres {postgres:.2f}, agent and tasks {agent:.2f}; "
        f"bare loop {1e3 * loop.cpu_s / tasks:.2f}",
    )
    if peers.present():
        peer = peers.hyperqueue("array", tasks, SLOTS)
        yield Row(
            "… beside HyperQueue (not durable)",
            f"{peer.wall_s / wall_s:.2f} × its rate",
            f"{sum(used) / peer.cpu_s:.2f} × its CPU",
            f"HyperQueue {tasks / peer.wall_s:,.0f}/s, {1e3 * peer.cpu_s / tasks:.2f} ms",
        )


def memory(size: Size) -> Iterator[Row]:
    del size
    with subject.styx() as styx:
        _array(styx, 1)
        time.sleep(3)  # what an agent and a pool do at first is done
        server, postgres, agent = (
            measure.pss_mib(pids)
            for pids in (styx.server_pids, styx.postgres_pids, styx.agent_pids)
        )
    yield Row(
        "idle server, PSS", f"{server:.0f} MiB", "", f"with its Postgres {server + postgres:.0f}"
    )
    yield Row("idle agent, PSS", f"{agent:.0f} MiB", "", "both halves")


def starting(size: Size) -> Iterator[Row]:
    firsts: list[float] = []
    warms: list[float] = []
    for _ in range(size.few):
        with tempfile.TemporaryDirectory(prefix="styx-bench-") as home:
            for seen in (firsts, warms):
                styx = subject.Styx(Path(home), agent=False)
                seen.append(styx.start_s)
                styx.close()
    bare_s = floors.python_start_s(size.repeats)
    for what, seen in (("first ever (initdb included)", firsts), ("warm", warms)):
        start_s = sorted(seen)[len(seen) // 2]
        yield Row(f"`styx serve` to the first 200, {what}", f"{start_s:.2f} s",
                  f"{start_s / bare_s:.0f} × `python -c pass`")  # fmt: skip


def command_line(size: Size) -> Iterator[Row]:
    bare_s = floors.python_start_s(size.repeats)
    yield Row("`python -c pass`", _ms(bare_s), "1.00 ×")
    with subject.styx(agent=False) as styx:
        for arguments in (("version",), ("--help",), ("status",)):
            taken_s = measure.median_s(
                size.repeats, lambda given=arguments: subject.call(styx.env, given)
            )
            name = " ".join(("styx", *arguments))
            yield Row(f"`{name}`", _ms(taken_s), f"{taken_s / bare_s:.2f} ×")


SECTIONS: Final = {
    "submit": submitting,
    "run": running,
    "memory": memory,
    "start": starting,
    "cli": command_line,
}


def _one(styx: subject.Styx, feed: subject.Feed) -> None:
    accepted = styx.client.post("/api/v1/tasks", json.dumps(ECHO).encode())
    _must_succeed(feed.until_over(accepted["task_id"]))


def _chain(styx: subject.Styx, feed: subject.Feed, hops: int) -> None:
    tasks = [ECHO | {"name": f"t{n}", "needs": [f"t{n - 1}"] if n else []} for n in range(hops)]
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
        sys.exit(f"it {status}")


def _peer_s(what: str, tasks: int, times: int) -> float | None:
    """Median wall seconds, or None where the peer is not installed."""
    if not peers.present():
        return None
    taken = sorted(peers.hyperqueue(what, tasks, SLOTS).wall_s for _ in range(times))
    return taken[len(taken) // 2]


def _against(ours_s: float, theirs_s: float | None) -> tuple[str, str]:
    if theirs_s is None:
        return "", "HyperQueue is not installed"
    return f"{ours_s / theirs_s:.2f} × HyperQueue", f"HyperQueue {_ms(theirs_s)}"


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.1f} ms"
