"""The machine's size and load, on the real machine."""

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from styx.agent import limits, probe, usage
from styx.config import AgentConfig
from styx.wire import agent as wire
from tests.agent.conftest import StartAgent
from tests.support.agent_server import AgentServer, a_key, assign
from tests.support.supervised import until

GIB = 1 << 30
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")


async def test_the_machine_is_what_the_system_says(tmp_path: Path) -> None:
    found = (await probe.machine(AgentConfig(gpus=0), str(tmp_path))).capacity
    assert 0 < found.cpus_milli <= 1000 * (os.cpu_count() or 1)
    assert 0 < found.memory_bytes <= psutil.virtual_memory().total
    assert 0 < found.disk_bytes <= shutil.disk_usage(tmp_path).total
    assert found.arch == platform.machine()
    assert found.gpus == ()


async def test_the_operators_word_counts_instead(tmp_path: Path) -> None:
    config = AgentConfig(cpus=0.5, memory_gib=1.5, gpus=0)
    found = (await probe.machine(config, str(tmp_path))).capacity
    assert (found.cpus_milli, found.memory_bytes) == (500, 3 * GIB // 2)


@linux_only
def test_affinity_limits_the_cpus() -> None:
    script = "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]); from styx.agent import limits; print(limits.cpus())"
    answer = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert float(answer.stdout) <= 1.0


@linux_only
@pytest.mark.parametrize(
    ("groups", "files", "cpus", "memory"),
    [
        (
            "0::/a/b\n",
            {"a/cpu.max": "150000 100000", "a/b/cpu.max": "max 100000", "a/memory.max": "1000"},
            1.5,
            1000,
        ),
        ("0::/a\n", {"cpu.max": "50000 100000", "a/memory.max": "max"}, 0.5, None),
        ("0::/not/seen/here\n", {"cpu.max": "50000 100000", "memory.max": "77"}, 0.5, 77),
        (
            "4:memory:/m\n2:cpu,cpuacct:/c\n",
            {
                "cpu/c/cpu.cfs_quota_us": "25000",
                "cpu/c/cpu.cfs_period_us": "100000",
                "memory/m/memory.limit_in_bytes": "99",
            },
            0.25,
            99,
        ),
        (
            "2:cpu:/c\n",
            {"cpu/c/cpu.cfs_quota_us": "-1", "cpu/c/cpu.cfs_period_us": "100000"},
            None,
            None,
        ),
    ],
)
def test_control_groups_limit_what_is_used(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    groups: str,
    files: dict[str, str],
    cpus: float | None,
    memory: int | None,
) -> None:
    for name, content in files.items():
        path = tmp_path / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content + "\n")
    own = tmp_path / "own"
    own.write_text(groups)
    monkeypatch.setattr(limits, "ROOT", tmp_path / "cgroup")
    monkeypatch.setattr(limits, "OWN", own)
    assert limits.cpus() == (cpus or float(len(os.sched_getaffinity(0))))
    assert limits.memory_bytes() == (memory or psutil.virtual_memory().total)


async def test_the_load_is_live(tmp_path: Path) -> None:
    found = await probe.machine(AgentConfig(gpus=0), str(tmp_path))
    readings = probe.Probe(str(tmp_path), found)
    sum(range(3_000_000))
    load = readings.load([])
    assert 0 < load.cpu_percent <= 100
    assert 0 < load.memory_used_bytes < load.memory_total_bytes
    assert load.disk_free_bytes > 0
    assert load.net_rx_bytes_per_s >= 0


async def test_a_full_disk_takes_no_new_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = await probe.machine(AgentConfig(gpus=0), str(tmp_path))
    readings = probe.Probe(str(tmp_path), found)
    assert readings.full() == ""
    nearly = shutil.disk_usage(tmp_path)._replace(total=100 * GIB, free=GIB)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: nearly)
    readings.load([])
    assert readings.full() == "only 1024 MiB of its disk are free"


@linux_only
async def test_each_running_tasks_use_is_told_with_its_childrens(
    server: AgentServer, start_agent: StartAgent
) -> None:
    start_agent()
    connection = await server.accept()
    await connection.ready()
    key = a_key()
    burn = "x = b'x' * (64 << 20)\nwhile True: pass"
    connection.send(assign(key, "sh", "-c", f'{sys.executable} -c "$0"; true', burn))

    def used(beat: wire.Heartbeat) -> bool:
        cpu_ms, rss_bytes = beat.load.tasks.get(str(key), (0, 0))
        return beat.running == 1 and cpu_ms >= 100 and rss_bytes >= 64 << 20

    await connection.wait(wire.Heartbeat, used)


@linux_only
def test_reading_what_tasks_use_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    child = subprocess.Popen(["sleep", "1000"])
    try:
        until(lambda: usage.of_tasks([("a", child.pid)]))
        monkeypatch.setattr(usage, "TASKS_MAX", 3)
        assert len(usage.of_tasks((str(n), child.pid) for n in range(10))) == 3
        monkeypatch.setattr(usage, "PROCESSES_MAX", 2)
        assert len(usage.of_tasks((str(n), child.pid) for n in range(10))) == 2
    finally:
        child.kill()
        child.wait()
    assert usage.of_tasks([("gone", child.pid)]) == {}
