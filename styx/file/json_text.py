"""JSON → plain data. What is given twice is refused, as in YAML."""

import json
import re
from collections.abc import Iterator
from typing import Any, Final

from styx.errors import InvalidSpec
from styx.file.document import Document, join, places

_TOKEN: Final = re.compile(r'\s*([{}\[\],:]|"(?:[^"\\]|\\.)*"|[^\s{}\[\],:"]+)', re.DOTALL)


class _Twice(ValueError):
    """A key of one object."""


def parse(name: str, text: str) -> Document:
    """Raises: InvalidSpec, with line and column."""
    try:
        content = json.loads(text, object_pairs_hook=_object, parse_constant=_constant)
    except _Twice as twice:
        raise _given_twice(name, text, str(twice)) from None
    except json.JSONDecodeError as error:
        where = f"{name}:{error.lineno}:{error.colno}"
        raise InvalidSpec(f"{where}: not JSON: {error.msg}") from error
    except ValueError as error:
        raise InvalidSpec(f"{name}: not JSON: {error}") from error
    except RecursionError as error:
        raise InvalidSpec(f"{name}: nested too deeply") from error
    return Document(name, content, lambda: places(text, _paths(text)))


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        seen: set[str] = set()
        raise _Twice(next(key for key, _ in pairs if key in seen or seen.add(key)))
    return made


def _constant(word: str) -> float:
    raise ValueError(f"{word} is no number of JSON")


def _given_twice(name: str, text: str, key: str) -> InvalidSpec:
    seen: set[str] = set()
    for path, offset in _paths(text):
        if path in seen and path.endswith(key):
            line, column = places(text, [(path, offset)])[path]
            return InvalidSpec(f"{name}:{line}:{column}: '{key}' is given twice")
        seen.add(path)
    return InvalidSpec(f"{name}: '{key}' is given twice")


def _paths(text: str) -> Iterator[tuple[str, int]]:
    """Each field's path and where it begins, of text that is JSON."""
    inside: list[tuple[str, int]] = []  # the containers that are open, and the index in a list
    path, is_key = "", False
    for match in _TOKEN.finditer(text):
        sign = match[1]
        if sign in "}]":
            path, is_key = inside.pop()[0], False
        elif sign == ",":
            parent, index = inside[-1]
            is_key = index < 0
            if not is_key:
                inside[-1] = (parent, index + 1)
                path = f"{parent}[{index + 1}]"
        elif sign == ":":
            is_key = False
        elif is_key:
            path = join(inside[-1][0], json.loads(sign))
            yield path, match.start(1)
        else:
            if inside and inside[-1][1] >= 0:
                yield path, match.start(1)
            if sign in "{[":
                is_key = sign == "{"
                inside.append((path, -1 if is_key else 0))
                path = path if is_key else f"{path}[0]"
