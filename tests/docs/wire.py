"""Whether JSON of a page is an object that Styx sends: all its words are known, and nothing is missing.

A key `…` stands for the rest, a value with `…` for any.
"""

import types
from collections.abc import Mapping
from typing import Any, Final, Union, cast, get_args, get_origin, get_type_hints

import msgspec

from styx.wire import hook, http
from tests.docs.expect import ANYTHING

MODELS: Final = [
    model
    for model in (*vars(http).values(), *vars(hook).values())
    if isinstance(model, type) and issubclass(model, msgspec.Struct) and model is not msgspec.Struct
]


def knows(content: object) -> bool:
    return isinstance(content, dict) and any(_fits(cast("object", content), one) for one in MODELS)


def _fits(value: object, kind: Any) -> bool:
    if isinstance(value, str) and ANYTHING in value:
        return True
    origin, inside = get_origin(kind), get_args(kind)
    if origin in {Union, types.UnionType}:
        return any(_fits(value, one) for one in inside)
    if isinstance(value, list) and origin is list:
        return all(_fits(one, inside[0]) for one in cast("list[object]", value))
    if isinstance(value, dict) and origin is dict:
        members = cast("dict[str, object]", value)
        return all(_fits(one, inside[1]) for one in members.values())
    if isinstance(value, dict) and isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return _is(cast("dict[str, object]", value), kind)
    try:
        msgspec.convert(value, cast("Any", kind))
    except msgspec.ValidationError:
        return False
    return True


def _is(members: Mapping[str, object], model: type[msgspec.Struct]) -> bool:
    kinds = get_type_hints(model)
    shown = members.keys() - {ANYTHING}
    needed = {field.name for field in msgspec.structs.fields(model) if field.required}
    complete = ANYTHING in members or needed <= shown
    return (
        complete
        and bool(shown)
        and all(name in kinds and _fits(members[name], kinds[name]) for name in shown)
    )
