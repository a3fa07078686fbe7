"""GPUs, by a stand-in for the driver's tool: what is detected, granted, and kept apart."""

import os
import stat
from pathlib import Path

import pytest

from styx.agent import gpus, probe
from styx.config import AgentConfig
from styx.core.agent import Gpu
from styx.core.attempt import StopReason
from styx.core.spec import Requirements
from styx.core.task import Reason
from styx.wire import agent as wire
from tests.agent.conftest import StartAgent
from tests.support.agent_server import AgentServer, a_key, assign

MIB = 1 << 20
SMI = """#!/bin/sh
case "$1" in
  *utilization*) printf '0, 10\\n1, [N/A]\\n2, 97\\n' ;;
  *) printf '0, GPU-aaa, NVIDIA A100-SXM4-80GB, 81920\\n1, GPU-bbb, NVIDIA A100-SXM4-80GB, 81920\\n2, GPU-ccc, NVIDIA H100 80GB HBM3, 81559\\n' ;;
esac
"""


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "bin"
    directory.mkdir()
    tool = directory / "nvidia-smi"
    tool.write_text(SMI)
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{directory}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return tool


A100 = Gpu("nvidia a100-sxm4-80gb", 81920 * MIB)
H100 = Gpu("nvidia h100 80gb hbm3", 81559 * MIB)


@pytest.mark.usefixtures("tool")
async def test_what_the_driver_names_is_detected() -> None:
    assert await gpus.cards() == (gpus.Card(0, A100), gpus.Card(1, A100), gpus.Card(2, H100))
    assert await gpus.busy_percent() == {0: 10.0, 2: 97.0}


@pytest.mark.usefixtures("tool")
@pytest.mark.parametrize(
    ("visible", "indexes"), [("2,0", [0, 2]), ("GPU-bbb", [1]), ("", []), (" 1 ", [1])]
)
async def test_an_agent_that_may_use_some_offers_those(
    monkeypatch: pytest.MonkeyPatch, visible: str, indexes: list[int]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert [card.index for card in await gpus.cards()] == indexes


@pytest.mark.parametrize("script", ["#!/bin/sh\nexit 9", "#!/bin/sh\necho nonsense", "#!/no/such"])
async def test_a_broken_tool_means_no_gpus(tool: Path, script: str) -> None:
    tool.write_text(script)
    assert await gpus.cards() == ()
    assert await gpus.busy_percent() == {}


async def test_a_tool_that_hangs_is_left_behind(
    tool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool.write_text("#!/bin/sh\nexec sleep 1000")
    monkeypatch.setattr(gpus, "ANSWER_S", 0.2)
    assert await gpus.cards() == ()


@pytest.mark.usefixtures("tool")
@pytest.mark.parametrize(("limit", "count"), [(None, 3), (2, 2), (0, 0), (9, 3)])
async def test_the_operator_can_keep_gpus_back(
    tmp_path: Path, limit: int | None, count: int
) -> None:
    found = await probe.machine(AgentConfig(gpus=limit), str(tmp_path))
    assert len(found.capacity.gpus) == count


@pytest.mark.usefixtures("tool")
async def test_gpus_are_granted_kept_apart_and_given_back(
    server: AgentServer, start_agent: StartAgent
) -> None:
    agent = start_agent()
    connection = await server.accept()
    await connection.ready()
    assert (await connection.wait(wire.Hello)).capacity.gpus == (A100, A100, H100)
    pair, other, none, third = a_key(), a_key(), a_key(), a_key()
    show = ("sh", "-c", 'echo "[$CUDA_VISIBLE_DEVICES]"; sleep 1000')

    def wants(number: int, model: str = "") -> Requirements:
        return Requirements(cpus_milli=100, gpus=number, gpu_model=model)

    connection.send(
        assign(pair, *show, requirements=wants(2, "a100")),
        assign(other, *show, requirements=wants(1)),
        assign(none, *show, requirements=wants(0)),
        assign(third, *show, requirements=wants(1, "a100")),
    )
    for key, line in ((pair, b"[0,1]\n"), (other, b"[2]\n"), (none, b"[]\n")):
        await connection.until(lambda key=key, line=line: server.output(key) == line)
    void = await connection.wait(wire.EvVoid)
    assert (void.key, void.reason) == (third, Reason.AGENT_FULL)

    agent.kill_link()  # who has which is remembered by the supervisor
    agent.start()
    again = await server.accept()
    await again.ready()
    fourth, fifth = a_key(), a_key()
    again.send(assign(fourth, *show, requirements=wants(1, "a100")))
    assert (await again.wait(wire.EvVoid)).key == fourth
    again.send(wire.Stop(pair, 1, StopReason.CANCEL, 0.0))
    await again.end(pair)
    again.send(assign(fifth, *show, requirements=wants(1, "a100")))
    await again.until(lambda: server.output(fifth) == b"[0]\n")


@pytest.mark.usefixtures("tool")
async def test_how_busy_they_are_is_told(server: AgentServer, start_agent: StartAgent) -> None:
    start_agent()
    connection = await server.accept()
    await connection.ready()
    beat = await connection.wait(
        wire.Heartbeat, lambda beat: beat.load.gpu_percent != (0.0, 0.0, 0.0)
    )
    assert beat.load.gpu_percent == (10.0, 0.0, 97.0)
