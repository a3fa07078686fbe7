"""How a task is put into a container: what the engine tells of itself, and the command line made of that."""

import json
import stat
from pathlib import Path

import msgspec
import pytest

from styx.agent import engine, order, probe
from styx.agent.engine import Engine
from styx.config import AgentConfig
from styx.core import feature
from styx.core.feature import Feature
from styx.core.spec import Requirements
from tests.agent.test_order import started

PODMAN = Engine("podman", "/bin/podman")
DOCKER = Engine("docker", "/bin/docker")


def a_command(of: Engine = PODMAN, **wanted: object) -> list[str]:
    plain = {
        "key": "t.1.0",
        "image": "python:3.12",
        "argv": ["echo", "a b"],
        "env": {},
        "cwd": "/w",
        "gpus": (),
        "requirements": Requirements(cpus_milli=1500, memory_bytes=1 << 30),
    }
    return engine.command(of, msgspec.convert(plain | wanted, engine.Wanted))


@pytest.mark.parametrize(
    ("of", "words"),
    [
        (PODMAN, ["--cpus=1.5", "--memory=1073741824b", "--init", "--device=nvidia.com/gpu=2"]),
        (DOCKER, ["--cpus=1.5", "--memory=1073741824b", "--init", '--gpus="device=0,2"']),
        (msgspec.structs.replace(PODMAN, rootless=True), ["keep-id"]),
        (msgspec.structs.replace(DOCKER, rootless=True), ["0:0"]),
    ],
)
def test_each_engine_is_asked_in_its_own_words(of: Engine, words: list[str]) -> None:
    assert set(words) <= set(a_command(of, gpus=(0, 2)))


def test_what_an_engine_cannot_limit_is_not_asked_for() -> None:
    poor = msgspec.structs.replace(PODMAN, cpus=False, memory=False, init=False)
    assert not any(w.startswith(("--cpus", "--memory", "--init")) for w in a_command(poor))


def test_the_command_is_the_images_last_words() -> None:
    assert a_command()[-5:] == ["--entrypoint", "", "python:3.12", "echo", "a b"]


def test_values_stay_out_of_the_command_line_but_what_steers_the_engine() -> None:
    env = {"TOKEN": "hidden", "LD_LIBRARY_PATH": "/lib", "HTTPS_PROXY": "p", "PATHS": "hidden"}
    argv = a_command(env=env)
    assert {"--env=TOKEN", "--env=PATHS", "--env=LD_LIBRARY_PATH=/lib"} < set(argv)
    assert not any("hidden" in word for word in argv)
    assert engine.client_env(env) == {"TOKEN": "hidden", "PATHS": "hidden"}


def test_a_directory_may_be_called_anything() -> None:
    assert 'type=bind,"source=/a,b""c","destination=/a,b""c"' in a_command(cwd='/a,b"c')


def test_a_long_script_and_the_home_are_seen_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    spec = order.TaskSpec("n", script="x" * order.ARGUMENT_BYTES + "y", image="i", files={"~": "b"})
    start = started(argv=(), script=spec.script, files=spec.files)
    made = order.contained(start, spec, "/agent", PODMAN)
    script = "/agent/spool/task.3.1.sh"
    for path in (script, "/home/me", "/home/work"):
        assert f"type=bind,source={path},destination={path}" in made["argv"]
    assert made["argv"][-5:] == ["i", *engine.SHELL, engine.ANY_SHELL, "sh"]
    assert "--env=HOME=/home/me" in made["argv"]


def test_gpus_are_numbered_anew_inside() -> None:
    start = started(gpus=(2, 5))
    made = order.contained(start, order.TaskSpec("n", argv=("x",), image="i"), "/a", DOCKER)
    assert made["env"]["CUDA_VISIBLE_DEVICES"] == "0,1"


# --- which there is ---------------------------------------------------------------------------------

TOLD = {
    "podman": {"host": {"cgroupControllers": ["memory"], "security": {"rootless": True}}},
    "docker": {"SecurityOptions": ["name=rootless"], "CpuCfsQuota": False, "MemoryLimit": True},
}


def install(directory: Path, kind: str, script: str) -> None:
    tool = directory / kind
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)


@pytest.mark.parametrize("kind", engine.KINDS)
async def test_one_that_answers_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    install(tmp_path, "podman", "exit 1")
    install(tmp_path, kind, f"echo '{json.dumps(TOLD[kind])}'")
    found = await probe.machine(AgentConfig(gpus=0), str(tmp_path))
    assert found.engine is not None
    assert (found.engine.kind, found.engine.rootless, found.engine.cpus) == (kind, True, False)
    assert {Feature.IMAGE, kind} < set(found.capacity.features)


@pytest.mark.parametrize("script", ["exit 1", "exec /bin/sleep 1000", "echo '{}'", "echo nonsense"])
async def test_one_that_does_not_work_is_told_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(engine, "ANSWER_S", 0.2)
    install(tmp_path, "docker", script)
    assert await engine.find() == (None, ("docker_silent",))
    assert "daemon does not answer" in feature.lacking(Feature.IMAGE, ("docker_silent",))
    assert "neither podman nor docker" in feature.lacking(Feature.IMAGE)
