"""One call of a task's function: how its arguments travel in the task's command, and how it is made."""

import inspect
import json
import typing
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from styx.sdk import values
from styx.sdk.values import Results

Place = list[str | int]  # as ["args", 0, "lr"]


class Taken(msgspec.Struct, omit_defaults=True):
    """That what `task` returned, or a part of it, stands `at` a place of the arguments."""

    at: Place
    task: str
    width: int | None = None  # of an array: so many results, as a list
    part: Place = []


class Call(msgspec.Struct, omit_defaults=True):
    """`each`: the value of the array's element goes before the arguments. `path` is where the module is
    found, from the work directory on.
    """

    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    results: list[Taken] = []
    each: bool = False
    path: str = ""

    @classmethod
    def decode(cls, text: str) -> "Call":
        """Raises: msgspec.ValidationError."""
        return msgspec.convert(json.loads(text), cls)


def invoke(function: Callable[..., Any], call: Call, element: str | None, results: Results) -> str:
    """Call it, and return what it returned, as JSON; the call is used up. Raises: TypeError, LookupError."""
    for taken in call.results:
        value = results.of(taken.task, taken.width)
        for key in taken.part:
            value = value[key]
        where: Any = {"args": call.args, "kwargs": call.kwargs}
        for key in taken.at[:-1]:
            where = where[key]
        where[taken.at[-1]] = value
    first = [] if element is None else [json.loads(element)]
    name = function.__qualname__
    bound = inspect.signature(function).bind(*first, *call.args, **call.kwargs)
    _convert(bound, hints_of(function), name)
    return values.encode(function(*bound.args, **bound.kwargs), f"what {name} returns")


def hints_of(function: Callable[..., Any]) -> Mapping[str, Any]:
    """Its annotations; none, if they name what only a type checker sees."""
    try:
        return typing.get_type_hints(function)
    except NameError:
        return {}


def _convert(bound: inspect.BoundArguments, hints: Mapping[str, Any], name: str) -> None:
    for parameter, value in bound.arguments.items():
        if (hint := hints.get(parameter)) is None:
            continue
        kind = bound.signature.parameters[parameter].kind
        if kind is inspect.Parameter.VAR_POSITIONAL:
            hint = tuple[hint, ...]
        elif kind is inspect.Parameter.VAR_KEYWORD:
            hint = dict[str, hint]
        bound.arguments[parameter] = values.convert(value, hint, f"{name}: {parameter}")
