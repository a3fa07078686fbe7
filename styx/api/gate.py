"""The one way in: every request passes here before it reaches a route, and every answer on its way out.

Outside of the web framework, so that no route can be added past it. It names the request, decides
who may enter, reads the body within its limits, and bounds what is under way. A refusal takes the rest
of the body off the line: the HTTP server stalls for ever on one that nobody reads.
"""

import asyncio
import re
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final
from urllib.parse import unquote

from styx.api import limits, problems
from styx.api.asgi import Application, Headers, Message, Receive, Scope, Send
from styx.api.auth import OPEN_PATHS, Guard
from styx.api.traffic import OTHER, Traffic
from styx.config import Server
from styx.core import bundle
from styx.errors import LimitReached, StyxError, Unauthenticated
from styx.kit import uuid7
from styx.kit.lag import Lag
from styx.wire import agent as wire

JSON: Final = b"application/json"
SUBMIT_PATHS: Final = frozenset({"/api/v1/tasks", "/api/v1/jobs"})
# What other bodies are, and how large. No form of a web page can send the one that is not JSON either.
BODIES: Final = {
    "/api/v1/bundles": (JSON, bundle.MAX_MANIFEST_BYTES),
    "/api/v1/blobs": (bundle.BLOBS_TYPE.encode(), bundle.MAX_BATCH_BYTES),
}
OTHER_BODY_BYTES: Final = 1 << 20
BODY_WITHIN_S: Final = 300.0
BODY_GRACE_S: Final = 10.0  # before its pace counts
BODY_BYTES_PER_S: Final = 1 << 10  # slower than any line in use: somebody holds places
BODIES_BYTES: Final = 256 << 20  # of all requests together; beyond, 503
BUSY_LIMIT: Final = 512  # requests being worked on; who comes then waits for a place
PLACE_WITHIN_S: Final = 1.0  # beyond, 503: a client that waits elsewhere costs nothing here
# Of all headers; the HTTP server itself stops only at heads without an end.
HEAD_BYTES: Final = 32 << 10
HEADERS_MAX: Final = 100  # of a request; no client of ours sends ten
SHED_LOGS_AFTER_S: Final = 5.0  # the event loop was late without a pause: agents come first
SHED_LISTS_AFTER_S: Final = 10.0
OPEN_LIMIT: Final = 8_192  # with those that only wait or stream, and all WebSockets; beyond, 503
LINGER_S: Final = 2.0  # for a refused body to end, so that its sender reads the refusal

# Who asked the replica that sends this on. What has it is not sent on once more: two that err never play ball.
HOP: Final = b"x-styx-forwarded"
_ACTOR: Final = re.compile(r"[A-Za-z0-9:._-]{1,64}")
_LOGS: Final = re.compile(r"/api/v1/tasks/[^/]+/logs")
_LISTS: Final = re.compile(r"/api/v1/(tasks|jobs|agents|audit|events)")
ENCODED_SLASH: Final = "%2F"  # in the path of a request, once it is here
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_NOSNIFF: Final = (b"x-content-type-options", b"nosniff")
_EXPOSED: Final = b"X-Request-Id, Link, Retry-After, ETag"
_PREFLIGHT: Final[Headers] = [
    (b"access-control-allow-methods", b"GET, HEAD, POST, PUT, DELETE"),
    (
        b"access-control-allow-headers",
        b"authorization, content-type, idempotency-key, last-event-id, x-request-id, traceparent",
    ),
    (b"access-control-max-age", b"600"),
]


class Visit:
    """One request under way. Handlers find it as `scope["state"]["visit"]`."""

    def __init__(self, gate: "Gate", request_id: str) -> None:
        self.request_id = request_id
        self.came_s = time.monotonic()
        self.actor = ""  # who asks, once the guard has let them in
        self.answered = False
        self.gate = gate
        self.route = OTHER  # its template, once it is known
        self._busy = False

    async def work(self) -> None:
        """Return once there is a place. Raises: Overloaded."""
        try:
            async with asyncio.timeout(PLACE_WITHIN_S):
                await self.gate.places.acquire()
        except TimeoutError:
            raise problems.Overloaded(
                f"{BUSY_LIMIT} requests are being worked on, and none ended within "
                f"{PLACE_WITHIN_S:g} s",
                hint="ask again later, or ask for less at once",
            ) from None
        self._busy = True

    def refuse(self, error: Exception) -> problems.Answer:
        answer = problems.answer(error, self.request_id)
        self.gate.traffic.refused[answer.code] += 1
        return answer

    def rest(self) -> None:
        """It is answered, or only waits from now on: others may be worked on meanwhile."""
        if self._busy:
            self._busy = False
            self.gate.places.release()

    def stay(self) -> None:
        """It may go on for as long as the client likes: it rests, and ends when the server stops."""
        self.rest()
        task = asyncio.current_task()
        assert task is not None, "a request is served by a task"
        self.gate.staying.add(task)
        task.add_done_callback(self.gate.staying.discard)


class Gate:
    """`lag` is that of the loop in which it runs."""

    def __init__(self, app: Application, guard: Guard, settings: Server, lag: Lag) -> None:
        self._app = app
        self._guard = guard
        self.lag = lag
        self._submit_body_bytes = settings.max_body_bytes
        per_s, per_minute = settings.requests_per_token_per_s, settings.failed_auth_per_minute
        self._requests = limits.Rates(per_s, 2 * per_s, time.monotonic)
        self._failures = limits.Rates(per_minute / 60, per_minute, time.monotonic)
        self.traffic = Traffic()
        self._body_bytes = 0
        self.places = asyncio.Semaphore(BUSY_LIMIT)
        self.staying: set[asyncio.Task[object]] = set()

    def close(self) -> None:
        """The server stops, or the lead passes on: end the requests that would go on for as long as their
        clients like.
        """
        for task in tuple(self.staying):
            task.cancel()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        match scope["type"]:
            case "http":
                await self._http(scope, receive, send)
            case "websocket":
                await self._websocket(scope, receive, send)
            case _:
                await self._app(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers: dict[bytes, bytes] = dict(scope["headers"])
        visit = Visit(self, _request_id(headers))
        scope.setdefault("state", {})["visit"] = visit

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                visit.answered = True
                visit.rest()
                took_s = time.monotonic() - visit.came_s
                self.traffic.answered(visit.route, scope["method"], message["status"], took_s)
                added = self._added(visit.request_id, headers)
                message["headers"] = [*message["headers"], *added]
            await send(message)

        try:
            self._check(visit, scope, headers)
            size = self._body_size(scope, headers)
            with self._holding(visit, size):
                if size:
                    receive = _replay(await self._read(receive, size), receive)
                await self._pass(visit, scope, receive, answer)
        except StyxError as error:
            await _refuse(receive, answer, visit.refuse(error))
        except asyncio.CancelledError:
            if not visit.answered:  # nothing is known of the outcome
                stopping = problems.Overloaded("the server stops, or leads no longer; ask again")
                await respond(answer, visit.refuse(stopping))
            raise

    async def _pass(self, visit: Visit, scope: Scope, receive: Receive, answer: Send) -> None:
        if scope["method"] == "OPTIONS":
            await respond(answer, problems.Answer(200, _PREFLIGHT, b""))
            return
        if b"%2f" in scope["raw_path"].lower():
            scope = {**scope, "path": _path(scope["raw_path"])}
        if scope["method"] == "HEAD":  # the HTTP server leaves the body out
            scope = {**scope, "method": "GET"}
        await visit.work()
        await self._app(scope, receive, answer)

    @contextmanager
    def _holding(self, visit: Visit, size: int) -> Generator[None]:
        """What a request takes of the bounds, for as long as it is here."""
        self.traffic.open += 1
        self._body_bytes += size
        try:
            yield
        finally:
            self.traffic.open -= 1
            self._body_bytes -= size
            visit.rest()

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers: dict[bytes, bytes] = dict(scope["headers"])
        visit = Visit(self, _request_id(headers))
        scope.setdefault("state", {})["visit"] = visit
        try:
            self._check(visit, scope, headers)
        except StyxError as error:
            await reject(receive, send, error, visit)
            return
        with self._holding(visit, 0):
            await self._app(scope, receive, send)

    def _check(self, visit: Visit, scope: Scope, headers: dict[bytes, bytes]) -> None:
        """Raises: HttpVersion, HeadTooLarge, Forbidden, Unauthenticated, LimitReached, Overloaded."""
        if scope["http_version"] not in {"1.0", "1.1"}:
            raise problems.HttpVersion(f"not HTTP/{scope['http_version']}")
        given: Headers = scope["headers"]
        if len(given) > HEADERS_MAX or sum(len(n) + len(v) for n, v in given) > HEAD_BYTES:
            raise problems.HeadTooLarge(f"at most {HEADERS_MAX} headers of {HEAD_BYTES:,} bytes")
        if scope["path"] in OPEN_PATHS:
            return
        preflight = scope.get("method") == "OPTIONS" and self._guard.cors_origin(headers)
        if not preflight:  # a browser sends it without a credential
            self._admit(visit, scope, headers)
        if self.traffic.open >= OPEN_LIMIT:
            raise problems.Overloaded(
                f"{OPEN_LIMIT} requests and streams are open already",
                hint="end some of the streams, or ask again later",
            )
        if scope.get("method") in {"GET", "HEAD"}:  # what is handed in is not shed
            self._shed(scope["path"])

    def _admit(self, visit: Visit, scope: Scope, headers: dict[bytes, bytes]) -> None:
        """Raises: Forbidden, Unauthenticated, LimitReached."""
        try:
            actor = self._guard.admit(scope, headers)
        except Unauthenticated:
            # Only failures are turned away: else one of an address could shut all others of it out.
            client: tuple[str, int] | None = scope.get("client")
            wait_s = self._failures.take(limits.network(client[0] if client else ""))
            if wait_s:
                raise LimitReached(
                    "too many requests from this address had no valid token "
                    "(server.failed_auth_per_minute)",
                    retry_after_s=wait_s,
                    hint="send a valid token: who has one is let in at once",
                ) from None
            raise
        connection = limits.newcomer.get()
        if connection is not None:
            connection.known()
        said = headers.get(HOP, b"").decode("latin-1")
        visit.actor = f"{said} by {actor}" if _ACTOR.fullmatch(said) else actor
        wait_s = 0.0 if scope["path"] == wire.PATH else self._requests.take(visit.actor)
        if wait_s:
            raise LimitReached(
                "too many requests a second with one token (server.requests_per_token_per_s)",
                retry_after_s=wait_s,
                hint="submit many tasks in one request, or raise the limit",
            )

    def _shed(self, path: str) -> None:
        """Raises: Overloaded, for what can best be done without."""
        late_s = self.lag.late_for_s
        if (late_s > SHED_LOGS_AFTER_S and _LOGS.fullmatch(path)) or (
            late_s > SHED_LISTS_AFTER_S and _LISTS.fullmatch(path)
        ):
            raise problems.Overloaded(
                f"the server has been late for {late_s:.0f} s: logs and lists wait",
                hint="ask again later; tasks run on, and single ones may be asked for",
            )

    def _body_size(self, scope: Scope, headers: dict[bytes, bytes]) -> int:
        """The most that the body may hold; 0 without one. Raises: NotJson, TooLarge, Overloaded."""
        declared = headers.get(b"content-length")
        if declared in {None, b"0"} and b"transfer-encoding" not in headers:
            return 0
        wanted, limit = BODIES.get(scope["path"], (JSON, OTHER_BODY_BYTES))
        if scope["path"] in SUBMIT_PATHS:
            limit = self._submit_body_bytes
        media_type = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        if media_type != wanted:
            said = media_type.decode("latin-1") or "nothing"
            raise problems.NotJson(
                f"the body is declared as {said}", hint=f"send 'Content-Type: {wanted.decode()}'"
            )
        size = limit if declared is None else int(declared)
        if size > limit:
            raise _too_large(limit)
        if self._body_bytes + size > BODIES_BYTES:
            raise problems.Overloaded("too many large bodies are under way")
        return size

    async def _read(self, receive: Receive, size: int) -> bytes:
        """Raises: TooLarge, TooSlow."""
        parts: list[bytes] = []
        left = size
        started_s = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(None) as deadline:
                while True:
                    paced_s = BODY_GRACE_S + (size - left) / BODY_BYTES_PER_S
                    deadline.reschedule(started_s + min(BODY_WITHIN_S, paced_s))
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise problems.HttpRefusal("the body ends too soon")
                    parts.append(message.get("body", b""))
                    left -= len(parts[-1])
                    if left < 0:
                        raise _too_large(size)
                    if not message.get("more_body", False):
                        return b"".join(parts)
        except TimeoutError:
            raise problems.TooSlow(
                f"a body comes at {BODY_BYTES_PER_S:,} bytes a second or faster, "
                f"and within {BODY_WITHIN_S:.0f} s"
            ) from None

    def _added(self, request_id: str, headers: dict[bytes, bytes]) -> Headers:
        added = [(b"x-request-id", request_id.encode()), _NOSNIFF]
        connection = limits.newcomer.get()
        if connection is not None and not connection.introduced:
            # A place among 256, and seconds, are all it has.
            added.append((b"connection", b"close"))
        origin = self._guard.cors_origin(headers)
        if origin is not None:
            added += [
                (b"access-control-allow-origin", origin),
                (b"access-control-expose-headers", _EXPOSED),
                (b"vary", b"origin"),
            ]
        return added


def _path(raw: bytes) -> str:
    """A slash within a segment stays part of it: `sweep/3` is the name of one task."""
    segments = (unquote(segment) for segment in raw.decode("ascii").split("/"))
    return "/".join(segment.replace("/", ENCODED_SLASH) for segment in segments)


def _request_id(headers: dict[bytes, bytes]) -> str:
    """The client's own, if it is one, so that its log and ours name the same."""
    given = headers.get(b"x-request-id", b"").decode("latin-1")
    return given if _REQUEST_ID.fullmatch(given) else uuid7.new()


def _too_large(limit: int) -> problems.TooLarge:
    return problems.TooLarge(
        f"a body of at most {limit:,} bytes is taken here",
        hint="submit in several requests, or use `array` for many tasks of one kind",
    )


def _replay(body: bytes, receive: Receive) -> Receive:
    """The body in one message; after it, whatever else the connection says."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        return messages.pop() if messages else await receive()

    return replayed


async def respond(send: Send, answer: problems.Answer, *, more: bool = False) -> None:
    length = (b"content-length", str(len(answer.body)).encode())
    start = {
        "type": "http.response.start",
        "status": answer.status,
        "headers": [*answer.headers, length],
    }
    await send(start)
    await send({"type": "http.response.body", "body": answer.body, "more_body": more})


async def _refuse(receive: Receive, send: Send, answer: problems.Answer) -> None:
    """Answer at once, then take what is left of the body off the line before hanging up."""
    await respond(send, answer, more=True)
    # The end of the answer waits for room in the server's queue, which only reading makes.
    async with asyncio.TaskGroup() as group:
        rest = group.create_task(_discard(receive), name="discard the body")
        await asyncio.wait([rest], timeout=LINGER_S)
        await send({"type": "http.response.body", "body": b"", "more_body": False})
        rest.cancel()


async def _discard(receive: Receive) -> None:
    while (await receive()).get("more_body", False):
        pass


async def reject(receive: Receive, send: Send, error: StyxError, visit: Visit) -> None:
    """Refuse a WebSocket before it is accepted, with the problem as an ordinary answer."""
    answer = visit.refuse(error)
    headers = [*answer.headers, (b"x-request-id", visit.request_id.encode())]
    await receive()  # websocket.connect
    await send(
        {
            "type": "websocket.http.response.start",
            "status": answer.status,
            "headers": headers,
        }
    )
    await send({"type": "websocket.http.response.body", "body": answer.body, "more_body": False})
