"""What changes, as it changes: server-sent events, and the WebSocket that says the same."""

import asyncio
import json

from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    RejectConnection,
    RejectData,
    Request,
    TextMessage,
)

from styx.wire import agent as wire
from tests.api.conftest import TOKEN, ended, started
from tests.support import engines, peer


class Socket:
    """A WebSocket client over a real connection."""

    def __init__(self, site, path, *, headers=None, subprotocols=()):
        bearer = [("authorization", f"Bearer {TOKEN}")] if headers is None else headers
        self._port = site.http.base_url.port
        self._request = Request("localhost", path, extra_headers=bearer, subprotocols=subprotocols)
        self._connection = WSConnection(ConnectionType.CLIENT)
        self._events = []

    async def __aenter__(self):
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        self.say(self._request)
        return self

    async def __aexit__(self, *_):
        self._writer.close()
        await self._writer.wait_closed()

    def say(self, event):
        self._writer.write(self._connection.send(event))

    async def hear(self):
        async with asyncio.timeout(30):
            while not self._events:
                data = await self._reader.read(65_536)
                self._connection.receive_data(data or None)
                self._events += self._connection.events()
        return self._events.pop(0)


async def follow(site, headers=None, **params):
    """Events of an open stream, as they come."""
    path = "/api/v1/events"
    async with site.http.stream("GET", path, params=params, headers=headers) as answer:
        assert answer.headers["content-type"] == "text/event-stream"
        async for line in answer.aiter_lines():
            if line.startswith("data: "):
                yield json.loads(line.removeprefix("data: "))


async def test_changes_are_told_and_resumed(site, agent):
    told = follow(site)
    first = asyncio.ensure_future(anext(told))
    await engines.until(lambda: site.engine.feed._news._waiters)
    task_id = await site.submit(name="t")
    seen = [await first]
    while seen[-1]["kind"] != "task":
        seen.append(await anext(told))
    await ended(agent, await started(agent, task_id), code=0)
    while seen[-1]["status"] != "succeeded" or seen[-1]["kind"] != "job":
        seen.append(await anext(told))
    of_task = [e for e in seen if e["kind"] == "task"]
    assert {e["object_id"] for e in of_task} == {task_id}
    assert [e["status"] for e in of_task][-2:] == ["running", "succeeded"]
    await told.aclose()
    for resumed in (
        follow(site, headers={"last-event-id": seen[0]["id"]}),
        follow(site, since=seen[0]["id"]),
    ):
        assert [await anext(resumed) for _ in seen[1:]] == seen[1:]
        await resumed.aclose()


async def test_an_id_of_another_server_is_answered_by_a_reset(empty):
    told = follow(empty, since="9999-1")
    assert (await anext(told))["kind"] == "reset"
    await told.aclose()


async def test_the_socket_says_the_same(site):
    async with Socket(site, "/api/v1/stream", subprotocols=["styx.stream.1"]) as socket:
        assert (await socket.hear()).subprotocol == "styx.stream.1"
        await engines.until(lambda: site.engine.feed._news._waiters)
        task_id = await site.submit()
        told = [json.loads((await socket.hear()).data) for _ in range(2)]
        assert {event["kind"] for event in told} == {"task", "job"}
    async with Socket(site, f"/api/v1/stream?since={told[0]['id']}") as resumed:
        assert isinstance(await resumed.hear(), AcceptConnection)
        assert json.loads((await resumed.hear()).data) == told[1]
        assert task_id in {event["object_id"] for event in told}


async def test_sockets_are_refused_before_they_are_accepted(empty):
    async def refused(path, **how):
        async with Socket(empty, path, **how) as socket:
            rejected = await socket.hear()
            assert isinstance(rejected, RejectConnection)
            body = await socket.hear()
            assert isinstance(body, RejectData)
            return rejected.status_code, json.loads(body.data)["code"]

    bearer = ("authorization", f"Bearer {TOKEN}")
    wrong = [("authorization", "Bearer wrong")]
    for path in ("/api/v1/stream", wire.PATH):
        assert await refused(path, headers=wrong) == (401, "unauthenticated")
        foreign = [bearer, ("origin", "http://evil.test")]
        assert await refused(path, headers=foreign) == (403, "forbidden")
    own = [bearer, ("origin", "http://localhost")]
    agents = {"headers": own, "subprotocols": [wire.SUBPROTOCOL]}
    assert await refused(wire.PATH, **agents) == (403, "forbidden")
    assert await refused(wire.PATH) == (400, "bad_request")
    assert await refused("/api/v1/stream", subprotocols=["mqtt"]) == (400, "bad_request")


async def test_a_socket_is_no_page(empty):
    for path in ("/api/v1/stream", wire.PATH):
        assert (await empty.refused(426, "GET", path))["code"] == "upgrade_required"


# --- the socket of agents -------------------------------------------------------------------------


def heard(event):
    assert isinstance(event, BytesMessage), event
    return wire.decode_from_server(bytes(event.data))


async def test_an_agent_speaks_over_its_socket(site):
    async with Socket(site, wire.PATH, subprotocols=[wire.SUBPROTOCOL]) as socket:
        assert (await socket.hear()).subprotocol == wire.SUBPROTOCOL
        socket.say(BytesMessage(wire.encode([peer.hello()])))
        (welcome,) = heard(await socket.hear())
        assert isinstance(welcome, wire.Welcome)
        socket.say(BytesMessage(wire.encode([wire.Sync(0, last=True)])))
        assert any(isinstance(m, wire.SyncOk) for m in heard(await socket.hear()))
        (shown,) = await site.get("/agents")
        assert (shown["name"], shown["status"]) == ("agent-1", "ready")
        assert shown["last_seen_s"] < 30
        task_id = await site.submit()
        (assign,) = heard(await socket.hear())
        assert assign.key.task_id == task_id
    await engines.until(lambda: not len(site.engine.links))


async def test_nonsense_ends_the_session_with_a_word(empty):
    async with Socket(empty, wire.PATH, subprotocols=[wire.SUBPROTOCOL]) as socket:
        await socket.hear()
        socket.say(BytesMessage(b"nonsense"))
        (bye,) = heard(await socket.hear())
        assert bye.code == wire.CLOSE_PROTOCOL
        closed = await socket.hear()
        assert isinstance(closed, CloseConnection)
        assert closed.code == wire.CLOSE_PROTOCOL
    async with Socket(empty, wire.PATH, subprotocols=[wire.SUBPROTOCOL]) as socket:
        await socket.hear()
        socket.say(TextMessage("text"))
        (bye,) = heard(await socket.hear())
        assert bye.code == wire.CLOSE_PROTOCOL


async def test_a_frame_too_big_ends_the_session(empty):
    async with Socket(empty, wire.PATH, subprotocols=[wire.SUBPROTOCOL]) as socket:
        await socket.hear()
        socket.say(BytesMessage(b"x" * (wire.MAX_FRAME_BYTES + 1)))
        closed = await socket.hear()
        assert isinstance(closed, CloseConnection)
        assert closed.code == 1009
