"""The container engine of this machine: which there is, and the command lines that make it run a task."""

import asyncio
import csv
import io
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from styx.core.feature import Feature
from styx.core.spec import Requirements

ANSWER_S: Final = 10.0  # a daemon that takes longer is as good as none
KINDS: Final = ("podman", "docker")
_INITS: Final = ("/usr/libexec/podman/catatonit", "/usr/libexec/catatonit/catatonit")
# What the engine's client would obey itself: given by value, so that it does not.
_STEERING: Final = re.compile(
    r"PATH|HOME|TMPDIR|LD_.*|XDG_.*|DOCKER_.*|CONTAINERS?_.*|BUILDAH_.*|REGISTRY_.*|GO[A-Z]+|"
    r"SSL_.*|LISTEN_.*|NOTIFY_SOCKET|DBUS_.*|(?i:(https?|no|all)_proxy)"
)
# The machine's, not an engine's 64 MiB; sharing all of IPC needs more than a rootless engine may have.
SHARED_MEMORY: Final = "/dev/shm"  # noqa: S108 -- the kernel's own name for it
SHELL: Final = ("sh", "-c")
# The image may have no bash.
ANY_SHELL: Final = 'command -v bash >/dev/null && exec bash -euo pipefail "$@"; exec sh -eu "$@"'


class Engine(msgspec.Struct, frozen=True):
    kind: str
    program: str
    rootless: bool = False
    cpus: bool = True  # whether it can limit them
    memory: bool = True
    init: bool = (
        True  # it has one, which hands signals on: a first process gets only those it handles
    )

    @property
    def features(self) -> tuple[str, ...]:
        return (Feature.IMAGE, self.kind)


class Wanted(msgspec.Struct, frozen=True):
    """A task, as far as its container is concerned."""

    key: str
    image: str
    argv: Sequence[str]
    env: Mapping[str, str]
    cwd: str
    gpus: Sequence[int]
    requirements: Requirements
    mounts: Sequence[str] = ()  # beside the working directory, each at its own path
    home: str = ""


async def find() -> tuple[Engine | None, tuple[str, ...]]:
    """The first that answers, and the features that tell of it, or of those that do not answer."""
    silent: list[str] = []
    for kind in KINDS:
        program = shutil.which(kind)
        if program is None:
            continue
        told = await _info(program)
        engine = None if told is None else _engine(kind, program, told)
        if engine is not None:
            return engine, engine.features
        silent.append(f"{kind}_silent")
    return None, tuple(silent)


def command(engine: Engine, wanted: Wanted) -> list[str]:
    """What runs it in the foreground; nothing of its environment's values but what steers the engine."""
    given = [
        f"--env={name}={value}" if _STEERING.fullmatch(name) else f"--env={name}"
        for name, value in wanted.env.items()
    ]
    if wanted.home and "HOME" not in wanted.env:
        given.append(f"--env=HOME={wanted.home}")
    return [
        *(engine.program, "run", "--rm", "--name", _name(wanted.key)),
        *("--label", f"styx.attempt={wanted.key}", "--log-driver", "none", "--pull", "missing"),
        *("--network", "host"),  # as a task without a container has it
        *("--security-opt", "no-new-privileges", "--security-opt", "label=disable"),
        *(["--init"] if engine.init else []),
        *_user(engine),
        *_limits(engine, wanted.requirements),
        *_gpus(engine, wanted.gpus),
        *(
            word
            for path in (wanted.cwd, SHARED_MEMORY, *wanted.mounts)
            for word in ("--mount", _bind(path))
        ),
        *("--workdir", wanted.cwd, *given, "--entrypoint", "", wanted.image, *wanted.argv),
    ]


def steers(name: str) -> bool:
    """Whether the engine's client would obey a variable of that name."""
    return _STEERING.fullmatch(name) is not None


def client_env(env: Mapping[str, str]) -> dict[str, str]:
    """Of a task's environment what its engine's client is started with."""
    return {name: value for name, value in env.items() if not _STEERING.fullmatch(name)}


def removal(engine: Engine, key: str) -> list[str]:
    """What leaves nothing of it, and succeeds if there is nothing."""
    lenient = ["--ignore", "--time", "0"] if engine.kind == "podman" else []
    return [engine.program, "rm", "--force", *lenient, _name(key)]


def _name(key: str) -> str:
    return f"styx-{key}"


def _user(engine: Engine) -> list[str]:
    """Files that it makes belong to the agent's user."""
    ids = f"{os.getuid()}:{os.getgid()}"
    if not engine.rootless:
        return ["--user", ids]
    # Root of a rootless container is the user that started it.
    return ["--userns", "keep-id", "--user", ids] if engine.kind == "podman" else ["--user", "0:0"]


def _limits(engine: Engine, wanted: Requirements) -> list[str]:
    cpus = [f"--cpus={wanted.cpus_milli / 1000:g}"] if engine.cpus and wanted.cpus_milli else []
    memory = [f"--memory={wanted.memory_bytes}b"] if engine.memory and wanted.memory_bytes else []
    return cpus + memory


def _gpus(engine: Engine, gpus: Sequence[int]) -> list[str]:
    if engine.kind == "podman":
        return [f"--device=nvidia.com/gpu={index}" for index in gpus]
    return [f'--gpus="device={",".join(map(str, gpus))}"'] if gpus else []


def _bind(path: str) -> str:
    """A path may hold commas and quotes: the value is one row of CSV."""
    row = io.StringIO()
    csv.writer(row, lineterminator="").writerow(
        ("type=bind", f"source={path}", f"destination={path}")
    )
    return row.getvalue()


def _engine(kind: str, program: str, told: Mapping[str, Any]) -> Engine | None:
    """From what it tells of itself; None where it tells of an error instead."""
    try:
        if kind == "podman":
            host = told["host"]
            controllers = host["cgroupControllers"] or ()
            return Engine(
                kind,
                program,
                rootless=host["security"]["rootless"],
                cpus="cpu" in controllers,
                memory="memory" in controllers,
                init=any(map(os.path.exists, _INITS)) or shutil.which("catatonit") is not None,
            )
        if told.get("ServerErrors"):
            return None
        return Engine(
            kind,
            program,
            rootless="name=rootless" in told["SecurityOptions"],
            cpus=told["CpuCfsQuota"],
            memory=told["MemoryLimit"],
        )
    except (KeyError, TypeError):
        return None


async def _info(program: str) -> Mapping[str, Any] | None:
    try:
        child = await asyncio.create_subprocess_exec(
            *(program, "info", "--format", "{{json .}}"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
    except OSError:
        return None
    try:
        async with asyncio.timeout(ANSWER_S):
            output, _ = await child.communicate()
    except TimeoutError:
        child.kill()
        await child.wait()
        return None
    try:
        return None if child.returncode else msgspec.json.decode(output, type=dict[str, Any])
    except msgspec.DecodeError:
        return None
