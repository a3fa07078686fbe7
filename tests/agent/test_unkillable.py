"""Processes that SIGKILL does not end, as in an uninterruptible sleep on a dead disk."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from styx.agent import home
from styx.core.attempt import StopReason
from styx.wire import agent as wire
from tests.agent.conftest import StartAgent
from tests.support.agent_server import AgentServer, a_key, assign
from tests.support.supervised import Supervised, eventually, until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")

# The system as it is, but for one thing: while a file `asleep` is there, nobody hears SIGKILL, and
# while a file `foreign` is there, it may not be sent.
ASLEEP = """
import os, signal, sys
from styx.agent import stop, supervisor
from styx.agent.system import System

class Asleep(System):
    def kill(self, pid, number):
        if number == signal.SIGKILL and os.path.exists("work/foreign"):
            return False
        return self._asleep(number) or super().kill(pid, number)
    def kill_group(self, pid, number):
        if not self._asleep(number):
            super().kill_group(pid, number)
    def _asleep(self, number):
        return number == signal.SIGKILL and os.path.exists("work/asleep")

supervisor.System = Asleep
stop.UNKILLABLE_S = 0.5
stop.FOREIGN_S = 0.1
supervisor.main(sys.argv[1])
"""


class Sleepy(Supervised):
    @property
    def asleep(self) -> Path:
        return self.directory / "work" / "asleep"

    def launch(self) -> None:
        self.asleep.parent.mkdir(exist_ok=True)
        self.asleep.touch()
        self.process = subprocess.Popen(
            [sys.executable, "-c", ASLEEP, str(self.directory)],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
            start_new_session=True,
        )


@pytest.fixture
def sleepy(tmp_path: Path) -> Iterator[Sleepy]:
    held = Sleepy(tmp_path / "home")
    yield held
    held.close()


def test_it_is_held_until_it_is_really_gone_and_blocks_nobody(sleepy: Sleepy) -> None:
    sleepy.sh("k", "trap '' TERM; echo ready; while :; do sleep 0.05; done")
    until(lambda: sleepy.out("k") == b"ready\n")
    sleepy.stop("k", grace=0)
    assert sleepy.wait("k", "unkillable")["unkillable"] is True
    for number in range(5):
        assert sleepy.run(f"other{number}", "true")["code"] == 0
    assert not any(told["k"] == "k" and "exit" in told for told in sleepy.told)
    sleepy.asleep.unlink()
    assert sleepy.end("k")["signalled"] is True
    assert sleepy.processes("k") == []
    assert sum("unkillable" in told for told in sleepy.told) == 1


def test_so_is_what_a_task_left_behind(sleepy: Sleepy) -> None:
    """Its exit code is known, but two of an exclusive task would be at work (I-8)."""
    sleepy.sh("k", "setsid sleep 1001 & exit 3")
    sleepy.wait("k", "unkillable")
    sleepy.drop()
    sleepy.connect()
    assert sleepy.snapshot["k"]["unkillable"] is True
    assert "exit" not in sleepy.snapshot["k"]
    assert sleepy.processes("k")
    sleepy.asleep.unlink()
    end = sleepy.end("k")
    assert end["code"] == 3
    assert "detail" not in end


def test_what_is_another_users_holds_no_result_but_an_exclusive_one(sleepy: Sleepy) -> None:
    foreign = sleepy.asleep.with_name("foreign")
    foreign.touch()
    sleepy.send(do="lease", until=1e12)
    sleepy.sh("exclusive", "setsid sleep 1001 & exit 4", exclusive=True)
    sleepy.sh("k", "setsid sleep 1001 & exit 3")
    end = sleepy.end("k")
    assert (end["code"], end["detail"]) == (3, "processes of another user were left")
    sleepy.wait("exclusive", "unkillable")
    assert not any(told["k"] == "exclusive" and "exit" in told for told in sleepy.told)
    sleepy.asleep.unlink()
    foreign.unlink()
    assert sleepy.end("exclusive")["code"] == 4


async def test_the_server_is_told_in_every_session(
    server: AgentServer, start_agent: StartAgent
) -> None:
    """By a supervisor that had come so far: its journal says so."""
    agent = start_agent()
    connection = await server.accept()
    await connection.ready()
    key = a_key()
    connection.send(assign(key, "sleep", "1000"))
    await connection.wait(wire.EvStarted)
    agent.kill_link()
    journal = agent.home / home.JOURNAL
    await eventually(lambda: '"pid"' in journal.read_text())
    agent.kill_supervisor()
    with journal.open("a") as file:
        file.write(json.dumps({"k": str(key), "unkillable": True}) + "\n")
    agent.start()
    for _ in range(2):
        again = await server.accept()
        await again.ready()
        notice = await again.wait(wire.Notice)
        assert notice.kind == "unkillable"
        assert str(key) in notice.detail
        again.cut()
    last = await server.accept()
    await last.ready()
    last.send(wire.Stop(key, 1, StopReason.CANCEL, 0.0))
    await last.end(key)
