"""What a server answers while another one leads: it sends everything on, and knows a little by itself.

The client has been let in by our own gate; to the leader we are its administrator, by the token that
replicas share. While there is no leader, tasks and jobs are read from the database; the rest is for
later (503).
"""

import re
from typing import Final

import msgspec
import structlog

from styx import __version__
from styx.api import forward, measures, metrics, problems
from styx.api.asgi import Application, Headers, Receive, Scope, Send
from styx.api.gate import HOP, Visit, reject, respond
from styx.api.health import SERVICE
from styx.api.sockets import AgentSocket
from styx.api.traffic import FORWARDED
from styx.engine import session
from styx.engine.admission import Doorstep
from styx.engine.replica import Replica
from styx.errors import StyxError
from styx.kit import supervise
from styx.wire import agent as wire
from styx.wire import http

ASKED: Final = frozenset(
    {
        b"accept",
        b"content-type",
        b"idempotency-key",
        b"if-none-match",
        b"last-event-id",
        b"traceparent",
    }
)
# Of the connection, or ours to say.
NOT_ANSWERED: Final = frozenset(
    {
        b"connection",
        b"date",
        b"keep-alive",
        b"proxy-authenticate",
        b"server",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"x-content-type-options",
        b"x-request-id",
    }
)
ALONE: Final = re.compile(r"/api/v1/(tasks|jobs)(/[^/]+(/(events|graph))?)?")

log: structlog.stdlib.BoundLogger = structlog.get_logger()
_encode: Final = msgspec.json.Encoder().encode


class Follower:
    """`alone` answers what `ALONE` names."""

    def __init__(self, replica: Replica, token: str, alone: Application) -> None:
        self._replica = replica
        self._bearer = (b"authorization", b"Bearer " + token.encode())
        self._alone = alone
        doorstep = Doorstep()
        self._agents = AgentSocket(
            lambda channel: session.refuse(channel, replica.leader, doorstep)
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _live(receive, send)
            return
        visit: Visit = scope["state"]["visit"]
        path: str = scope["path"]
        if path == wire.PATH:
            await self._agents(scope, receive, send)
        elif scope["type"] == "websocket":
            await reject(receive, send, self._elsewhere(), visit)
        elif path == "/health":
            health = http.Health(status="healthy", version=__version__, service=SERVICE)
            await _answer(send, 200, health)
        elif path == "/readyz":
            await self._ready(send)
        elif path == metrics.PATH:  # ours: the leader is asked by itself
            await self._metrics(scope, send, visit)
        elif not await self._forwarded(scope, receive, send, visit):
            try:
                if not _readable(scope):
                    raise self._nobody()
                await self._alone(scope, receive, send)
            except StyxError as error:
                await respond(send, visit.refuse(error))

    async def _ready(self, send: Send) -> None:
        replica = self._replica
        ready = replica.reading and replica.leader is not None
        database = "ok" if replica.reading else "unavailable"
        await _answer(
            send, 200 if ready else 503, http.Ready(ready=ready, database=database, leader=False)
        )

    async def _metrics(self, scope: Scope, send: Send, visit: Visit) -> None:
        visit.route = metrics.PATH
        leader = self._replica.leader
        readings = measures.of_follower(visit.gate.traffic, visit.gate.lag, leader)
        accept = dict(scope["headers"]).get(b"accept", b"").decode("latin-1")
        media_type, body = metrics.exposition(readings, accept)
        headers: Headers = [(b"content-type", media_type.encode())]
        await respond(send, problems.Answer(200, headers, body))

    async def _forwarded(self, scope: Scope, receive: Receive, send: Send, visit: Visit) -> bool:
        """False when nobody has answered; then nothing has been sent either."""
        leader = self._replica.leader
        headers: Headers = scope["headers"]
        if leader is None or any(name == HOP for name, _ in headers):
            return False
        visit.route = FORWARDED
        visit.stay()  # it only waits; and asks anew when the leader changes
        body = await _body(receive)
        asked = [(name, value) for name, value in headers if name in ASKED]
        asked += [
            (HOP, visit.actor.encode()),
            (b"x-request-id", visit.request_id.encode()),
            self._bearer,
        ]
        target = scope["raw_path"] + (b"?" + query if (query := scope["query_string"]) else b"")

        async def relay() -> None:
            async with forward.exchange(
                leader.address, scope["method"], target, asked, body
            ) as answer:
                kept = [(name, value) for name, value in answer.headers if name not in NOT_ANSWERED]
                await send(
                    {"type": "http.response.start", "status": answer.status, "headers": kept}
                )
                async for part in answer.body:
                    await send({"type": "http.response.body", "body": part, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})

        async def listen() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass

        lost = False
        try:
            await supervise.until_first_ends(relay=relay, listen=listen)
        except* forward.LOST as errors:
            lost = True
            fault = str(errors.exceptions[0])
            log.warning("the leader did not answer", leader=leader.address, error=fault)
        # Once begun, all that could be said is that this is not the end.
        return visit.answered or not lost

    def _elsewhere(self) -> problems.NoLeader:
        """A WebSocket is not sent on; what it says, /api/v1/events says too, and that is."""
        leader = self._replica.leader
        if leader is None:
            return self._nobody()
        return problems.NoLeader(
            f"another server leads: {leader.address}",
            hint="open the WebSocket there, or follow /api/v1/events here",
        )

    @staticmethod
    def _nobody() -> problems.NoLeader:
        return problems.NoLeader("no server leads at the moment; ask again")


async def _live(receive: Receive, send: Send) -> None:
    """Of the HTTP server, which has begun before anybody leads."""
    while True:
        stage = (await receive())["type"]
        await send({"type": f"{stage}.complete"})
        if stage == "lifespan.shutdown":
            return


def _readable(scope: Scope) -> bool:
    """Not a wait: what it waits for is known to a leader only."""
    waits = b"wait=" in scope["query_string"]
    return scope["method"] == "GET" and not waits and ALONE.fullmatch(scope["path"]) is not None


async def _body(receive: Receive) -> bytes:
    """The gate has read it, and found it small enough."""
    parts: list[bytes] = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


async def _answer(send: Send, status: int, value: object) -> None:
    headers: Headers = [(b"content-type", b"application/json")]
    await respond(send, problems.Answer(status, headers, _encode(value)))
