"""What a task is started with: its command and its environment."""

import os
import shutil
import sys
from pathlib import Path

import pytest

from styx.agent import order
from styx.core.ids import AttemptKey, JobId, TaskId
from styx.core.spec import Delivery, Requirements, TaskSpec
from styx.wire import agent as wire
from tests.agent.conftest import StartAgent
from tests.support.agent_server import AgentServer, Connection, a_key, assign

KEY = AttemptKey(TaskId("task"), 3, 1)


def started(
    *,
    gpus: tuple[int, ...] = (),
    has_gpus: bool = False,
    array_value: str = "a value",
    **spec: object,
) -> dict[str, object]:
    assigned = wire.Assign(
        key=KEY,
        term=1,
        job_id=JobId("job"),
        name="name/7",
        spec=TaskSpec(name="name", **({"argv": ("true",)} | spec)),
        array_index=7,
        array_value=array_value,
        node_ips=("10.0.0.1", "10.0.0.2"),
        traceparent="00-trace",
    )
    return order.start(assigned, directory="/home", gpus=gpus, has_gpus=has_gpus, until=5.0)


def test_the_task_is_told_who_and_where_it_is() -> None:
    env = started(num_nodes=2, requirements=Requirements(gpus=4), array_count=9)["env"]
    assert env == {
        "STYX_ATTEMPT_KEY": "task.3.1",
        "STYX_TASK_ID": "task",
        "STYX_JOB_ID": "job",
        "STYX_ATTEMPT": "3",
        "STYX_TASK_NAME": "name/7",
        "STYX_FENCE": "task:3",
        "STYX_NODE_RANK": "1",
        "STYX_NUM_NODES": "2",
        "STYX_NODE_IPS": "10.0.0.1\n10.0.0.2",
        "STYX_ARRAY_INDEX": "7",
        "STYX_ARRAY_VALUE": "a value",
        "SKYPILOT_JOB_RANK": "7",
        "SKYPILOT_NUM_JOBS": "9",
        "SKYPILOT_TASK_ID": "task",
        "SKYPILOT_NODE_RANK": "1",
        "SKYPILOT_NUM_NODES": "2",
        "SKYPILOT_NODE_IPS": "10.0.0.1\n10.0.0.2",
        "SKYPILOT_NUM_GPUS_PER_NODE": "4",
        "TRACEPARENT": "00-trace",
    }


def test_an_element_of_a_matrix_has_a_variable_for_each_axis() -> None:
    value = '{"lr":"0.1","STYX_TASK_ID":"another","PATH":"/opt"}'
    env = started(matrix=True, array_value=value, env={"PATH": "/bin"})["env"]
    assert (env["lr"], env["PATH"], env["STYX_ARRAY_VALUE"]) == ("0.1", "/opt", value)
    assert env["STYX_TASK_ID"] == "task"


def test_a_task_cannot_pass_for_another() -> None:
    env = started(env={"STYX_TASK_ID": "other", "MINE": "x"})["env"]
    assert (env["STYX_TASK_ID"], env["MINE"]) == ("task", "x")


@pytest.mark.parametrize(
    ("gpus", "has_gpus", "own", "visible"),
    [
        ((), False, None, None),  # no GPUs here: nothing to say
        ((), True, None, ""),  # asked for none: sees none
        ((), True, "1", "1"),  # unless its author says otherwise
        ((0, 2), True, None, "0,2"),
        ((0, 2), True, "1", "0,2"),  # what was granted wins
    ],
)
def test_a_task_sees_the_gpus_that_it_was_granted(
    gpus: tuple[int, ...], has_gpus: bool, own: str | None, visible: str | None
) -> None:
    env = started(
        gpus=gpus, has_gpus=has_gpus, env={} if own is None else {"CUDA_VISIBLE_DEVICES": own}
    )["env"]
    assert env.get("CUDA_VISIBLE_DEVICES") == visible


def test_what_is_styxs_is_not_inherited() -> None:
    own = {"STYX_TOKEN": "secret", "DATABASE_URL": "postgres://…", "PATH": "/bin", "LANG": "C"}
    assert order.base_environment(own) == {"PATH": "/bin", "LANG": "C"}


def test_a_script_runs_strictly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", {"bash": "/usr/bin/bash"}.get)
    assert started(argv=(), script="a | b")["argv"] == [
        "/usr/bin/bash",
        "-euo",
        "pipefail",
        "-c",
        "a | b",
    ]
    monkeypatch.setattr(shutil, "which", {}.get)
    assert started(argv=(), script="a | b")["argv"] == ["sh", "-eu", "-c", "a | b"]
    long = started(argv=(), script="x" * order.ARGUMENT_BYTES + "y")
    assert long["argv"] == ["sh", "-eu"]
    assert long["script"] == "x" * order.ARGUMENT_BYTES + "y"


@pytest.mark.parametrize(
    ("workdir", "cwd"),
    [
        ("", "/home/work/"),
        ("sub", "/home/work/sub"),
        ("/abs", "/abs"),
        ("~/x", str(Path("~/x").expanduser())),
    ],
)
def test_a_directory_is_relative_to_the_agents_own(workdir: str, cwd: str) -> None:
    assert started(workdir=workdir)["cwd"] == cwd


@pytest.mark.parametrize(
    ("spec", "durable"),
    [
        ({}, False),
        ({"delivery": Delivery.AT_MOST_ONCE}, True),
        ({"exclusive": True}, True),
    ],
)
def test_a_claim_that_must_hold_through_a_power_cut_is_durable(
    spec: dict[str, object], durable: bool
) -> None:
    assert started(**spec)["durable"] is durable


async def test_a_real_task_sees_all_that_and_no_secret(
    server: AgentServer, start_agent: StartAgent
) -> None:
    start_agent(
        env=os.environ | {"STYX_TOKEN": "hunter2", "DATABASE_URL": "hunter2", "INHERITED": "yes"}
    )
    connection = await server.accept()
    await connection.ready()
    key = a_key(n=2)
    connection.send(assign(key, "env", env={"OWN": "a=b\nc"}))
    await connection.complete(key)
    lines = server.output(key).decode().splitlines()
    assert {
        "INHERITED=yes",
        "OWN=a=b",
        "c",
        "STYX_ATTEMPT=2",
        f"STYX_TASK_ID={key.task_id}",
    } <= set(lines)
    assert not any("hunter2" in line for line in lines)


async def test_scripts_short_and_long_run(connection: Connection) -> None:
    short, long, strict = a_key(), a_key(), a_key()
    text = f"# {'x' * order.ARGUMENT_BYTES}\necho \"$0\" | grep -c '{long}'; exit 4"
    connection.send(
        assign(short, script="echo short; false; echo never"),
        assign(long, script=text),
        assign(strict, script="echo $UNSET_VARIABLE; echo never"),
    )
    assert (await connection.complete(short)).code == 1
    assert connection.server.output(short) == b"short\n"
    assert (await connection.complete(long)).code == 4
    assert connection.server.output(long) == b"1\n"
    assert (await connection.complete(strict)).code != 0
    assert connection.server.output(strict) == b""


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
async def test_a_pipeline_fails_where_it_fails(connection: Connection) -> None:
    key = a_key()
    connection.send(assign(key, script="false | cat"))
    assert (await connection.end(key)).code == 1


async def test_what_cannot_start_is_an_end_with_a_reason(connection: Connection) -> None:
    command, directory = a_key(), a_key()
    connection.send(
        assign(command, "no-such-command"), assign(directory, "true", workdir="/no/such")
    )
    assert "'no-such-command'" in (await connection.end(command)).detail
    end = await connection.end(directory)
    assert (end.reason, end.code) == ("spawn_error", None)
    assert "/no/such" in end.detail


def test_the_interpreter_is_found_without_a_shell() -> None:
    assert started(argv=(sys.executable, "-V"))["argv"] == [sys.executable, "-V"]


async def test_a_variable_that_is_no_text_is_inherited_as_it_is(
    server: AgentServer, start_agent: StartAgent
) -> None:
    start_agent(env=os.environ | {"ODD": os.fsdecode(b"\xff\xfe")})
    connection = await server.accept()
    await connection.ready()
    key = a_key()
    connection.send(assign(key, "sh", "-c", 'printf %s "$ODD"'))
    await connection.complete(key)
    assert server.output(key) == b"\xff\xfe"
