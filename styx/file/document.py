"""One document of a file: plain data, and where in the text each field stands."""

import bisect
import functools
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from styx.errors import FieldError, InvalidSpec

ENDINGS: Final = (".yaml", ".yml", ".json", ".toml")
_LAST: Final = re.compile(r"\.?[^.\[]+\Z|\[\d+\]\Z")

Place = tuple[int, int]  # line and column, from 1


class Document:
    """`find` says where the field of a path (`tasks.train.run`, `tasks[0].run`) stands; it is asked
    only once something is wrong.
    """

    def __init__(self, name: str, content: object, find: Callable[[], Mapping[str, Place]]) -> None:
        self.name = name
        self.content = content
        self._find = find

    @functools.cached_property
    def places(self) -> Mapping[str, Place]:
        return self._find()

    def where(self, *paths: str) -> str:
        """`job.yaml:3:5`, of the first of these paths that stands in the file.

        A field that is missing stands where its parent does.
        """
        for path in paths:
            if path in self.places:
                return self._at(path)
        known = paths[0] if paths else ""
        while known and known not in self.places:
            known = _parent(known)
        return self._at(known)

    def located(self, error: InvalidSpec) -> InvalidSpec:
        """The same refusal with the file's name, and lines and columns where they are known."""
        return refusal(self.name, [(self, field.path, field) for field in error.errors], error)

    def _at(self, path: str) -> str:
        place = self.places.get(path)
        return f"{self.name}:{place[0]}:{place[1]}" if place else self.name


def _parent(path: str) -> str:
    """Always shorter, whatever odd keys the path is made of."""
    found = _LAST.search(path)
    return path[: found.start()] if found else path[:-1]


def refusal(
    name: str, found: Iterable[tuple[Document, str, FieldError]], error: InvalidSpec
) -> InvalidSpec:
    """`error` of this file; each field comes with the document and path at which it stands there."""
    fields: dict[FieldError, None] = {}
    for document, path, field in found:
        where = document.where(path)
        fields[FieldError(f"{where}: {path}" if path else where, field.message)] = None
    if not fields:
        return InvalidSpec(f"{name}: {error.message}", hint=error.hint)
    first = next(iter(fields))
    return InvalidSpec(f"{first.path}: {first.message}", *fields, hint=error.hint)


def join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def places(text: str, found: Iterable[tuple[str, int]]) -> dict[str, Place]:
    """Lines and columns of the offsets; the first one of a path counts."""
    starts = [0, *(match.end() for match in re.finditer("\n", text))]
    known = {"": (1, 1)}
    for path, offset in found:
        line = bisect.bisect_right(starts, offset)
        known.setdefault(path, (line, offset - starts[line - 1] + 1))
    return known
