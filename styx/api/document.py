"""The body of a submit as a document: JSON read task by task, so that a large one never takes the whole
interpreter for long, and a name given twice is seen. (Any JSON reader would keep the last and say nothing.)
"""

import json
from collections.abc import Iterable, Iterator
from typing import Any, Final, cast

import msgspec

from styx.api import problems
from styx.errors import FieldError, InvalidSpec

DEPTH: Final = 64  # of one value; a form has a handful

_Pieces = dict[str, msgspec.Raw] | list[msgspec.Raw]


def read(body: bytes) -> object:
    """Raises: HttpRefusal, for what is no JSON; InvalidSpec, for a task's name given twice."""
    try:
        return _pieces(body)
    except msgspec.DecodeError as error:
        raise problems.HttpRefusal(f"the body is not JSON: {error}") from None
    except (RecursionError, UnicodeDecodeError):
        raise problems.HttpRefusal("the body is nested too deeply, or is not UTF-8") from None


def _pieces(body: bytes) -> object:
    try:
        pieces = _split(body)
    except msgspec.ValidationError:
        return _whole(body)  # neither a list nor an object: the check will say so
    if isinstance(pieces, list):
        return list(map(_whole, pieces))
    return {name: _field(name, piece) for name, piece in pieces.items()}


def _field(name: str, piece: msgspec.Raw) -> object:
    if name != "tasks" or bytes(piece)[:1] not in {b"{", b"["}:
        return _whole(piece)
    match _split(piece):
        case list() as tasks:
            return list(map(_whole, tasks))
        case dict() as tasks:
            for twice in _twice(bytes(piece)):
                error = FieldError(f"tasks.{twice}", "two tasks have this name; names are unique")
                raise InvalidSpec(f"{error.path}: {error.message}", error)
            return {key: _whole(task) for key, task in tasks.items()}


def _twice(source: bytes) -> Iterator[str]:
    """The keys that the outermost object has more than once."""
    outermost: list[tuple[str, object]] = []

    def keep(pairs: list[tuple[str, object]]) -> None:
        nonlocal outermost
        outermost = pairs  # of nested objects the outer one comes last

    json.loads(source, object_pairs_hook=keep, parse_int=str, parse_float=str)
    seen: set[str] = set()
    for key, _ in outermost:
        if key in seen:
            yield key
        seen.add(key)


def _split(source: bytes | msgspec.Raw) -> _Pieces:
    return msgspec.json.decode(source, type=_Pieces)


def _whole(source: bytes | msgspec.Raw) -> Any:
    value: Any = msgspec.json.decode(source)
    level = [value]
    for _ in range(DEPTH):
        level = [inner for outer in level for inner in _inside(outer)]
        if not level:
            return value
    raise problems.HttpRefusal(f"the body is nested deeper than {DEPTH} levels")


def _inside(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return cast("dict[str, Any]", value).values()
    return cast("list[Any]", value) if isinstance(value, list) else ()
