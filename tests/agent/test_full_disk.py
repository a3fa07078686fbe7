"""An agent whose disk is full, on a small disk of its own."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from styx.core.attempt import StopReason
from styx.core.task import Reason
from styx.wire import agent as wire
from tests.agent.conftest import StartAgent
from tests.support.agent_server import AgentServer, Connection, a_key, assign

MIB = 1 << 20


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "disk"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=32m", "styx-test", str(path)]
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    if subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        pytest.skip("this machine does not let root mount a disk")
    yield path
    subprocess.run(["umount", "--lazy", str(path)], check=True)


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1 << 12))
        except OSError:
            pass


def beats(connection: Connection) -> int:
    return sum(isinstance(message, wire.Heartbeat) for message in connection.seen)


async def test_it_lives_on_refuses_work_says_so_once_and_recovers(
    server: AgentServer, start_agent: StartAgent, disk: Path
) -> None:
    agent = start_agent(name="disk/home")
    connection = await server.accept()
    await connection.ready()
    running, refused, after = a_key(), a_key(), a_key()
    loud = "trap 'exit 6' TERM; echo ready; while :; do echo more 2>/dev/null; sleep 0.05; done"
    connection.send(assign(running, "sh", "-c", loud))
    await connection.until(lambda: server.output(running).startswith(b"ready"))
    fill(disk / "other")
    assert "MiB of its disk are free" in (await connection.wait(wire.Notice)).detail
    connection.send(assign(refused, "true"))
    void = await connection.wait(wire.EvVoid)
    assert (void.key, void.reason) == (refused, Reason.AGENT_FULL)
    connection.send(wire.Stop(running, 1, StopReason.CANCEL, 30.0))
    assert (await connection.end(running)).code == 6  # its end found room in the reserve
    seen = beats(connection)
    await connection.until(lambda: beats(connection) > seen + 5)
    (disk / "other").unlink()
    seen = beats(connection)
    await connection.until(lambda: beats(connection) > seen + 2)
    connection.send(assign(after, "echo", "after"))
    assert (await connection.complete(after)).code == 0
    assert server.output(after) == b"after\n"
    notices = [message.kind for message in connection.seen if isinstance(message, wire.Notice)]
    assert notices == ["disk_low"]
    assert agent.process.poll() is None
    assert not connection.closed


async def test_a_disk_that_its_own_output_fills_is_freed_by_dropping_the_middle(
    server: AgentServer, start_agent: StartAgent, disk: Path
) -> None:
    start_agent(name="disk/home")
    connection = await server.accept()
    connection.storing = False
    await connection.ready(log_credit_bytes=1 << 16)
    flood, after = a_key(), a_key()
    script = f"head -c {64 * MIB} /dev/zero | tr '\\0' x; sleep 1.5; echo end"
    connection.send(assign(flood, "sh", "-c", script))
    await connection.end(flood)
    seen = beats(connection)
    await connection.until(lambda: beats(connection) > seen + 5)
    connection.send(assign(after, "true"))
    assert (await connection.end(after)).code == 0
    connection.cut()
    again = await server.accept()
    await again.ready()
    await again.until(lambda: server.output(flood).endswith(b"end\n"))
    assert any(isinstance(message, wire.Gap) for message in again.seen)
