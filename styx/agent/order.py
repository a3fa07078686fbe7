"""From an assignment to what the supervisor executes: the command, its environment, its limits."""

import os
import shutil
from collections.abc import Mapping, Sequence
from typing import Any, Final

from styx.agent import engine, errand, home, prepare, proc
from styx.core import source
from styx.core.spec import Delivery, TaskSpec
from styx.core.task import Reason
from styx.wire import agent as wire

ARGUMENT_BYTES: Final = 100 << 10  # the kernel's limit for one argument is 128 KiB
_PRIVATE: Final = "DATABASE_URL"  # with STYX_…: the agent's own, of no use to a task but to do harm
GPU_VARIABLE: Final = "CUDA_VISIBLE_DEVICES"
INPUTS: Final = "STYX_INPUT_DIR"
OUTPUTS: Final = "STYX_OUTPUT_DIR"
_NOWHERE: Final = "/dev/null/nowhere"


def base_environment(own: Mapping[str, str]) -> dict[str, str]:
    """What every task inherits: the agent's own environment without what is Styx's."""
    return {
        name: value
        for name, value in own.items()
        if not name.startswith("STYX_") and name != _PRIVATE
    }


def start(
    assign: wire.Assign, *, directory: str, gpus: Sequence[int], has_gpus: bool, until: float
) -> dict[str, Any]:
    """The supervisor's `start`, stale after `until` on the clock of `proc.now`; `job`, `bundle` and `files`, if
    there, are for `agent.files`.
    """
    spec = assign.spec
    argv, script = _command(spec)
    if spec.setup:
        done = prepare.mark(directory, assign.job_id, spec)
        argv = prepare.wrapped(argv, _shell(), done, spec.setup)
    order: dict[str, Any] = {
        "do": "start",
        "k": str(assign.key),
        "argv": argv,
        "env": environment(assign, gpus, has_gpus=has_gpus),
        "cwd": _workdir(directory, spec.workdir),
        "gpus": list(gpus),
        "cpus_milli": spec.requirements.cpus_milli,
        "memory_bytes": spec.requirements.memory_bytes,
        "durable": spec.exclusive or spec.delivery is Delivery.AT_MOST_ONCE,
        "exclusive": spec.exclusive,
        "until": until,
        "timeout": spec.timeout_s,
        "grace": spec.grace_s,
    }
    if script:
        order["script"] = script
    if assign.secret_missing:
        return order | _refused(Reason.SECRET_MISSING, assign.secret_missing)
    if spec.bundle or spec.files or spec.outputs or spec.inputs:
        order |= {"job": assign.job_id, "bundle": spec.bundle, "files": spec.files}
        order["inputs"] = spec.name if spec.inputs else ""
    if room := errand.room(directory, assign.job_id, spec.bundle, source.inside(spec.files)):
        order["cwd"] = room
    if spec.inputs:
        order["env"][INPUTS] = errand.inputs(directory, assign.job_id, spec.name)
    if spec.outputs:
        left = order["env"][OUTPUTS] = errand.left(directory, assign.job_id, str(assign.key))
        if assign.key.rank == 0:  # a gang's others would leave the same
            outputs = [(output.path, output.to) for output in spec.outputs]
            order["parcel"] = {"left": left, "cwd": order["cwd"], "outputs": outputs}
    return order


def contained(
    start: Mapping[str, Any], spec: TaskSpec, directory: str, runs: engine.Engine
) -> dict[str, Any]:
    """What differs in a `start` that happens in a container."""
    if steering := [name for name in spec.secrets if engine.steers(name)]:
        # Given by value it would stand in the command line, for everybody on this machine.
        detail = f"no secret can be given as {steering[0]} to a container: take another variable"
        return _refused(Reason.SPAWN_ERROR, detail)
    argv, mounts, env = list(spec.argv), list[str](), dict[str, str](start["env"])
    if not argv:
        argv = [*engine.SHELL, engine.ANY_SHELL, "sh"]
        if "script" in start:  # the supervisor adds its path
            mounts.append(home.spool_path(directory, start["k"], home.SCRIPT_SUFFIX))
        else:
            argv += ["-c", spec.script]
    if spec.setup:
        argv = prepare.each_time(argv, spec.setup)
    mounts += (env[name] for name in (INPUTS, OUTPUTS) if name in env)
    seen_home = os.path.expanduser("~") if any(to.startswith("~") for to in spec.files) else ""
    if start["gpus"]:  # numbered anew in there
        env[GPU_VARIABLE] = ",".join(map(str, range(len(start["gpus"]))))
    wanted = engine.Wanted(
        key=start["k"],
        image=spec.image,
        argv=argv,
        env=env,
        cwd=os.path.normpath(start["cwd"]),
        gpus=start["gpus"],
        requirements=spec.requirements,
        mounts=[*mounts, seen_home] if seen_home else mounts,
        home=seen_home,
    )
    return {
        "argv": engine.command(runs, wanted),
        "env": engine.client_env(env),
        "remove": engine.removal(runs, start["k"]),
        "image": (runs.program, spec.image),
    }


def environment(
    assign: wire.Assign, gpus: Sequence[int], *, has_gpus: bool = False
) -> dict[str, str]:
    """The task's variables, beside what it inherits. Ours win over the user's."""
    key, spec = assign.key, assign.spec
    ips = "\n".join(assign.node_ips)
    ours = {
        proc.MARKER: str(key),
        "STYX_TASK_ID": key.task_id,
        "STYX_JOB_ID": assign.job_id,
        "STYX_ATTEMPT": str(key.n),
        "STYX_TASK_NAME": assign.name,
        "STYX_FENCE": f"{key.task_id}:{key.n}",
        "STYX_NODE_RANK": str(key.rank),
        "STYX_NUM_NODES": str(spec.num_nodes),
        "STYX_NODE_IPS": ips,
        "SKYPILOT_TASK_ID": key.task_id,
        "SKYPILOT_NODE_RANK": str(key.rank),
        "SKYPILOT_NUM_NODES": str(spec.num_nodes),
        "SKYPILOT_NODE_IPS": ips,
        "SKYPILOT_NUM_GPUS_PER_NODE": str(spec.requirements.gpus),
    }
    if assign.traceparent:
        ours["TRACEPARENT"] = assign.traceparent
    if assign.array_index is not None:
        ours["STYX_ARRAY_INDEX"] = ours["SKYPILOT_JOB_RANK"] = str(assign.array_index)
        ours["SKYPILOT_NUM_JOBS"] = str(spec.width)
    if assign.array_value is not None:
        ours["STYX_ARRAY_VALUE"] = assign.array_value
        ours = spec.variables(assign.array_value) | ours
    # A task that asked for no GPU sees none, unless its author says otherwise.
    hidden = {GPU_VARIABLE: ""} if has_gpus else {}
    granted = {GPU_VARIABLE: ",".join(map(str, gpus))} if gpus else {}
    return hidden | spec.env | assign.secrets | ours | granted


def _refused(reason: Reason, detail: str) -> dict[str, Any]:
    """Of a `start` that only ends. A supervisor too old to know `end` cannot start it there."""
    return {"end": {"reason": reason, "detail": detail}, "cwd": _NOWHERE}


def _command(spec: TaskSpec) -> tuple[list[str], str]:
    """The argument vector, and the script that goes to a file because it is too long for one."""
    if spec.argv:
        return list(spec.argv), ""
    shell = _shell()
    if len(spec.script.encode()) > ARGUMENT_BYTES:
        return shell, spec.script
    return [*shell, "-c", spec.script], ""


def _shell() -> list[str]:
    bash = shutil.which("bash")
    return [bash, "-euo", "pipefail"] if bash else ["sh", "-eu"]


def _workdir(directory: str, workdir: str) -> str:
    return os.path.join(directory, home.WORK, os.path.expanduser(workdir))
