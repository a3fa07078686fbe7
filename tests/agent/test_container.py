"""Tasks in real containers, where this machine's podman or docker works."""

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from styx.agent import engine
from styx.core.attempt import StopReason
from styx.core.ids import AttemptKey
from styx.core.spec import Requirements
from styx.core.task import Reason
from styx.wire import agent as wire
from tests.agent.conftest import StartAgent
from tests.support.agent_server import AgentServer, Connection, a_key, assign
from tests.support.agents import AgentProcess

IMAGE = "localhost/styx-test:1"
APPLETS = ("sh", "sleep", "id", "cat", "head", "tail")
NOT_NEGOTIABLE = '[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]\n'
Found = engine.Engine


@pytest.fixture(scope="module")
def conf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Some machines forbid the engine to raise limits, or have no runtime but one."""
    path = tmp_path_factory.mktemp("containers") / "containers.conf"
    runtime = '[engine]\nruntime = "runc"\n' if shutil.which("runc") else ""
    path.write_text(NOT_NEGOTIABLE + runtime)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONTAINERS_CONF", os.environ.get("CONTAINERS_CONF", str(path)))
        yield


@pytest.fixture(scope="module")
async def found(conf: None, tmp_path_factory: pytest.TempPathFactory) -> Found:
    """The engine, with an image of busybox that comes from no registry."""
    del conf
    busybox = shutil.which("busybox")
    answers, told = await engine.find()
    if answers is None or busybox is None:
        pytest.skip(f"no container engine that answers {told}, or no busybox")
    root = tmp_path_factory.mktemp("root")
    (root / "bin").mkdir()
    shutil.copy(busybox, root / "bin")
    for applet in APPLETS:
        (root / "bin" / applet).symlink_to("busybox")
    tar = subprocess.run(["tar", "-C", root, "-c", "."], capture_output=True, check=True).stdout
    subprocess.run([answers.program, "import", "-", IMAGE], input=tar, check=True)
    probe = [answers.program, "run", "--rm", "--network=host", IMAGE, "sh", "-c", "exit 7"]
    tried = subprocess.run(probe, capture_output=True, text=True, check=False)
    if tried.returncode != 7:
        pytest.skip(f"{answers.kind} starts no containers here: {tried.stderr.strip()}")
    return answers


@pytest.fixture
async def connection(
    found: Found, start_agent: StartAgent, server: AgentServer
) -> tuple[AgentProcess, Connection]:
    agent = start_agent()
    accepted = await server.accept()
    await accepted.ready()
    hello = await accepted.wait(wire.Hello)
    assert found.kind in hello.capacity.features
    return agent, accepted


def containers(found: Found, key: AttemptKey) -> str:
    listed = [found.program, "ps", "--all", "--quiet", "--filter", f"label=styx.attempt={key}"]
    return subprocess.run(listed, capture_output=True, text=True, check=True).stdout


def clients(key: AttemptKey) -> list[int]:
    """Of the engine, in the foreground."""
    named = f"\0run\0--rm\0--name\0styx-{key}\0".encode()
    return [
        int(entry.parent.name)
        for entry in Path("/proc").glob("[0-9]*/cmdline")
        if named in read(entry)
    ]


def read(path: Path) -> bytes:
    with contextlib.suppress(OSError):
        return path.read_bytes()
    return b""


async def test_it_is_a_task_like_any_other(
    connection: tuple[AgentProcess, Connection],
    server: AgentServer,
    found: Found,
    tmp_path: Path,
) -> None:
    work = tmp_path / "a, b"
    work.mkdir()
    key, killed, unready = a_key(), a_key(), a_key()
    script = 'printf "%s" "$ODD" > made; echo "$STYX_TASK_ID"; id -u >&2; exit 3'
    odd = "two\nlines 'and' \"quotes\" $HOME"
    connection[1].send(
        assign(
            key,
            script=script,
            setup="echo ready > prepared",
            image=IMAGE,
            workdir=str(work),
            env={"ODD": odd},
        ),
        assign(killed, script="kill -9 $$", image=IMAGE),
        assign(unready, "true", setup="exit 5", image=IMAGE),
    )
    await connection[1].end(unready)
    assert server.exit(unready).code == 5
    assert b"setup failed with exit code 5" in server.output(unready, 2)
    await connection[1].end(key)
    await connection[1].end(killed)
    assert server.exit(key).code == 3, server.output(key, 2)
    assert server.output(key) == f"{key.task_id}\n".encode()
    assert server.output(key, 2) == f"{os.getuid()}\n".encode()
    assert (work / "made").read_text() == odd
    assert (work / "prepared").read_text() == "ready\n"
    assert (work / "made").stat().st_uid == os.getuid()
    assert (server.exit(killed).code, server.exit(killed).reason) == (137, Reason.NONE)
    assert containers(found, key) == ""


async def test_an_image_that_cannot_be_had_is_said_in_words(
    connection: tuple[AgentProcess, Connection], server: AgentServer, found: Found
) -> None:
    keys = a_key(), a_key()
    connection[1].send(*(assign(key, "true", image="localhost/nosuch:1") for key in keys))
    for key in keys:
        end = await connection[1].end(key)
        assert (end.reason, end.code) == (Reason.IMAGE, None)
        assert end.detail.startswith("no image: localhost/nosuch:1: ")
        assert containers(found, key) == server.output(key, 2).decode() == ""


async def test_too_much_memory_is_told_as_such(
    connection: tuple[AgentProcess, Connection], server: AgentServer, found: Found
) -> None:
    if not found.memory:
        pytest.skip("this engine limits no memory")
    key = a_key()
    small = Requirements(memory_bytes=32 << 20)
    connection[1].send(assign(key, "tail", "/dev/zero", image=IMAGE, requirements=small))
    await connection[1].end(key)
    assert (server.exit(key).code, server.exit(key).reason) == (137, Reason.OOM)


async def test_a_stop_is_polite_and_leaves_nothing(
    connection: tuple[AgentProcess, Connection], server: AgentServer, found: Found
) -> None:
    if found.rootless:
        pytest.skip("a rootless client was seen to leave without passing the signal on")
    polite, stubborn = a_key(), a_key()
    loop = "echo ready; while :; do sleep 0.1; done"
    connection[1].send(
        assign(polite, script=f"trap 'echo bye; exit 0' TERM; {loop}", image=IMAGE),
        assign(stubborn, script=f"trap '' TERM; {loop}", image=IMAGE),
    )
    for key in (polite, stubborn):
        await connection[1].until(lambda key=key: server.output(key) == b"ready\n")
    connection[1].send(
        wire.Stop(polite, 1, StopReason.CANCEL, 20.0),
        wire.Stop(stubborn, 1, StopReason.CANCEL, 0.2),
    )
    await connection[1].end(polite)
    await connection[1].end(stubborn)
    assert server.output(polite) == b"ready\nbye\n"
    assert containers(found, polite) + containers(found, stubborn) == ""


async def test_a_crash_of_the_agent_lets_no_container_outlive_its_attempt(
    connection: tuple[AgentProcess, Connection], server: AgentServer, found: Found
) -> None:
    agent, accepted = connection
    key = a_key()
    accepted.send(assign(key, script="echo ready; exec sleep 1000", image=IMAGE, exclusive=True))
    await accepted.until(lambda: server.output(key) == b"ready\n")
    [client] = clients(key)
    agent.kill_supervisor()
    os.kill(client, signal.SIGKILL)
    assert containers(found, key), "it outlives both by itself"
    await accepted.end(key)
    assert server.exit(key).reason == Reason.EXIT_STATUS_LOST
    assert containers(found, key) == ""
