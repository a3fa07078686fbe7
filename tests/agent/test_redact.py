"""Secrets in a task's output: masked byte for byte, wherever they are cut, and nothing else is."""

import base64
import os
from pathlib import Path

import psutil
import pytest

from styx.agent.redact import Veil
from styx.agent.spool import Spool, Stream
from styx.core.spec import TaskSpec
from styx.core.task import Reason
from styx.wire import agent as wire
from tests.agent.conftest import StartAgent
from tests.support.agent_server import AgentServer, Connection, a_key, assign

CANARY = "canary-0123456789"
OUTPUT = f"a{CANARY}b canary- {CANARY}{CANARY} canary-0123456780 canary-".encode()
SHOWN = OUTPUT.replace(CANARY.encode(), b"*" * len(CANARY))
POEM = "an old silent pond\na frog jumps into the pond\nsplash"


def sent_of(stream: Stream) -> bytes:
    messages, _ = stream.read(1 << 20)
    return b"".join(m.data for m in messages if isinstance(m, wire.Log))


def test_it_is_masked_wherever_the_output_is_cut(tmp_path: Path) -> None:
    """By tasks that write so many bytes at a time, all sent before the next."""
    for size in range(1, len(OUTPUT)):
        stream = Stream(a_key(), 1, str(tmp_path / f"{size}"), found=False)
        stream.veil = Veil([CANARY])
        got = b""
        for start in range(0, len(OUTPUT), size):
            with Path(stream.path).open("ab") as file:
                file.write(OUTPUT[start : start + size])
            got += sent_of(stream)
            assert SHOWN.startswith(got)
        assert len(got) == len(OUTPUT) - len("canary-")  # it may be a beginning
        stream.final = len(OUTPUT)
        assert got + sent_of(stream) == SHOWN


def test_a_long_output_is_masked_across_its_messages(tmp_path: Path) -> None:
    edge = wire.MAX_LOG_BYTES - 5
    text = os.urandom(edge) + CANARY.encode() + b"." * wire.MAX_LOG_BYTES + CANARY.encode()
    (tmp_path / "out").write_bytes(text)
    stream = Stream(a_key(), 1, str(tmp_path / "out"), found=False)
    stream.veil, stream.final = Veil([CANARY, "short"]), len(text)
    spool = Spool(1 << 30, 1 << 30)
    spool.add([stream])
    spool.touch(None)
    assert spool.take(1_000) == []  # in so little room no value would fit
    assert spool
    got = b"".join(m.data for m in spool.take(1 << 20) if isinstance(m, wire.Log))
    assert got == text.replace(CANARY.encode(), b"*" * len(CANARY))
    assert not spool


@pytest.mark.parametrize(
    "shown",
    [
        POEM,
        POEM.replace("\n", " ").removesuffix(" splash"),
        base64.b64encode(POEM.encode()).decode(),
        "an%20old%20silent%20pond%0Aa%20frog%20jumps%20into%20the%20pond%0Asplash",
    ],
    ids=["itself", "its lines", "base64", "in a URL"],
)
def test_other_forms_are_masked(shown: str) -> None:
    masked = Veil([f"{POEM}\n"]).masked(f"[{shown}]".encode(), 1 << 16, more=False)
    assert len(masked) == len(shown) + 2
    assert set(masked[1:-1]) <= set(b"* ")


def test_values_that_overlap_without_end_are_masked_and_get_on() -> None:
    veil, data = Veil(["aaaaaaaa"]), b"a" * (1 << 17)
    assert veil.masked(data, 1 << 16, more=True) == b"*" * (1 << 16)


def test_nothing_short_is_masked() -> None:
    assert not Veil(["five5", ""])


async def test_a_task_gets_it_and_no_file_but_its_own(
    connection: Connection, tmp_path: Path
) -> None:
    """While it runs the home of its agent holds the value nowhere, and neither does a command line."""
    key = a_key()
    script = 'read -r _ < go; test "$TOKEN" = "canary"-0123456789; echo "got $TOKEN"'
    os.mkfifo(tmp_path / "go")
    spec = TaskSpec("t", script=script, secrets={"TOKEN": "x"}, workdir=str(tmp_path))
    message = wire.Assign(key, 1, assign(key).job_id, "t", spec, secrets={"TOKEN": CANARY})
    assert CANARY not in repr(message)
    connection.send(message)
    await connection.wait(wire.EvStarted)
    assert holding(tmp_path / "home") == []
    running = [process.info["cmdline"] for process in psutil.process_iter(["cmdline"])]
    assert not any(CANARY in word for words in running for word in words or [])
    (tmp_path / "go").write_text("\n")
    assert (await connection.complete(key)).code == 0
    assert connection.server.output(key) == b"got " + b"*" * len(CANARY) + b"\n"


async def test_a_new_link_is_told_what_to_mask_before_it_sends(
    server: AgentServer, start_agent: StartAgent
) -> None:
    first = start_agent()
    connection = await server.accept()
    connection.storing = False
    await connection.ready()
    key = a_key()
    spec = TaskSpec("t", script="echo $TOKEN; exec sleep 1000", secrets={"TOKEN": "x"})
    connection.send(wire.Assign(key, 1, assign(key).job_id, "t", spec, secrets={"TOKEN": CANARY}))
    await connection.wait(wire.Log)
    first.process.kill()
    start_agent()
    connection = await server.accept()
    [held] = await connection.open()
    assert held.key == key
    connection.send(wire.Redact((key,), (CANARY,)), wire.SyncOk())
    await connection.until(lambda: server.output(key).endswith(b"\n"))
    assert server.output(key) == b"*" * len(CANARY) + b"\n"


async def test_without_one_of_its_secrets_it_does_not_start(connection: Connection) -> None:
    key = a_key()
    spec = TaskSpec("t", argv=("true",), secrets={"TOKEN": "x"})
    why = "the secret 'x' cannot be given: there is no such secret"
    connection.send(wire.Assign(key, 1, assign(key).job_id, "t", spec, secret_missing=why))
    end = await connection.end(key)
    assert (end.reason, end.detail, end.code) == (Reason.SECRET_MISSING, why, None)


def holding(home: Path) -> list[str]:
    return [str(f) for f in home.rglob("*") if f.is_file() and CANARY.encode() in f.read_bytes()]
