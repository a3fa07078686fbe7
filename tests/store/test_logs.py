"""Log bytes: stored = written, whatever arrives, and whatever a crash left behind."""

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from styx.core.ids import AttemptKey, TaskId
from styx.errors import StoreUnavailable, WireMismatch
from styx.store.exchange import Chunk, Gap
from styx.store.logplan import OPENING_BYTES
from styx.store.logs import LogFiles
from styx.store.postgres import Database
from styx.store.segments import Place, Segments
from tests.support import made

SMALL_SEGMENT: Final = 10_000
DEADLINE_S: Final = 60.0


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """Nobody who waits for a lock here is given up, however slow the machine."""
    database = await Database.open(database_url, statement_timeout_s=600)
    yield database
    await database.close()


@pytest.fixture
async def logs(database: Database, tmp_path: Path) -> AsyncIterator[LogFiles]:
    logs = LogFiles(database, tmp_path / "logs", segment_bytes=SMALL_SEGMENT)
    yield logs
    logs.close()


def key() -> AttemptKey:
    return AttemptKey(TaskId(made.new_id()), 1, 0)


async def put(logs: LogFiles, at: AttemptKey, offset: int, data: bytes, stream: int = 1) -> int:
    return (await logs.append([Chunk(at, stream, offset, data)]))[0]


async def whole(logs: LogFiles, at: AttemptKey, stream: int = 1, limit: int = 1 << 20) -> bytes:
    """All bytes, read block by block; those of a gap as NULs."""
    data = b""
    gaps = {gap.start: gap.end for gap in await logs.gaps(at) if gap.stream == stream}
    while block := (
        await logs.read(at, stream, len(data), limit)
        or bytes(gaps.get(len(data), len(data)) - len(data))
    ):
        data += block
    return data


def segments(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "logs").glob("*.log"))


async def rows_of(database: Database, at: AttemptKey) -> int:
    async with database.readers.acquire() as connection:
        count = "SELECT count(*) FROM log_chunks WHERE task_id = $1"
        return int(await connection.fetchval(count, at.task_id))


async def test_a_small_output_costs_no_file(logs: LogFiles, tmp_path: Path):
    at = key()
    await put(logs, at, 0, b"hello\n")
    await put(logs, at, 6, b"\0\xff" * 2_000)
    assert await whole(logs, at) == b"hello\n" + b"\0\xff" * 2_000
    assert not segments(tmp_path)


@pytest.mark.parametrize("size", [OPENING_BYTES, OPENING_BYTES + 1, 3 * SMALL_SEGMENT])
async def test_an_output_of_any_size_is_read_back(logs: LogFiles, size: int):
    at, data = key(), os.urandom(size)
    await put(logs, at, 0, data)
    for limit in (size + 1, size, 1_000):
        assert await whole(logs, at, limit=limit) == data
    assert await logs.read(at, 1, 17, 40) == data[17:57]
    assert await logs.read(at, 1, size - 1, 40) == data[-1:]
    assert await logs.read(at, 1, size, 40) == b""
    assert await logs.read(at, 2, 0, 40) == await logs.read(key(), 1, 0, 40) == b""


async def test_a_stream_that_writes_alone_is_one_chunk_in_each_segment(
    logs: LogFiles, database: Database, tmp_path: Path
):
    at, data = key(), os.urandom(45_000)
    for offset in range(0, len(data), 1_000):
        await put(logs, at, offset, data[offset : offset + 1_000])
    assert await whole(logs, at) == data
    assert await rows_of(database, at) == len(segments(tmp_path)) == 5


async def test_streams_that_write_together_share_the_segments(logs: LogFiles, tmp_path: Path):
    keys = [key() for _ in range(20)]
    written = {(at, stream): os.urandom(6_000) for at in keys for stream in (1, 2)}

    async def write(at: AttemptKey, stream: int) -> None:
        data = written[at, stream]
        for offset in range(0, len(data), 500):
            assert await put(logs, at, offset, data[offset : offset + 500], stream) == offset + 500

    await asyncio.gather(*(write(at, stream) for at, stream in written))
    for (at, stream), data in written.items():
        assert await whole(logs, at, stream) == data
    assert len(segments(tmp_path)) < 40


async def test_a_gap_is_where_it_is(logs: LogFiles):
    at = key()
    await put(logs, at, 0, b"a" * 5_000)
    assert await logs.gap(at, 1, 5_000, 7_000, "spool_cap") == 7_000
    assert await logs.gap(at, 1, 6_000, 8_000, "spool_cap") == 8_000
    assert await logs.gap(at, 1, 8_000, 8_001, "disk_full") == 8_001
    await put(logs, at, 8_001, b"b" * 10)
    assert await logs.gaps(at) == [
        Gap(1, 5_000, 8_000, "spool_cap"),
        Gap(1, 8_000, 8_001, "disk_full"),
    ]
    assert await logs.read(at, 1, 4_990, 1_000) == b"a" * 10
    assert await logs.read(at, 1, 6_000, 1_000) == b""
    assert await logs.read(at, 1, 8_001, 1_000) == b"b" * 10
    assert await whole(logs, at) == b"a" * 5_000 + bytes(3_001) + b"b" * 10


async def test_a_stream_may_begin_with_a_gap(logs: LogFiles):
    at = key()
    await logs.gap(at, 2, 0, 100, "spool_cap")
    await put(logs, at, 100, b"rest", stream=2)
    assert await logs.gaps(at) == [Gap(2, 0, 100, "spool_cap")]
    assert await logs.read(at, 2, 100, 10) == b"rest"


async def test_past_the_limit_of_an_attempt_bytes_are_counted_and_not_kept(
    database: Database, tmp_path: Path
):
    logs = LogFiles(database, tmp_path / "logs", max_attempt_bytes=10_000)
    at = key()
    await put(logs, at, 0, b"e" * 1_000, stream=2)
    assert await put(logs, at, 0, b"o" * 8_000) == 8_000
    assert await put(logs, at, 8_000, b"o" * 8_000) == 16_000
    assert await put(logs, at, 16_000, b"o" * 8_000) == 24_000
    assert await put(logs, at, 1_000, b"e", stream=2) == 1_001
    assert await whole(logs, at) == b"o" * 9_000 + bytes(15_000)
    assert await logs.gaps(at) == [Gap(1, 9_000, 24_000, "limit"), Gap(2, 1_000, 1_001, "limit")]
    logs.close()


async def test_garbage_of_a_crash_is_never_read(database: Database, tmp_path: Path):
    """The bytes were written and synced, and the server died before it recorded them."""
    at, data = key(), os.urandom(9_000)
    before = LogFiles(database, tmp_path / "logs")
    await put(before, at, 0, data[:6_000])
    before._segments.append([b"garbage" * 999])
    before.close()
    after = LogFiles(database, tmp_path / "logs")
    await put(after, at, 6_000, data[6_000:])
    assert await whole(after, at) == data
    after.close()


async def test_a_failed_commit_leaves_nothing_and_can_be_repeated(
    logs: LogFiles, database: Database
):
    at, data = key(), os.urandom(9_000)
    await put(logs, at, 0, data[:5_000])
    async with database.readers.acquire() as other:
        await other.execute("ALTER TABLE log_chunks RENAME TO away")
        with pytest.raises(AssertionError):
            await put(logs, at, 5_000, data[5_000:])
        await other.execute("ALTER TABLE away RENAME TO log_chunks")
    assert await whole(logs, at) == data[:5_000]
    assert await put(logs, at, 5_000, data[5_000:]) == 9_000
    assert await whole(logs, at) == data


async def test_an_unknown_outcome_is_settled_by_the_database(logs: LogFiles, database: Database):
    """Recorded, but the answer was lost: what is sent again is not stored again."""
    at, data = key(), os.urandom(9_000)
    await put(logs, at, 0, data[:5_000])
    async with database.readers.acquire() as blocker, blocker.transaction():
        await blocker.execute("SELECT 1 FROM log_heads FOR UPDATE")
        lost = asyncio.create_task(put(logs, at, 5_000, data[5_000:]))
        while not await blocker.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND wait_event_type = 'Lock'"
        ):
            assert not lost.done()
        lost.cancel()
        await asyncio.gather(lost, return_exceptions=True)
    assert await put(logs, at, 5_000, data[5_000:]) == 9_000
    assert await put(logs, at, 8_000, data[8_000:]) == 9_000
    assert await whole(logs, at) == data


async def test_a_stopped_writer_fails_those_who_wait_for_it(logs: LogFiles, database: Database):
    async with database.readers.acquire() as blocker, blocker.transaction():
        await blocker.execute("LOCK TABLE log_heads IN ACCESS EXCLUSIVE MODE")
        at = key()
        first = asyncio.create_task(put(logs, at, 0, b"a"))
        await asyncio.sleep(0)
        waiting = [asyncio.create_task(put(logs, key(), 0, b"b")) for _ in range(2)]
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
    assert await asyncio.gather(*waiting) == [1, 1]
    assert await put(logs, at, 0, b"a") == 1


async def test_a_deposed_server_s_bytes_are_not_taken(logs: LogFiles, database: Database):
    at = key()
    await put(logs, at, 0, b"a")
    async with database.writers.acquire() as connection:
        await connection.execute("UPDATE leader_fence SET term = term + 1")
    with pytest.raises(StoreUnavailable, match="another server"):
        await put(logs, at, 1, b"b")
    assert await whole(logs, at) == b"a"


async def test_a_place_that_cannot_be_is_the_agent_s_fault(logs: LogFiles):
    at = key()
    for stream, start, end in ((0, 0, 1), (3, 0, 1), (1, -1, 1), (1, 2, 1), (1, 0, 1 << 63)):
        with pytest.raises(WireMismatch):
            await logs.gap(at, stream, start, end, "spool_cap")
    assert await logs.gap(at, 1, 0, 1, "spool\0cap") == 1
    assert await logs.gaps(at) == [Gap(1, 0, 1, "spoolcap")]


async def test_a_damaged_segment_is_said(logs: LogFiles, tmp_path: Path):
    at = key()
    await put(logs, at, 0, bytes(9_000))
    (segment,) = segments(tmp_path)
    os.truncate(segment, 10)
    with pytest.raises(StoreUnavailable, match="shorter"):
        await logs.read(at, 1, 0, 9_000)


async def test_bytes_on_another_server_s_disk_are_a_gap_until_they_are_there(
    database: Database, database_url: str, tmp_path: Path
):
    at, data = key(), os.urandom(20_000)
    here = LogFiles(database, tmp_path / "here")
    await put(here, at, 0, data[:10_000])
    successor = await Database.open(database_url)
    there = LogFiles(successor, tmp_path / "there")
    await put(there, at, 10_000, data[10_000:])
    assert await there.read(at, 1, 0, 20_000) == b""
    assert await there.gaps(at) == [Gap(1, 0, 10_000, "not on this server")]
    assert await there.read(at, 1, 10_000, 10_000) == data[10_000:]
    assert await here.read(at, 1, 0, 20_000) == data[:10_000]
    assert await here.gaps(at) == [Gap(1, 10_000, 20_000, "not on this server")]
    for path in tmp_path.glob("here/*.log"):
        path.rename(tmp_path / "there" / path.name)
    assert await there.read(at, 1, 0, 20_000) == data
    assert await there.gaps(at) == []
    here.close()
    there.close()
    await successor.close()


async def test_a_reader_is_woken_by_what_it_has_not_seen(logs: LogFiles):
    at = key()

    async def change(seen: Mapping[int, int]) -> bool:
        return await logs.changed(at, seen, timeout_s=DEADLINE_S)

    waiting = asyncio.create_task(change({}))
    await asyncio.sleep(0)
    await put(logs, key(), 0, b"of another")
    assert not waiting.done()
    await put(logs, at, 0, b"abc")
    assert await waiting
    assert await change({})
    assert await change({1: 2})
    both = [asyncio.create_task(change({1: 3})) for _ in range(2)]
    await put(logs, at, 0, b"e", stream=2)
    assert await asyncio.gather(*both) == [True, True]
    assert not await logs.changed(at, {1: 3, 2: 1}, timeout_s=0.01)
    assert not logs._watched


async def test_no_change_is_missed_between_reading_and_waiting(logs: LogFiles):
    at, data = key(), os.urandom(20_000)

    async def follow() -> bytes:
        got = b""
        while len(got) < len(data):
            if block := await logs.read(at, 1, len(got), 700):
                got += block
            else:
                assert await logs.changed(at, {1: len(got)}, timeout_s=DEADLINE_S)
        return got

    followers = [asyncio.create_task(follow()) for _ in range(3)]
    for offset in range(0, len(data), 250):
        await put(logs, at, offset, data[offset : offset + 250])
    assert await asyncio.gather(*followers) == [data] * 3


def test_segments_are_this_user_s_alone(tmp_path: Path):
    segments = Segments(tmp_path / "logs", 100, term=0)
    segments.append([b"secret"])
    assert (tmp_path / "logs").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "logs" / "00000001.log").stat().st_mode & 0o777 == 0o600
    segments.close()


def test_each_server_writes_to_segments_of_its_own(tmp_path: Path):
    """Though two think that they lead, in one directory, and even in one term."""
    servers = [Segments(tmp_path, 100, term) for term in (5, 6, 6)]
    blobs = [bytes([number]) * 20 for number in range(12)]
    places = [servers[number % 3].append([blob])[0] for number, blob in enumerate(blobs)]
    assert len(set(places)) == len(blobs)
    assert {place.segment >> 24 for place in places} == {5, 6}
    assert len({place.segment for place in places}) == 3
    for reader in servers:
        assert [reader.read(place, 20) for place in places] == blobs
    for server in servers:
        server.close()
        with pytest.raises(StoreUnavailable, match="closed"):
            server.append([b"late"])


def test_a_segment_that_is_full_is_followed_by_another(tmp_path: Path):
    segments = Segments(tmp_path, 100, term=0)
    places = [segments.append([b"x" * 20, b"y" * 20])[1] for _ in range(7)]
    assert places == [Place(number // 3 + 1, number % 3 * 40 + 20) for number in range(7)]
    segments.close()


def test_a_full_disk_is_unavailable_and_the_next_segment_is_new(tmp_path: Path):
    segments = Segments(tmp_path, 1_000, term=0)
    segments.append([b"a"])
    os.close(segments._file)
    segments._file = os.open(tmp_path / "00000001.log", os.O_RDONLY)  # as good as full
    with pytest.raises(StoreUnavailable, match="cannot be written"):
        segments.append([b"b"])
    assert segments.append([b"c"]) == [Place(2, 0)]
    segments.close()


# What arrives: at some offset near what is wanted, some bytes of the one true output, or a gap.
ARRIVALS = some.lists(
    some.tuples(
        some.integers(0, 2),  # attempt
        some.sampled_from([1, 2]),
        some.integers(-3_000, 50),  # from the offset wanted
        some.integers(0, 6_000),
        some.sampled_from(["", "", "", "spool_cap", "disk_full"]),
    ),
    max_size=30,
)
TRUTH: Final = bytes(range(1, 256)) * 1_000


@settings(
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(arrivals=some.lists(ARRIVALS, max_size=4), limit=some.sampled_from([1 << 30, 12_000]))
async def test_stored_is_written_but_for_gaps(
    database: Database, tmp_path: Path, arrivals: list[list[Any]], limit: int
):
    """Batches with restarts between: each stream is a prefix of the truth, with the gaps as told."""
    keys = [key() for _ in range(3)]
    wanted = {(at, stream): 0 for at in keys for stream in (1, 2)}
    for batch in arrivals:
        logs = LogFiles(database, tmp_path / "logs", SMALL_SEGMENT, limit)
        for number, stream, shift, length, why in batch:
            at = keys[number]
            start = max(0, wanted[at, stream] + shift)
            if why:
                now = await logs.gap(at, stream, start, start + length, why)
            else:
                now = await put(logs, at, start, TRUTH[start : start + length], stream)
            before = wanted[at, stream]
            assert now == (max(before, start + length) if start <= before else before)
            wanted[at, stream] = now
        logs.close()
    logs = LogFiles(database, tmp_path / "logs", SMALL_SEGMENT, limit)
    assert await logs.heads(keys) == {stream: end for stream, end in wanted.items() if end}
    for (at, stream), end in wanted.items():
        gaps = [gap for gap in await logs.gaps(at) if gap.stream == stream]
        expected = bytearray(TRUTH[:end])
        for gap in gaps:
            expected[gap.start : gap.end] = bytes(gap.end - gap.start)
        assert await whole(logs, at, stream, limit=3_000) == expected
    logs.close()
