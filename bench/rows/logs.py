"""A task's output, from its process to the store and to a reader."""

import http.client
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Final

from bench import floors, measure, subject
from bench.measure import figure, percentile
from bench.rows.size import Size
from bench.table import Beside, Budget, Row

LINES: Final = 100  # of the task whose lines are followed
EVERY_S: Final = 0.05
LOOK_S: Final = 0.01
STORED_S: Final = 120.0
CHATTY: Final = (
    "import time\n"
    f"for _ in range({LINES}):\n    print(time.time(), flush=True)\n    time.sleep({EVERY_S})\n"
)


def logs(size: Size) -> Iterator[Row]:
    with subject.styx() as styx, tempfile.TemporaryDirectory() as directory:
        _flood(styx, 1)  # warm
        taken_s, floor_s = measure.in_turn(
            size.few,
            lambda: _flood(styx, size.log_mib),
            lambda: measure.wall_s(lambda: floors.copy(directory, size.log_mib)),
        )
        late_s = _follow(styx)
    megabytes = size.log_mib * 1.048576
    yield Row(
        "throughput",
        f"output of one task, {size.log_mib} MiB, from its start to stored",
        "MB/s",
        figure(megabytes / taken for taken in taken_s),
        Budget(100, least=True),
        (
            Beside(
                "written, read and written again, with fsync",
                figure(megabytes / taken for taken in floor_s),
            ),
        ),
    )
    yield Row(
        "follow",
        f"a line printed to a follower's eyes, p50 of {len(late_s)}",
        "ms",
        figure(late_s, 1e3),
        Budget(50),
        note=f"p99 {1e3 * percentile(late_s, 0.99):.0f} ms",
    )


def _flood(styx: subject.Styx, mib: int) -> float:
    """Seconds until it is over and its last byte is stored. Raises: RuntimeError, if bytes are missing."""
    task = {"command": "/usr/bin/head", "args": ["-c", str(mib << 20), "/dev/zero"]}
    started = time.perf_counter()
    accepted = styx.client.post("/api/v1/tasks", json.dumps(task).encode())
    while time.perf_counter() - started < STORED_S:
        found = styx.client.get(f"/api/v1/tasks/{accepted['task_id']}")
        attempts = found["attempts"]
        if attempts and attempts[-1]["logs_complete"]:
            if attempts[-1]["out_bytes"] != mib << 20:
                raise RuntimeError(f"{attempts[-1]['out_bytes']} bytes of {mib} MiB")
            return time.perf_counter() - started
        time.sleep(LOOK_S)
    raise RuntimeError(f"{mib} MiB are not stored after {STORED_S:.0f} s")


def _follow(styx: subject.Styx) -> list[float]:
    """How old each line is when it arrives."""
    task = {"command": sys.executable, "args": ["-c", CHATTY]}
    accepted = styx.client.post("/api/v1/tasks", json.dumps(task).encode())
    connection = http.client.HTTPConnection("127.0.0.1", styx.port, timeout=60)
    try:
        connection.request("GET", f"/api/v1/tasks/{accepted['task_id']}/logs?follow=true")
        answer = connection.getresponse()
        late_s: list[float] = []
        while line := answer.readline():
            late_s.append(time.time() - float(line))
    finally:
        connection.close()
    if len(late_s) != LINES:
        raise RuntimeError(f"{len(late_s)} lines of {LINES} were followed")
    return late_s
