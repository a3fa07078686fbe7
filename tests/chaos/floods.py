"""Tasks that say too much: one line without an end, many streams at full speed, disks that are full."""

import os
import subprocess
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from tests.chaos.client import Client
from tests.chaos.report import Report
from tests.chaos.rig import Agent, Rig
from tests.chaos.vitals import Vitals
from tests.support.site import until

MIB: Final = 1 << 20
LONG_S: Final = 600.0  # only a hang takes so long
SMALL_DISK: Final = "24m"
LARGE_DISK: Final = "512m"
FLOOD_BYTES: Final = 64 * MIB  # more than the small disk
HOLD_S: Final = 5.0
LINE: Final = "head -c $BYTES /dev/zero | tr '\\0' x"
STREAM: Final = "for ((i = 0; i < 10 * SECONDS_LONG; i++)); do cat $BLOCK; sleep 0.1; done"
KEPT: Final = "[agent]\nspool_bytes_per_attempt = 4294967296\n"  # so that nothing may be lost


def line(site: Rig, report: Report, mib: int) -> None:
    """One line of so many MiB: every byte arrives, and nobody holds it in memory."""
    site.configure(KEPT)
    site.start(1)
    site.join(1, "--cpus", "100")
    vitals = Vitals(site)
    began = time.monotonic()
    with site.client(LONG_S) as client:
        task_id = _submit(client, LINE, {"BYTES": mib * MIB})
        task = _over(client, task_id)
        stored_s = time.monotonic() - began
        answer = client.settle("GET", f"/api/v1/tasks/{task_id}/logs?stream=out")
    whole = answer.body.count(b"x") == len(answer.body) == mib * MIB
    report.figure("line: MiB, and seconds until stored", f"{mib} / {stored_s:.1f}")
    found = [] if whole else [f"{len(answer.body)} bytes of {mib * MIB}"]
    found += [] if task["status"] == "succeeded" else [f"the task {task['status']}"]
    report.promise("line: not as it was written", found)
    vitals.tell(report, "line")


def streams(site: Rig, report: Report, count: int, seconds: int) -> None:
    """So many tasks of 10 MB/s each: more than can be stored, so the spool's bound is what is kept."""
    site.start(1)
    site.join(1, "--cpus", "100")
    block = site.directory / "block"
    block.write_bytes(b"0123456789abcde\n" * (1_000_000 // 16))
    vitals = Vitals(site)
    with site.client(LONG_S) as client:
        env = {"BLOCK": str(block), "SECONDS_LONG": seconds}
        ids = [_submit(client, STREAM, env) for _ in range(count)]
        began = time.monotonic()
        ends = [client.get(f"/api/v1/tasks/{task_id}?wait=60")["status"] for task_id in ids]
        report.figure("streams: of 10 MB/s, for seconds", f"{count} / {seconds}")
        report.figure("streams: tasks over after", f"{time.monotonic() - began:.1f} s")
        time.sleep(HOLD_S)
    wrong = [end for end in ends if end != "succeeded"]
    report.promise("streams: tasks that did not succeed", wrong)
    vitals.tell(report, "streams")


def server_disk(site: Rig, report: Report) -> None:
    """The disk of the stored logs is full: tasks end all the same, and what they said arrives later."""
    site.configure(KEPT)
    with _small_disk(site.logs) as disk:
        site.start(1)
        site.join(1, "--cpus", "100")
        vitals = Vitals(site)
        with site.client(LONG_S) as client:
            task_id = _submit(client, LINE, {"BYTES": FLOOD_BYTES})
            until(lambda: _free_bytes(disk) < MIB, "the disk is full", deadline_s=LONG_S)
            time.sleep(HOLD_S)
            status = client.get(f"/api/v1/tasks/{task_id}")["status"]
            report.figure("server-disk: its task while it is full", status)
            _mount("-o", f"remount,size={LARGE_DISK}", str(disk))
            began = time.monotonic()
            task = _over(client, task_id)
            report.limit("server-disk: stored after there is room", time.monotonic() - began, 60.0)
            size = len(client.settle("GET", f"/api/v1/tasks/{task_id}/logs?stream=out").body)
        found = [] if size == FLOOD_BYTES else [f"{size} bytes of {FLOOD_BYTES}"]
        found += [] if task["status"] == "succeeded" else [f"the task {task['status']}"]
        report.promise("server-disk: not as it was written", found)
        vitals.tell(report, "server-disk")
        site.close()  # before the disk goes


def agent_disk(site: Rig, report: Report) -> None:
    """The spool's disk is full while the server is away: the exit is not lost, nor the agent."""
    site.start(1)
    agent = Agent(site, "small", "--cpus", "100")
    with _small_disk(agent.home) as disk:
        site.agents.append(agent)
        agent.start()
        until(lambda: site.ready_agents() == 1, "the agent is ready")
        ended = site.directory / "ended"
        with site.client(LONG_S) as client:
            run = f'sleep 2; {LINE} || echo full >"$ENDED"; exit 37'
            task_id = _submit(client, run, {"BYTES": FLOOD_BYTES, "ENDED": str(ended)})
            until(lambda: client.get(f"/api/v1/tasks/{task_id}")["status"] == "running", "it runs")
            site.servers[0].kill()
            until(ended.exists, "the task has met its full disk")
            report.figure("agent-disk: bytes free when the task ended", _free_bytes(disk))
            site.servers[0].start()
            until(site.leader, "the server is back")
            vitals = Vitals(site)
            task = _over(client, task_id)
            code = task["attempts"][-1]["exit_code"]
        found = [] if code == 37 else [f"exit code {code}, {task['status']} {task['reason']}"]
        report.promise("agent-disk: exit lost", found)
        vitals.tell(report, "agent-disk")
        site.close()  # before the disk goes


def _submit(client: Client, run: str, env: dict[str, Any]) -> str:
    task = {"name": "flood", "run": run, "env": env, "resources": {"cpus": 0.1}}
    answer = client.settle("POST", "/api/v1/tasks", task)
    assert answer.status == 201, answer.body
    return str(answer.json()["task_id"])


def _over(client: Client, task_id: str) -> Any:
    """The task, once it has ended and its output is stored."""

    def over() -> Any:
        task = client.get(f"/api/v1/tasks/{task_id}?wait=10")
        attempts = task["attempts"]
        return attempts and all(each["logs_complete"] for each in attempts) and task

    return until(over, "over and stored", deadline_s=LONG_S)


@contextmanager
def _small_disk(place: Path) -> Generator[Path]:
    place.mkdir(parents=True)
    _mount("-t", "tmpfs", "-o", f"size={SMALL_DISK}", "tmpfs", str(place))
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def _mount(*words: str) -> None:
    subprocess.run(["mount", *words], check=True)


def _free_bytes(place: Path) -> int:
    state = os.statvfs(place)
    return state.f_bavail * state.f_frsize


def no_disks() -> str:
    """Why no small disk can be mounted here; "" if one can."""
    if os.geteuid() != 0:
        return "a small disk is mounted by root only"
    try_one = ["unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    if subprocess.run(try_one, check=False, capture_output=True).returncode:
        return "mounts are forbidden here"
    return ""
