"""A route as data: what it does, takes and answers. Both the router and the OpenAPI document read it."""

import functools
import typing
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar
from urllib.parse import parse_qsl

import msgspec
from litestar import Request, Response

from styx.api import problems
from styx.api.gate import Visit
from styx.core.fields import did_you_mean
from styx.errors import (
    Conflict,
    Forbidden,
    NotFound,
    RequestError,
    StoreUnavailable,
    Unauthenticated,
)
from styx.wire import http

JSON: Final = "application/json"
QUERY_BYTES: Final = 8 << 10

Call = Request[Any, Any, Any]
Handler = Callable[[Call], Awaitable[Response[Any]]]
Refusals = tuple[type[RequestError], ...]

FINDING: Final[Refusals] = (NotFound, Conflict)  # of a route that names its object by a reference
Q = TypeVar("Q", bound=msgspec.Struct)

_encoder: Final = msgspec.json.Encoder()


class NoQuery(msgspec.Struct, frozen=True):
    """No parameters."""


@dataclass(frozen=True, slots=True)
class Route:
    method: str
    path: str
    operation_id: str
    summary: str
    handler: Handler
    answer: Any  # the type of the answer
    query: type[msgspec.Struct] = NoQuery
    headers: Mapping[str, str] = field(default_factory=dict[str, str])  # taken, with what they mean
    status: int = 200
    also: Mapping[int, str] = field(default_factory=dict[int, str])  # other good answers
    media_types: tuple[str, ...] = (JSON,)
    body: Any = None  # the type of the request's body
    example: Any = None  # of the body
    refuses: Refusals = ()
    open: bool = False  # to everybody

    @property
    def tag(self) -> str:
        """Of /api/v1/tasks/…: tasks."""
        return self.path.removeprefix("/api/v1/").strip("/").partition("/")[0]

    @property
    def kinds(self) -> list[problems.Kind]:
        """Every refusal that it may answer with."""
        kinds = {problems.KINDS[refusal] for refusal in (*self.refuses, StoreUnavailable)}
        if not self.open:
            kinds |= {problems.KINDS[Unauthenticated], problems.KINDS[Forbidden]}
        if self.query is not NoQuery:
            kinds.add(problems.HttpRefusal.kind)
        if self.body is not None:
            kinds |= {problems.HttpRefusal.kind, problems.TooLarge.kind, problems.NotJson.kind}
        return sorted(kinds | {problems.Overloaded.kind, problems.INTERNAL})


def reply(
    value: object, status: int = 200, headers: dict[str, str] | None = None
) -> Response[bytes]:
    return Response(_encoder.encode(value), status_code=status, headers=headers, media_type=JSON)


def visit(call: Call) -> Visit:
    return call.scope["state"]["visit"]


def reference(call: Call) -> str:
    """What stands for the object in the path: an id, a prefix of one, a name, or `last`."""
    return call.path_params["id"]


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
        if key not in model.__struct_fields__:
            near = did_you_mean(key, model.__struct_fields__)
            raise _wrong(key, f"no such parameter{near}")
        if key in lists:
            given.setdefault(key, []).extend(part for part in value.split(",") if part)
        else:
            given[key] = value
    try:
        return msgspec.convert(given, model, strict=False)
    except msgspec.ValidationError as error:
        said, _, place = str(error).partition(" - at `$.")
        raise _wrong(place.rstrip("`").partition("[")[0], said) from None


def read_json(body: bytes) -> object:
    """Raises: HttpRefusal."""
    try:
        return msgspec.json.decode(body)
    except msgspec.DecodeError as error:
        raise problems.HttpRefusal(
            f"the body is not JSON: {error}", hint="an empty body is not JSON either"
        ) from None
    except (RecursionError, UnicodeDecodeError):
        raise problems.HttpRefusal("the body is nested too deeply, or not UTF-8") from None


@functools.cache
def _lists(model: type[msgspec.Struct]) -> frozenset[str]:
    hints = typing.get_type_hints(model)
    return frozenset(name for name, hint in hints.items() if typing.get_origin(hint) is tuple)


def _wrong(place: str, message: str) -> problems.HttpRefusal:
    fields = [http.ProblemField(place, message)]
    return problems.HttpRefusal(f"{place}: {message}", errors=fields)
