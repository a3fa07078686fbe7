"""Output over HTTP: every byte once, in order, as soon as it is there, and to the end of the task."""

import asyncio
import base64
import hashlib
import json
import time
import zlib

import httpx
import pytest

from styx.api import following
from styx.core.ids import AttemptKey, TaskId
from styx.errors import StoreUnavailable
from styx.wire import agent as wire
from tests.api.conftest import ended, started, wrote


async def text(site, task_id, **params):
    answer = await site.http.get(f"/api/v1/tasks/{task_id}/logs", params=params)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    return answer.content


class Reader:
    """A request that follows; its pieces are asked for one by one."""

    def __init__(self, site, task_id, headers=None, **params):
        path = f"/api/v1/tasks/{task_id}/logs"
        params = {"follow": 1, **params}
        self._request = site.http.stream("GET", path, params=params, headers=headers)
        self.got = b""

    async def __aenter__(self):
        self._answer = await self._request.__aenter__()
        assert self._answer.status_code == 200
        self._pieces = self._answer.aiter_bytes()
        return self

    async def __aexit__(self, *error):
        await self._request.__aexit__(*error)

    async def until(self, end: bytes) -> None:
        async with asyncio.timeout(30):
            while not self.got.endswith(end):
                self.got += await anext(self._pieces)

    async def rest(self) -> bytes:
        async with asyncio.timeout(30):
            async for piece in self._pieces:
                self.got += piece
        return self.got


async def test_a_task_that_never_ran_has_no_output(site):
    assert await text(site, await site.submit()) == b""


async def test_each_stream_and_both(site, agent):
    task_id = await site.submit()
    key = await started(agent, task_id)
    await wrote(agent, key, b"one\n")
    await wrote(agent, key, b"two\n", stream=2)
    await wrote(agent, key, b"three\n", offset=4)
    assert await text(site, task_id, stream="out") == b"one\nthree\n"
    assert await text(site, task_id, stream="err") == b"two\n"
    assert await text(site, task_id) == b"one\nthree\ntwo\n"


async def test_from_an_offset(site, agent):
    task_id = await site.submit()
    key = await started(agent, task_id)
    await wrote(agent, key, b"0123456789")
    assert await text(site, task_id, stream="out", offset=4) == b"456789"
    assert await text(site, task_id, offset=4) == b"456789"
    assert await text(site, task_id, stream="out", offset=99) == b""
    await site.refused(400, "GET", f"/api/v1/tasks/{task_id}/logs?offset=-1")


@pytest.mark.parametrize(
    ("written", "lines", "tail"),
    [
        (b"a\nb\nc\n", 2, b"b\nc\n"),
        (b"a\nb\nc", 2, b"b\nc"),
        (b"a\nb\nc\n", 3, b"a\nb\nc\n"),
        (b"a\nb\nc\n", 99, b"a\nb\nc\n"),
        (b"a\nb\nc\n", 0, b""),
        (b"a\nb\nc", 0, b""),
        (b"\n\n\n", 2, b"\n\n"),
        (b"", 5, b""),
        (b"x" * 200_000 + b"\ny\n", 1, b"y\n"),
        (b"z\n" + b"x" * 200_000 + b"\ny\n", 2, b"x" * 200_000 + b"\ny\n"),
    ],
)
async def test_the_last_lines(site, agent, written, lines, tail):
    task_id = await site.submit()
    key = await started(agent, task_id)
    await wrote(agent, key, written)
    assert await text(site, task_id, stream="out", tail=lines) == tail


async def test_an_attempt_and_a_rank_by_number(site, agent):
    task_id = await site.submit(retries=1)
    key = await started(agent, task_id)
    await wrote(agent, key, b"first\n")
    assert await text(site, task_id, attempt=1) == b"first\n"
    await site.refused(404, "GET", f"/api/v1/tasks/{task_id}/logs?attempt=2")
    await site.refused(404, "GET", f"/api/v1/tasks/{task_id}/logs?rank=1")
    await site.refused(400, "GET", f"/api/v1/tasks/{task_id}/logs?attempt=0")
    await site.refused(404, "GET", "/api/v1/tasks/nope/logs")


async def test_what_is_gone_is_told(site, agent):
    task_id = await site.submit()
    key = await started(agent, task_id)
    await wrote(agent, key, b"begin\n")
    agent.say(wire.Gap(key, 1, 6, 1_000_006, "spool_cap"))
    await agent.hear(wire.LogOk, lambda ok: ok.next == 1_000_006)
    await wrote(agent, key, b"end\n", offset=1_000_006)
    told = b"begin\n[styx: 1,000,000 bytes dropped: spool_cap]\nend\n"
    assert await text(site, task_id, stream="out") == told
    assert await text(site, task_id, stream="out", offset=1_000_006) == b"end\n"


# --- following ------------------------------------------------------------------------------------


async def test_following_ends_with_the_task(site, agent):
    task_id = await site.submit()
    async with Reader(site, task_id, stream="out") as reader:
        key = await started(agent, task_id)
        for number in range(5):
            line = b"line %d\n" % number
            await wrote(agent, key, line, offset=7 * number)
            await reader.until(line)
        await ended(agent, key, code=0, out_bytes=35)
        assert await reader.rest() == b"".join(b"line %d\n" % n for n in range(5))


async def test_bytes_that_come_after_the_exit_are_waited_for(site, agent):
    task_id = await site.submit()
    async with Reader(site, task_id) as reader:
        key = await started(agent, task_id)
        await ended(agent, key, code=0, out_bytes=6, err_bytes=4)
        assert (await site.get(f"/tasks/{task_id}"))["status"] == "succeeded"
        await wrote(agent, key, b"hello\n")
        await wrote(agent, key, b"err\n", stream=2)
        assert sorted((await reader.rest()).split()) == [b"err", b"hello"]


async def test_following_goes_on_over_retries(site, agent):
    task_id = await site.submit(retries=1, run="x", command=None)
    async with (
        Reader(site, task_id, stream="out") as reader,
        Reader(site, task_id, stream="out", headers={"accept": "text/event-stream"}) as events,
    ):
        key = await started(agent, task_id)
        await wrote(agent, key, b"one\n")
        async with Reader(site, task_id, attempt=1) as first_only:
            await ended(agent, key, code=1, out_bytes=4)
            assert await first_only.rest() == b"one\n"
        again = AttemptKey(TaskId(task_id), 2, 0)
        await started(agent, task_id, n=2)
        await wrote(agent, again, b"two\n")
        await ended(agent, again, code=0, out_bytes=4)
        assert await reader.rest() == b"one\ntwo\n"
        assert b'"attempt":2' in await events.rest()


async def test_following_what_never_runs(site):
    task_id = await site.submit()
    async with Reader(site, task_id) as reader:
        await site.post(f"/tasks/{task_id}/cancel", status=202)
        assert await reader.rest() == b""


async def test_following_what_is_over_ends_at_once(site, agent):
    task_id = await site.submit()
    key = await started(agent, task_id)
    await wrote(agent, key, b"done\n")
    await ended(agent, key, code=0, out_bytes=5)
    assert await text(site, task_id, follow="true") == b"done\n"


async def test_a_line_is_there_when_it_is_written(site, agent, monkeypatch):
    monkeypatch.setattr(following, "LOOK_S", 3_600.0)  # nothing but the news wakes the reader
    task_id = await site.submit()
    key = await started(agent, task_id)
    took_ms = []
    async with Reader(site, task_id, stream="out") as reader:
        await wrote(agent, key, b"x")
        await reader.until(b"x")
        for number in range(20):
            begun = time.perf_counter()
            await wrote(agent, key, b"%x" % (number % 16), offset=1 + number)
            await reader.until(b"%x" % (number % 16))
            took_ms.append(1_000 * (time.perf_counter() - begun))
    assert sorted(took_ms)[10] < 500  # a bound for a busy machine; the figure is bench's


async def test_a_stream_that_breaks_off_does_not_look_complete(site, agent, monkeypatch):
    task_id = await site.submit()
    key = await started(agent, task_id)
    await wrote(agent, key, b"first\n")
    async with Reader(site, task_id, stream="out") as reader:
        await reader.until(b"first\n")

        async def away(*_):
            raise StoreUnavailable("the database does not answer")

        monkeypatch.setattr(site.logs, "read", away)
        await wrote(agent, key, b"second\n", offset=6)
        with pytest.raises(httpx.RemoteProtocolError):
            await reader.rest()
    monkeypatch.undo()
    assert await text(site, task_id, stream="out", offset=6) == b"second\n"


async def test_binary_output_is_exact_and_bounded(site, agent):
    """8 MiB of every byte: what comes out is what went in, and the reader's memory is not that of it."""
    block = bytes(range(256)) * 256
    task_id = await site.submit()
    key = await started(agent, task_id)
    whole = hashlib.sha256()
    offset = 0
    for number in range(128):
        data = block[number:] + block[:number]
        agent.say(_log(key, data, offset))
        whole.update(data)
        offset += len(data)
        if number % 32 == 31:
            await agent.hear(wire.LogOk, lambda ok, end=offset: ok.next == end)
    await ended(agent, key, code=0, out_bytes=offset)
    got = hashlib.sha256()
    largest = 0
    path = f"/api/v1/tasks/{task_id}/logs"
    async with site.http.stream("GET", path, params={"stream": "out", "follow": 1}) as answer:
        async for piece in answer.aiter_raw():
            got.update(piece)
            largest = max(largest, len(piece))
    assert got.digest() == whole.digest()
    assert largest <= following.BLOCK_BYTES


def _log(key, data, offset):
    return wire.Log(key, 1, offset, data, zlib.crc32(data))


# --- server-sent events -----------------------------------------------------------------------------


def parse(stream: bytes):
    """Its events: (id, kind, data)."""
    found = []
    for block in stream.decode().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
        if "data" in fields:
            found.append((fields["id"], fields["event"], json.loads(fields["data"])))
    return found


async def events(site, task_id, last_id=None, **params):
    headers = {"accept": "text/event-stream"} | ({"last-event-id": last_id} if last_id else {})
    path = f"/api/v1/tasks/{task_id}/logs"
    answer = await site.http.get(path, params=params, headers=headers)
    assert answer.headers["content-type"] == "text/event-stream"
    return parse(answer.content)


async def test_events_name_their_place_and_resume(site, agent):
    task_id = await site.submit()
    key = await started(agent, task_id)
    await wrote(agent, key, b"h\xc3\xa9llo\n")
    await wrote(agent, key, b"\xff\xfe", stream=2)
    agent.say(wire.Gap(key, 1, 7, 17, "limit"))
    await agent.hear(wire.LogOk, lambda ok: ok.next == 17)
    await ended(agent, key, code=0, out_bytes=17, err_bytes=2)
    place = {"attempt": 1, "rank": 0}
    told = await events(site, task_id, follow=1)
    assert told == [
        ("1:7:0", "log", {**place, "stream": "out", "offset": 0, "text": "héllo\n"}),
        ("1:17:0", "gap", {**place, "stream": "out", "offset": 7, "bytes": 10, "why": "limit"}),
        (
            "1:17:2",
            "log",
            {
                **place,
                "stream": "err",
                "offset": 0,
                "base64": base64.b64encode(b"\xff\xfe").decode(),
            },
        ),
        ("1:17:2", "end", {"status": "succeeded"}),
    ]
    for number, (event_id, _, _) in enumerate(told[:-1]):
        assert await events(site, task_id, event_id, follow=1) == told[number + 1 :]
    headers = {"accept": "text/event-stream", "last-event-id": "x"}
    await site.refused(400, "GET", f"/api/v1/tasks/{task_id}/logs", headers=headers)


async def test_events_of_a_part(site, agent):
    task_id = await site.submit()
    key = await started(agent, task_id)
    await wrote(agent, key, b"a\nb\nc\n")
    told = await events(site, task_id, stream="out", offset=2)
    assert [(data.get("offset"), data.get("text")) for _, _, data in told] == [
        (2, "b\nc\n"),
        (None, None),
    ]
    told = await events(site, task_id, tail=1)
    assert [(kind, data.get("text")) for _, kind, data in told] == [("log", "c\n"), ("end", None)]
