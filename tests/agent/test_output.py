"""Output on its way from the spool to the server: exact, in order, bounded, and freed."""

import hashlib
import sys
from pathlib import Path

import pytest

from styx.agent import home
from styx.agent.roster import Roster
from styx.agent.spool import ALIGN_BYTES, Spool, Stream, size
from styx.wire import agent as wire
from tests.agent.conftest import StartAgent
from tests.support.agent_server import AgentServer, Connection, a_key, assign
from tests.support.agents import AgentProcess
from tests.support.supervised import eventually

MIB = 1 << 20
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="needs hole punching")


async def test_output_is_followed_while_the_task_runs(connection: Connection) -> None:
    key = a_key()
    connection.send(assign(key, "sh", "-c", "echo out; echo err >&2; sleep 1000"))
    await connection.until(lambda: connection.server.output(key, 1) == b"out\n")
    await connection.until(lambda: connection.server.output(key, 2) == b"err\n")
    assert key not in connection.server.ends


async def test_much_output_arrives_whole_with_little_credit(
    server: AgentServer, start_agent: StartAgent
) -> None:
    start_agent()
    connection = await server.accept()
    await connection.ready(log_credit_bytes=256 << 10)
    key = a_key()
    script = (
        "import hashlib, os, sys\n"
        "data = os.urandom(8 << 20)\n"
        "os.write(1, data)\n"
        "os.write(2, hashlib.sha256(data).hexdigest().encode())"
    )
    connection.send(assign(key, sys.executable, "-c", script))
    end = await connection.complete(key)
    assert end.out_bytes == 8 * MIB
    assert hashlib.sha256(server.output(key, 1)).hexdigest().encode() == server.output(key, 2)
    assert all(len(wire.encode(frame)) <= wire.MAX_FRAME_BYTES for frame in connection.frames)


async def test_without_credit_control_goes_on(server: AgentServer, start_agent: StartAgent) -> None:
    start_agent()
    connection = await server.accept()
    connection.storing = False
    await connection.ready(log_credit_bytes=128 << 10)
    flood, other = a_key(), a_key()
    connection.send(assign(flood, "sh", "-c", "head -c 1000000 /dev/zero; exit 3"))
    assert (await connection.end(flood)).code == 3  # the exit does not wait for the log
    connection.send(assign(other, "false"))
    assert (await connection.end(other)).code == 1
    sent = sum(len(message.data) for message in connection.seen if isinstance(message, wire.Log))
    assert sent == 128 << 10


async def test_after_a_cut_the_log_goes_on_where_the_server_has_it(connection: Connection) -> None:
    server, key = connection.server, a_key()
    connection.send(
        assign(
            key,
            "sh",
            "-c",
            "i=0; while [ $i -lt 3000 ]; do echo $i; i=$((i+1)); done; sleep 0.3; echo end",
        )
    )
    await connection.until(lambda: server.output(key))
    for _ in range(3):
        connection.cut()
        connection = await server.accept()
        await connection.ready()
    await connection.until(lambda: server.output(key).endswith(b"end\n"))
    assert server.output(key) == b"".join(b"%d\n" % number for number in range(3000)) + b"end\n"


@linux_only
async def test_what_the_server_has_is_freed_while_the_task_writes(
    connection: Connection, agent: AgentProcess
) -> None:
    key = a_key()
    connection.send(assign(key, "sh", "-c", f"head -c {16 * MIB} /dev/urandom; sleep 1000"))
    await connection.until(lambda: len(connection.server.output(key)) == 16 * MIB)
    spooled = Path(home.spool_path(str(agent.home), str(key), home.OUT_SUFFIX))
    await eventually(lambda: spooled.stat().st_blocks * 512 < 2 * MIB)
    assert spooled.stat().st_size == 16 * MIB


@linux_only
async def test_an_unheard_flood_is_cut_to_its_cap_and_the_gap_is_told(
    server: AgentServer, start_agent: StartAgent
) -> None:
    agent = start_agent(spool_bytes_per_attempt=4 * MIB)
    connection = await server.accept()
    await connection.ready()
    key = a_key()
    script = f"echo begin; head -c {24 * MIB} /dev/zero | tr '\\0' x; echo end; sleep 1000"
    connection.storing = False
    connection.send(assign(key, "sh", "-c", script))
    spooled = Path(home.spool_path(str(agent.home), str(key), home.OUT_SUFFIX))
    await connection.wait(wire.EvStarted)
    connection.cut()
    total = len(b"begin\n") + 24 * MIB + len(b"end\n")
    await eventually(lambda: spooled.exists() and spooled.stat().st_size == total)
    again = await server.accept()
    await again.open()
    await eventually(lambda: spooled.stat().st_blocks * 512 < 8 * MIB)
    again.send(wire.SyncOk())
    await again.until(lambda: server.output(key).endswith(b"end\n"))
    output = server.output(key)
    gaps = [message for message in again.seen if isinstance(message, wire.Gap)]
    assert [gap.why for gap in gaps] == ["spool_cap"]
    assert output.startswith(b"begin\nxxx")
    assert len(output) == total
    assert output.count(b"~") == gaps[0].end - gaps[0].start
    assert set(output[6 : gaps[0].start]) | set(output[gaps[0].end : -4]) == {ord("x")}


@linux_only
async def test_a_gap_is_found_again_by_the_next_link(
    server: AgentServer, start_agent: StartAgent
) -> None:
    """The holes in the file are the record of it."""
    agent = start_agent(spool_bytes_per_attempt=2 * MIB)
    connection = await server.accept()
    connection.storing = False
    await connection.ready()
    key = a_key()
    connection.send(
        assign(key, "sh", "-c", f"head -c {16 * MIB} /dev/zero | tr '\\0' x; sleep 1000")
    )
    spooled = Path(home.spool_path(str(agent.home), str(key), home.OUT_SUFFIX))
    await connection.wait(wire.EvStarted)
    connection.cut()
    await eventually(lambda: spooled.exists() and spooled.stat().st_size == 16 * MIB)
    await eventually(lambda: spooled.stat().st_blocks * 512 < 8 * MIB)
    await server.accept()  # of the link that is about to die
    agent.kill_link()
    agent.start()
    again = await server.accept()
    await again.ready()
    await again.until(lambda: len(server.output(key)) == 16 * MIB)
    gap = await again.wait(wire.Gap)
    assert server.output(key).count(b"~") == gap.end - gap.start
    assert server.output(key).count(b"x") == 16 * MIB - (gap.end - gap.start)


class TestStream:
    """Reading one file; no agent needed."""

    def stream(self, path: Path, content: bytes, *, found: bool = False) -> Stream:
        path.write_bytes(content)
        return Stream(a_key(), 1, str(path), found=found)

    def test_a_file_that_is_not_there_yet_has_nothing_to_send(self, tmp_path: Path) -> None:
        stream = Stream(a_key(), 1, str(tmp_path / "none"), found=False)
        assert stream.read(100) == ([], False)
        assert stream.length() == 0

    def test_reading_stops_at_the_final_length(self, tmp_path: Path) -> None:
        """Whatever a survivor of the task writes later is nobody's output."""
        stream = self.stream(tmp_path / "out", b"abcdef")
        stream.final = 4
        (message,), more = stream.read(100)
        assert isinstance(message, wire.Log)
        assert (message.data, more) == (b"abcd", False)

    def test_a_file_taken_away_by_hand_becomes_a_gap(self, tmp_path: Path) -> None:
        stream = self.stream(tmp_path / "out", b"abcdef")
        stream.final = 6
        (tmp_path / "out").unlink()
        (gap,), more = stream.read(100)
        assert isinstance(gap, wire.Gap)
        assert (gap.start, gap.end, gap.why, more) == (0, 6, "lost", False)

    def test_a_file_cut_short_by_hand_becomes_a_gap(self, tmp_path: Path) -> None:
        stream = self.stream(tmp_path / "out", b"abc")
        stream.final = 6
        messages, more = stream.read(100)
        assert [type(message) for message in messages] == [wire.Log, wire.Gap]
        assert (stream.sent, more) == (6, False)

    def test_a_limit_is_a_limit(self, tmp_path: Path) -> None:
        stream = self.stream(tmp_path / "out", bytes(200_000))
        messages, more = stream.read(100_000)
        assert more
        assert [len(m.data) for m in messages if isinstance(m, wire.Log)] == [65536, 34464]

    @linux_only
    def test_a_hole_is_a_gap_and_the_bytes_around_it_are_exact(self, tmp_path: Path) -> None:
        content = b"x" * (16 * ALIGN_BYTES)
        stream = self.stream(tmp_path / "out", content)
        stream.sent = 100
        assert stream.drop(13 * ALIGN_BYTES) == 13 * ALIGN_BYTES
        messages: list[wire.Log | wire.Gap] = []
        more = True
        while more:
            got, more = stream.read(1000)
            messages += got
        gaps = [message for message in messages if isinstance(message, wire.Gap)]
        assert [(gap.start, gap.end) for gap in gaps] == [(ALIGN_BYTES, 14 * ALIGN_BYTES)]
        logs = b"".join(m.data for m in messages if isinstance(m, wire.Log))
        assert logs == b"x" * (16 * ALIGN_BYTES - 100 - 13 * ALIGN_BYTES)

    def filled(self, path: Path, blocks: int, acked: int = 0) -> Stream:
        stream = self.stream(path, b"x" * (blocks * ALIGN_BYTES))
        stream.sent = stream.acked = acked * ALIGN_BYTES
        return stream

    @linux_only
    def test_both_streams_of_an_attempt_share_its_cap(self, tmp_path: Path) -> None:
        out, err = self.filled(tmp_path / "out", 60), self.filled(tmp_path / "err", 30)
        err.key = out.key
        other = self.filled(tmp_path / "other", 60)
        spool = Spool(80 * ALIGN_BYTES, 1 << 30)
        spool.add([out, err, other])
        spool.touch(None)
        spool.shorten()
        kept = [stream.kept_bytes() // ALIGN_BYTES for stream in (out, err, other)]
        assert kept == [10, 30, 60]
        spool.shorten()
        assert kept == [stream.kept_bytes() // ALIGN_BYTES for stream in (out, err, other)]

    @linux_only
    def test_all_attempts_together_have_a_cap_that_the_largest_pay_for(
        self, tmp_path: Path
    ) -> None:
        sizes = [8, 64, 40, 20]
        streams = [self.filled(tmp_path / str(size), size) for size in sizes]
        spool = Spool(1 << 30, 80 * ALIGN_BYTES)
        spool.add(streams)
        spool.touch(None)
        spool.shorten()
        assert [stream.kept_bytes() // ALIGN_BYTES for stream in streams] == [8, 32, 20, 10]
        messages = spool.take(1 << 30)
        while spool:
            messages += spool.take(1 << 30)
        gaps = [(m.end - m.start) // ALIGN_BYTES for m in messages if isinstance(m, wire.Gap)]
        assert sorted(gaps) == [10, 20, 32]
        assert size(messages) == sum(sizes) * ALIGN_BYTES

    @linux_only
    def test_what_an_earlier_link_freed_does_not_count(self, tmp_path: Path) -> None:
        """A link that comes back does not know yet what the server has."""
        first = self.filled(tmp_path / "out", 100)
        first.acknowledge(80 * ALIGN_BYTES)
        stream = Stream(first.key, 1, first.path, found=True)
        spool = Spool(30 * ALIGN_BYTES, 1 << 30)
        spool.add([stream])
        spool.touch(None)
        spool.shorten()
        assert stream.kept_bytes() == 20 * ALIGN_BYTES

    @linux_only
    def test_holes_are_gaps_where_the_claim_was_lost_and_the_output_was_not(
        self, tmp_path: Path
    ) -> None:
        """Assigned anew, to a link that knows nothing of the file."""
        key = a_key()
        path = Path(home.spool_path(str(tmp_path), str(key), home.OUT_SUFFIX))
        path.parent.mkdir()
        assert self.filled(path, 8).drop(4 * ALIGN_BYTES) == 4 * ALIGN_BYTES
        roster = Roster(str(tmp_path), {})
        entry = roster.add(key, {"gpus": [], "exclusive": False})
        lost = {"reason": "exit_status_lost", "out_bytes": 8 * ALIGN_BYTES}
        roster.apply(entry, {"k": str(key), "exit": lost})
        (gap, *logs), more = entry.streams[0].read(1 << 20)
        assert not more
        assert isinstance(gap, wire.Gap)
        assert (gap.start, gap.end) == (0, 4 * ALIGN_BYTES)
        assert b"".join(m.data for m in logs if isinstance(m, wire.Log)) == b"x" * 4 * ALIGN_BYTES

    @linux_only
    def test_dropping_again_goes_on_behind_the_gap(self, tmp_path: Path) -> None:
        stream = self.filled(tmp_path / "out", 16)
        stream.sent = 100
        assert [stream.drop(4 * ALIGN_BYTES) for _ in range(5)] == [
            blocks * ALIGN_BYTES for blocks in (4, 4, 4, 3, 0)
        ]

    def test_streams_take_turns(self, tmp_path: Path) -> None:
        spool = Spool(1 << 30, 1 << 30)
        streams = [self.stream(tmp_path / name, bytes(200_000)) for name in "ab"]
        spool.add(streams)
        spool.touch(["a", "b", "unknown"])
        first = spool.take(128 << 10)
        assert [message.key for message in first] == [stream.key for stream in streams]
        while spool:
            assert spool.take(1 << 20)
        assert all(stream.sent == 200_000 for stream in streams)
