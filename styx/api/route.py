"""A route as data: what it does, takes and answers. Both the router and the OpenAPI document read it."""

import functools
import typing
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar, cast
from urllib.parse import parse_qsl

import msgspec
from litestar import Request, Response

from styx.api import problems
from styx.api.gate import ENCODED_SLASH, Visit
from styx.core.fields import did_you_mean
from styx.errors import (
    Conflict,
    Forbidden,
    InvalidSpec,
    LimitReached,
    NotFound,
    RequestError,
    StoreUnavailable,
    StyxError,
    Unauthenticated,
)

JSON: Final = "application/json"
QUERY_BYTES: Final = 8 << 10

Call = Request[Any, Any, Any]
Handler = Callable[[Call], Awaitable[Response[Any]]]
Refusals = tuple[type[RequestError], ...]

FINDING: Final[Refusals] = (NotFound, Conflict)  # of a route that names its object by a reference
CHANGING: Final[Refusals] = (*FINDING, LimitReached)
SUBMITTING: Final[Refusals] = (InvalidSpec, Conflict, LimitReached)
MAKING: Final = {  # headers of what makes tasks
    "idempotency-key": "Makes a repeated request the same one: it is done once.",
    "traceparent": "W3C Trace Context: the tasks' spans belong to that trace.",
}
REPEATED: Final = {200: "Done before, by the same key"}
UNCHANGED: Final = {304: "As `If-None-Match` has it"}
OVER: Final = {200: "It was over already"}
# A body is read and judged before it is known whether the route wants one.
_ANYWHERE: Final[Refusals] = (
    problems.HttpRefusal,
    problems.TooSlow,
    problems.TooLarge,
    problems.NotJson,
    problems.HeadTooLarge,
    problems.Overloaded,
)
_BEHIND_THE_GATE: Final[tuple[type[StyxError], ...]] = (
    Unauthenticated,
    Forbidden,
    LimitReached,
    StoreUnavailable,
)
Q = TypeVar("Q", bound=msgspec.Struct)

_DECLARED: Final = "styx_route"
_encoder: Final = msgspec.json.Encoder()


class NoQuery(msgspec.Struct, frozen=True):
    """No parameters."""


@dataclass(frozen=True, slots=True)
class Route:
    """`answer` is the type of a good answer, or a tuple of those that it may have. `also` are other good statuses; `headers` those that it
    takes; `refuses` what it may raise beyond what every route may.
    """

    method: str
    path: str
    operation_id: str
    answer: Any
    status: int = 200
    query: type[msgspec.Struct] = NoQuery
    body: Any = None  # the type of the request's body
    body_type: str = JSON
    example: Any = None  # of the body
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    also: Mapping[int, str] = field(default_factory=dict[int, str])
    media_types: tuple[str, ...] = (JSON,)
    refuses: Refusals = ()
    open: bool = False  # to everybody
    exact: bool = False  # the `{id}` of its path is a whole one

    @property
    def answers(self) -> tuple[Any, ...]:
        answer: object = self.answer
        if isinstance(answer, tuple):
            return cast("tuple[Any, ...]", answer)
        return (answer,)

    @property
    def tag(self) -> str:
        """Of /api/v1/tasks/…: tasks."""
        return self.path.removeprefix("/api/v1/").strip("/").partition("/")[0]

    @property
    def kinds(self) -> list[problems.Kind]:
        """Every refusal that it may answer with."""
        refuses = (*self.refuses, *_ANYWHERE, *(() if self.open else _BEHIND_THE_GATE))
        return sorted({*(problems.KINDS[refusal] for refusal in refuses), problems.INTERNAL})


H = TypeVar("H", bound=Callable[..., Awaitable[Response[Any]]])


def get(path: str, operation_id: str, answer: Any, **more: Any) -> Callable[[H], H]:
    """Declare a method to be the handler of a route; its docstring describes it, first line first."""
    return _declared(Route("GET", path, operation_id, answer, **more))


def post(path: str, operation_id: str, answer: Any, **more: Any) -> Callable[[H], H]:
    return _declared(Route("POST", path, operation_id, answer, **more))


def put(path: str, operation_id: str, answer: Any, **more: Any) -> Callable[[H], H]:
    return _declared(Route("PUT", path, operation_id, answer, **more))


def delete(path: str, operation_id: str, answer: Any, **more: Any) -> Callable[[H], H]:
    return _declared(Route("DELETE", path, operation_id, answer, **more))


def of(part: object) -> Iterator[tuple[Route, Handler]]:
    """The routes that the methods of an object were declared to handle, in their order."""
    for name, method in vars(type(part)).items():
        route = getattr(method, _DECLARED, None)
        if isinstance(route, Route):
            yield route, getattr(part, name)


def _declared(route: Route) -> Callable[[H], H]:
    def declare(method: H) -> H:
        setattr(method, _DECLARED, route)
        return method

    return declare


def reply(
    value: object, status: int = 200, headers: dict[str, str] | None = None
) -> Response[bytes]:
    return Response(_encoder.encode(value), status_code=status, headers=headers, media_type=JSON)


def visit(call: Call) -> Visit:
    return call.scope["state"]["visit"]


def reference(call: Call) -> str:
    """What stands for the object in the path: an id, a prefix of one, a name, or `last`."""
    return call.path_params["id"].replace(ENCODED_SLASH, "/")


def read_query(call: Call, model: type[Q]) -> Q:
    """The parameters behind the question mark; a list may be repeated or separated by commas.

    Raises: HttpRefusal, naming the parameter.
    """
    raw = call.scope["query_string"]
    if len(raw) > QUERY_BYTES:
        raise problems.HttpRefusal("the query is too long")
    lists = _lists(model)
    given: dict[str, Any] = {}
    for key, value in parse_qsl(raw.decode("latin-1"), keep_blank_values=True):
        if "\0" in value:
            raise problems.wrong_parameter(key, "expected text without NUL")
        if key not in model.__struct_fields__:
            near = did_you_mean(key, model.__struct_fields__)
            raise problems.wrong_parameter(key, f"no such parameter{near}")
        if key in lists:
            given.setdefault(key, []).extend(part for part in value.split(",") if part)
        else:
            given[key] = value
    try:
        return msgspec.convert(given, model, strict=False)
    except msgspec.ValidationError as error:
        said, _, place = str(error).partition(" - at `$.")
        raise problems.wrong_parameter(place.rstrip("`").partition("[")[0], said) from None


@functools.cache
def _lists(model: type[msgspec.Struct]) -> frozenset[str]:
    hints = typing.get_type_hints(model)
    return frozenset(name for name, hint in hints.items() if typing.get_origin(hint) is tuple)
