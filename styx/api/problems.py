"""Every refusal as RFC 9457 `application/problem+json`. The only place that knows which error is which code.

`code` is the machine word, stable for scripts; `type` leads to its line in the docs at /schema.
"""

import random
import traceback
from typing import Any, Final, NamedTuple, cast

import msgspec
import structlog
from litestar.exceptions import HTTPException

from styx.api.asgi import Headers
from styx.errors import (
    Conflict,
    Forbidden,
    InvalidSpec,
    LimitReached,
    NotFound,
    RequestError,
    StaleWrite,
    StoreUnavailable,
    StyxError,
    Unauthenticated,
    WriteRefused,
)
from styx.wire import http

MEDIA_TYPE: Final = "application/problem+json"

log: structlog.stdlib.BoundLogger = structlog.get_logger()
_encoder: Final = msgspec.json.Encoder()


class Kind(NamedTuple):
    status: int
    code: str
    title: str


class HttpRefusal(RequestError):
    """A request that is wrong as HTTP, before it means anything. Raised by the API only."""

    kind = Kind(400, "bad_request", "The request cannot be understood")


class MethodNotAllowed(HttpRefusal):
    kind = Kind(405, "method_not_allowed", "The resource does not do that")


class TooSlow(HttpRefusal):
    kind = Kind(408, "too_slow", "The body did not arrive in time")


class TooLarge(HttpRefusal):
    kind = Kind(413, "too_large", "The body is too large")


class NotJson(HttpRefusal):
    kind = Kind(415, "not_json", "The body is not JSON")


class UpgradeRequired(HttpRefusal):
    kind = Kind(426, "upgrade_required", "This is a WebSocket")


class HeadTooLarge(HttpRefusal):
    kind = Kind(431, "head_too_large", "The head of the request is too large")


class Overloaded(HttpRefusal):
    kind = Kind(503, "overloaded", "The server has its hands full")


class NoLeader(HttpRefusal):
    kind = Kind(503, "no_leader", "No server leads at the moment")


class HttpVersion(HttpRefusal):
    kind = Kind(505, "http_version", "HTTP/1.1 is spoken here")


INTERNAL: Final = Kind(500, "internal", "The server failed")
KINDS: Final[dict[type[StyxError], Kind]] = {
    InvalidSpec: Kind(422, "invalid_spec", "The document cannot be accepted"),
    NotFound: Kind(404, "not_found", "There is no such thing"),
    Conflict: Kind(409, "conflict", "The request contradicts what is there"),
    Unauthenticated: Kind(401, "unauthenticated", "Who is asking?"),
    Forbidden: Kind(403, "forbidden", "That is not allowed from there"),
    LimitReached: Kind(429, "limit_reached", "Too much at once"),
    StoreUnavailable: Kind(503, "store_unavailable", "The database does not answer"),
    StaleWrite: Kind(503, "not_leader", "Another server has taken over"),
    WriteRefused: Kind(409, "refused", "The database refuses the change"),
    **{
        refusal: refusal.kind
        for refusal in (
            HttpRefusal,
            MethodNotAllowed,
            TooSlow,
            TooLarge,
            NotJson,
            UpgradeRequired,
            HeadTooLarge,
            Overloaded,
            NoLeader,
            HttpVersion,
        )
    },
}


class Answer(NamedTuple):
    status: int
    headers: Headers
    body: bytes
    code: str = ""  # of a refusal


def answer(error: Exception, request_id: str) -> Answer:
    """What the client gets for an error. One that nobody foresaw is logged, and tells nothing."""
    if isinstance(error, HTTPException):
        error = _of_litestar(error)
    kind = next((KINDS[c] for c in type(error).__mro__ if c in KINDS), INTERNAL)
    if kind is INTERNAL or not isinstance(error, StyxError):
        # Formatted here: a renderer might print local variables, and with them secrets.
        trace = "".join(traceback.format_exception(error))
        log.error("unhandled error", request_id=request_id, exception=trace)
        detail, hint = "an unforeseen error; the server's log has it under the request id", ""
    else:
        detail, hint = error.message, error.hint
    problem = http.Problem(
        type=f"/schema#problem-{kind.code}",
        title=kind.title,
        status=kind.status,
        detail=detail,
        code=kind.code,
        hint=hint,
        request_id=request_id,
        errors=[http.ProblemField(e.path, e.message) for e in _fields(error)],
    )
    return Answer(kind.status, _headers(error, kind), _encoder.encode(problem), kind.code)


def wrong_parameter(name: str, message: str) -> HttpRefusal:
    """Of the query."""
    return HttpRefusal(f"{name}: {message}", errors=[http.ProblemField(name, message)])


def _headers(error: Exception, kind: Kind) -> Headers:
    headers: Headers = [(b"content-type", MEDIA_TYPE.encode())]
    if isinstance(error, LimitReached):
        headers.append((b"retry-after", str(max(1, round(error.retry_after_s))).encode()))
    elif kind.status == 503:
        # Spread, so that those who were turned away together do not return together.
        headers.append((b"retry-after", str(random.randint(1, 5)).encode()))  # noqa: S311 - no secret
    if kind.status == 401:
        headers.append((b"www-authenticate", b'Bearer realm="styx"'))
    if isinstance(error, MethodNotAllowed) and "allow" in error.context:
        headers.append((b"allow", str(error.context["allow"]).encode()))
    return headers


def _fields(error: Exception) -> list[http.ProblemField]:
    if isinstance(error, InvalidSpec):
        return [http.ProblemField(field.path, field.message) for field in error.errors]
    if isinstance(error, HttpRefusal):
        return cast("list[http.ProblemField]", error.context.get("errors", []))
    return []


def _of_litestar(error: HTTPException) -> Exception:
    """The framework's own refusals: no such route, another method, a parameter of the wrong kind."""
    match error.status_code:
        case 404:
            return NotFound("there is no such route", hint="the routes are listed at /schema")
        case 405:
            allow = (error.headers or {}).get("allow", "")
            return MethodNotAllowed(f"the route takes {allow or 'another method'}", allow=allow)
        case 413:
            return TooLarge(error.detail)
        case status if 400 <= status < 500:
            fields = [_parameter(e) for e in cast("list[dict[str, Any]]", error.extra or [])]
            said = f"{fields[0].path}: {fields[0].message}" if fields else error.detail
            return HttpRefusal(said, errors=fields)
        case _:
            return error


def _parameter(entry: dict[str, Any]) -> http.ProblemField:
    return http.ProblemField(str(entry.get("key", "")), str(entry.get("message", "")))
