"""The gate before a small application, behind the real HTTP server: bodies, bounds, refusals, the stop."""

import asyncio
import json
import time
from contextlib import asynccontextmanager

import httpx
import pytest

from styx.api import gate
from styx.api.auth import Guard
from styx.api.listener import bind
from styx.config import Auth, Config, Server
from styx.errors import SetupError
from styx.kit.lag import Lag
from tests.api.conftest import serving

JSON = {"content-type": "application/json"}


class Echo:
    """Answers with what came; `/slow` waits to be let go, `/stream` goes on until its client is gone."""

    def __init__(self):
        self.go = asyncio.Event()
        self.arrived = asyncio.Event()
        self.ended = asyncio.Event()

    async def __call__(self, scope, receive, send):
        if scope["type"] == "lifespan":
            await self.lifespan(receive, send)
            return
        if scope["type"] == "websocket":
            await self.websocket(scope, receive, send)
            return
        message = await receive()
        await getattr(self, scope["path"].strip("/") or "echo", self.echo)(scope, message, send)

    async def lifespan(self, receive, send):
        while True:
            phase = (await receive())["type"]
            await send({"type": f"{phase}.complete"})
            if phase == "lifespan.shutdown":
                return

    async def websocket(self, scope, receive, send):
        scope["state"]["visit"].stay()
        await receive()
        await send({"type": "websocket.accept"})
        self.arrived.set()
        try:
            while (await receive())["type"] != "websocket.disconnect":
                pass
        finally:
            self.ended.set()

    async def echo(self, scope, message, send):
        answer = {"method": scope["method"], "bytes": len(message.get("body", b""))}
        await self.answer(send, json.dumps(answer).encode())

    async def slow(self, _scope, _message, send):
        self.arrived.set()
        await self.go.wait()
        await self.answer(send, b"{}")

    async def stream(self, scope, _message, send):
        scope["state"]["visit"].stay()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"first", "more_body": True})
        self.arrived.set()
        try:
            await self.go.wait()
        finally:
            self.ended.set()

    async def answer(self, send, body):
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": False})


@asynccontextmanager
async def gated(token, *, app=None, lag=None, graceful_s=2.0, peer=True, **settings):
    app = app or Echo()
    config = Config(server=Server(**settings), auth=Auth(peer=peer))
    lag = lag or Lag(time.monotonic)
    door = gate.Gate(app, Guard(config, token), config.server, lag)
    async with serving(door, graceful_s=graceful_s) as (url, stop):
        bearer = {"authorization": f"Bearer {token}"}
        async with httpx.AsyncClient(base_url=url, headers=bearer, timeout=20) as client:
            yield client, app, stop


def assert_problem(answer, status, code):
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert (problem["status"], problem["code"]) == (status, code)
    assert problem["type"] == f"/schema#problem-{code}"
    assert problem["title"]
    assert problem["detail"]
    assert problem["request_id"] == answer.headers["x-request-id"]
    return problem


async def test_every_answer_is_named(token):
    async with gated(token) as (client, _, _):
        own = await client.get("/", headers={"x-request-id": "mine-1"})
        assert own.headers["x-request-id"] == "mine-1"
        made = await client.get("/", headers={"x-request-id": "not <mine>"})
        assert len(made.headers["x-request-id"]) == 36
        assert made.headers["x-content-type-options"] == "nosniff"


async def test_a_body_passes_whole(token):
    async with gated(token) as (client, _, _):
        body = b"x" * 1_000_000
        declared = await client.post("/api/v1/tasks", content=body, headers=JSON)
        assert declared.json() == {"method": "POST", "bytes": 1_000_000}

        async def pieces():
            for _ in range(100):
                yield body[:10_000]

        chunked = await client.post("/api/v1/tasks", content=pieces(), headers=JSON)
        assert chunked.json()["bytes"] == 1_000_000


async def test_a_head_is_a_get_without_its_body(token):
    async with gated(token) as (client, _, _):
        answer = await client.head("/")
        assert (answer.status_code, answer.content) == (200, b"")


@pytest.mark.parametrize("path", ["/api/v1/tasks", "/api/v1/jobs"])
async def test_a_body_over_its_limit_is_refused_and_the_sender_reads_why(token, path):
    async with gated(token, max_body_bytes=4 << 20) as (client, _, _):
        declared = await client.post(path, content=b"x" * (8 << 20), headers=JSON)
        assert "4,194,304 bytes" in assert_problem(declared, 413, "too_large")["detail"]

        async def endless():
            for _ in range(64):
                yield b"x" * (1 << 18)

        chunked = await client.post(path, content=endless(), headers=JSON)
        assert_problem(chunked, 413, "too_large")
        assert (await client.get("/")).status_code == 200


async def test_other_routes_take_smaller_bodies(token):
    async with gated(token) as (client, _, _):
        answer = await client.post("/other", content=b"x" * ((1 << 20) + 1), headers=JSON)
        assert_problem(answer, 413, "too_large")


async def test_a_stranger_with_a_large_body_is_refused_at_once(token):
    async with gated(token) as (client, _, _):
        headers = {**JSON, "authorization": "Bearer wrong"}
        answer = await client.post("/api/v1/tasks", content=b"x" * (8 << 20), headers=headers)
        problem = assert_problem(answer, 401, "unauthenticated")
        assert "Authorization: Bearer" in problem["hint"]
        assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
async def test_a_body_is_json_or_refused(token, kind):
    async with gated(token) as (client, _, _):
        headers = {"content-type": kind} if kind else {}
        answer = await client.post("/", content=b"{}", headers=headers)
        assert "application/json" in assert_problem(answer, 415, "not_json")["hint"]
        utf8 = {"content-type": "Application/JSON; charset=utf-8"}
        assert (await client.post("/", content=b"{}", headers=utf8)).status_code == 200
        assert (await client.post("/")).status_code == 200


async def test_a_body_that_does_not_come_is_not_waited_for(token, monkeypatch):
    monkeypatch.setattr(gate, "BODY_WITHIN_S", 0.2)
    monkeypatch.setattr(gate, "LINGER_S", 0.2)
    async with gated(token) as (client, _, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", client.base_url.port)
        writer.write(
            b"POST /api/v1/tasks HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Authorization: Bearer %b\r\nContent-Length: 10\r\n\r\n12345" % token.encode()
        )
        answer = await asyncio.wait_for(reader.read(), 10)
        assert answer.startswith(b"HTTP/1.1 408")
        assert b"too_slow" in answer
        writer.close()
        await writer.wait_closed()


async def test_a_body_that_trickles_is_refused_and_one_that_flows_is_not(token, monkeypatch):
    monkeypatch.setattr(gate, "BODY_GRACE_S", 0.3)
    monkeypatch.setattr(gate, "LINGER_S", 0.1)
    async with gated(token) as (client, _, _):

        async def pieces(size):
            for _ in range(20):
                yield b"x" * size
                await asyncio.sleep(0.05)

        flows = await client.post("/api/v1/tasks", content=pieces(1_000), headers=JSON)
        assert flows.json()["bytes"] == 20_000
        reader, writer = await asyncio.open_connection("127.0.0.1", client.base_url.port)
        writer.write(
            b"POST /api/v1/tasks HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Authorization: Bearer %b\r\nContent-Length: 100\r\n\r\n" % token.encode()
        )
        answer = asyncio.ensure_future(reader.read())
        async with asyncio.timeout(10):
            while not answer.done():
                writer.write(b"1")
                await asyncio.sleep(0.05)
        assert (await answer).startswith(b"HTTP/1.1 408")
        writer.close()


async def test_so_much_work_and_no_more(token, monkeypatch):
    monkeypatch.setattr(gate, "BUSY_LIMIT", 2)
    async with gated(token) as (client, app, _):
        busy = [asyncio.ensure_future(client.get("/slow")) for _ in range(2)]
        try:
            async with asyncio.timeout(10):
                while True:
                    answer = await client.get("/")
                    if answer.status_code == 503:
                        break
            assert_problem(answer, 503, "overloaded")
            assert int(answer.headers["retry-after"]) >= 1
        finally:
            app.go.set()
        assert {(await b).status_code for b in busy} == {200}
        assert (await client.get("/")).status_code == 200


async def test_what_only_streams_leaves_room_for_work(token, monkeypatch):
    monkeypatch.setattr(gate, "BUSY_LIMIT", 1)
    async with gated(token) as (client, _, _), client.stream("GET", "/stream") as streamed:
        assert streamed.status_code == 200
        assert (await client.get("/")).status_code == 200


async def test_but_not_without_bound(token, monkeypatch):
    monkeypatch.setattr(gate, "OPEN_LIMIT", 1)
    async with gated(token) as (client, _, _), client.stream("GET", "/stream"):
        assert_problem(await client.get("/"), 503, "overloaded")


async def test_bodies_under_way_are_bounded_together(token, monkeypatch):
    monkeypatch.setattr(gate, "BODIES_BYTES", 1_000)
    async with gated(token) as (client, _, _):
        answer = await client.post("/api/v1/tasks", content=b"x" * 1_001, headers=JSON)
        assert_problem(answer, 503, "overloaded")
        for _ in range(3):  # what was held is given back
            fits = await client.post("/api/v1/tasks", content=b"x" * 900, headers=JSON)
            assert fits.status_code == 200


async def test_a_name_of_somebody_else_is_refused(token):
    async with gated(token) as (client, _, _):
        answer = await client.get("/", headers={"host": "evil.test"})
        assert_problem(answer, 403, "forbidden")


async def test_configured_origins_may_read_answers(token):
    async with gated(token, cors_origins=("https://ui.example",)) as (client, _, _):
        asking = {"origin": "https://ui.example"}
        preflight = await client.options(
            "/api/v1/tasks",
            headers={**asking, "access-control-request-method": "POST", "authorization": ""},
        )
        assert preflight.status_code == 200
        assert preflight.headers["access-control-allow-origin"] == "https://ui.example"
        assert "authorization" in preflight.headers["access-control-allow-headers"]
        answer = await client.get("/", headers=asking)
        assert answer.headers["access-control-allow-origin"] == "https://ui.example"
        assert "access-control-allow-credentials" not in answer.headers
        refused = await client.get("/", headers={**asking, "authorization": "Bearer x"})
        assert refused.headers["access-control-allow-origin"] == "https://ui.example"
        other = await client.options("/", headers={"origin": "https://evil.test"})
        assert_problem(other, 403, "forbidden")


async def test_http_2_is_not_spoken(token):
    async with (
        gated(token) as (client, _, _),
        httpx.AsyncClient(http1=False, http2=True, headers=client.headers) as modern,
    ):
        assert_problem(await modern.get(client.base_url), 505, "http_version")


# --- the stop -------------------------------------------------------------------------------------


async def websocket(client):
    reader, writer = await asyncio.open_connection("127.0.0.1", client.base_url.port)
    writer.write(
        b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
        b"Authorization: %b\r\n\r\n" % client.headers["authorization"].encode()
    )
    return reader, writer


async def test_the_stop_ends_streams_and_sockets_at_once(token):
    async with gated(token, graceful_s=30) as (client, app, stop):
        reader, writer = await websocket(client)
        assert (await reader.readline()).startswith(b"HTTP/1.1 101")
        streamer = Echo()
        async with gated(token, app=streamer, graceful_s=30) as (other, _, other_stop):
            async with other.stream("GET", "/stream") as streamed:
                pieces = streamed.aiter_bytes()
                assert await anext(pieces) == b"first"
                started = time.monotonic()
                other_stop.set()
                with pytest.raises(httpx.RemoteProtocolError):
                    await anext(pieces)
            await streamer.ended.wait()
        stop.set()
        await app.ended.wait()
        await reader.read()
        assert time.monotonic() - started < 10
        writer.close()
        await writer.wait_closed()


async def test_the_stop_lets_work_end(token):
    async with gated(token, graceful_s=30) as (client, app, stop):
        working = asyncio.ensure_future(client.get("/slow"))
        await app.arrived.wait()
        stop.set()
        app.go.set()
        assert (await working).status_code == 200


async def test_the_stop_has_an_end(token):
    started = time.monotonic()
    async with gated(token, graceful_s=0.3) as (client, app, stop):
        working = asyncio.ensure_future(client.get("/slow"))
        await app.arrived.wait()
        stop.set()
        assert_problem(await working, 503, "overloaded")
    assert time.monotonic() - started < 10


async def test_a_taken_port_is_said():
    with bind("127.0.0.1", 0) as first, pytest.raises(SetupError) as caught:
        bind("127.0.0.1", first.getsockname()[1])
    assert "cannot listen on 127.0.0.1" in caught.value.message
    assert "--port" in caught.value.hint
