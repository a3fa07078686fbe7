"""Task files: YAML 1.2, TOML or JSON → plain data, remembering where each field stands.

PyYAML reads YAML 1.1, where `on` and `no` are booleans, `1e-4` is text and `12:30` a number. The scalars
here are those of the YAML 1.2 core schema.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Final, cast

import msgspec
import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from styx.errors import FieldError, InvalidSpec

MAX_VALUES: Final = 5_000_000  # aliases included: a few lines of them can stand for billions
STDIN: Final = "-"
_BYTE: Final = re.compile(r"\(byte (\d+)\)")
_INDEX: Final = re.compile(r"\.?[^.\[]+$|\[\d+\]$")

Place = tuple[int, int]  # line and column, from 1


class TaskFile(msgspec.Struct):
    """`places` says where the field of a path (`tasks.train.run`, `tasks[0].run`) stands."""

    name: str
    content: dict[str, Any]
    places: dict[str, Place]

    def located(self, error: InvalidSpec, *, below: str = "") -> InvalidSpec:
        """The server's refusal with the file's name, and lines and columns where they are known.

        `below` is a path that the document has been put under for the request.
        """
        fields = [
            FieldError(self._located(field.path.removeprefix(below).lstrip(".")), field.message)
            for field in error.errors
        ]
        if not fields:
            return InvalidSpec(f"{self.name}: {error.message}", hint=error.hint)
        return InvalidSpec(f"{fields[0].path}: {fields[0].message}", *fields, hint=error.hint)

    def _located(self, path: str) -> str:
        known = path
        while known and known not in self.places:  # a missing field stands where its parent does
            known = _INDEX.sub("", known)
        place = self.places.get(known)
        where = f"{self.name}:{place[0]}:{place[1]}" if place else self.name
        return f"{where}: {path}" if path else where


def read(
    path: str,
    *,
    expected: str = "one task, or a job with `tasks`",
    example: str = "name: hello, command: [echo, Hello]",
) -> TaskFile:
    """Raises: InvalidSpec, with line and column; `expected` and `example` say what the file is for."""
    name = "stdin" if path == STDIN else path
    try:
        raw = sys.stdin.buffer.read() if path == STDIN else Path(path).read_bytes()
        text = raw.decode("utf-8-sig")
    except OSError as error:
        raise InvalidSpec(f"{name}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InvalidSpec(f"{name}: not text in UTF-8 (byte {error.start})") from error
    places: dict[str, Place] = {}
    if name.endswith(".json"):
        content = _json(name, text)
    elif name.endswith(".toml"):
        content = _toml(name, text)
    else:
        content = _yaml(name, text, places)
    if not isinstance(content, dict):
        raise InvalidSpec(f"{name}: expected {expected}", hint=example)
    return TaskFile(name, cast("dict[str, Any]", content), places)


def _json(name: str, text: str) -> object:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        found = _BYTE.search(str(error))
        before = text.encode()[: int(found[1])].decode(errors="ignore") if found else text
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        raise InvalidSpec(f"{name}:{line}:{column}: not JSON: {error}") from error
    except RecursionError as error:
        raise InvalidSpec(f"{name}: nested too deeply") from error


def _toml(name: str, text: str) -> object:
    try:
        return msgspec.toml.decode(text)
    except msgspec.DecodeError as error:
        raise InvalidSpec(f"{name}: not TOML: {error}") from error
    except RecursionError as error:
        raise InvalidSpec(f"{name}: nested too deeply") from error


def _yaml(name: str, text: str, places: dict[str, Place]) -> object:
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _Walk(name, places).visit(node, "")
        return loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
        raise InvalidSpec(f"{where}: not YAML: {error.problem or error.context}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise InvalidSpec(f"{name}: not YAML: {error}") from error
    except RecursionError as error:
        raise InvalidSpec(f"{name}: nested too deeply") from error
    finally:
        loader.dispose()


class _Walk:
    """Over the nodes: where each field stands, and whether aliases make too much of a small file."""

    def __init__(self, name: str, places: dict[str, Place]) -> None:
        self._name = name
        self._places = places
        self._values: dict[int, int] = {}  # of each node, everything below it counted
        self._open: set[int] = set()

    def visit(self, node: Node, path: str) -> int:
        """How many values the node stands for."""
        if id(node) in self._open:
            raise self._wrong(node, f"{path} contains itself")
        if (known := self._values.get(id(node))) is None:
            self._open.add(id(node))
            known = 1 + sum(self.visit(child, below) for child, below in self._children(node, path))
            self._open.discard(id(node))
            self._values[id(node)] = known
        if known > MAX_VALUES:
            raise self._wrong(node, f"stands for more than {MAX_VALUES:,} values")
        return known

    def _children(self, node: Node, path: str) -> Iterator[tuple[Node, str]]:
        if isinstance(node, SequenceNode):
            for index, child in enumerate(node.value):
                yield child, self._stands(f"{path}[{index}]", child)
        elif isinstance(node, MappingNode):
            seen: set[str] = set()
            for key, child in node.value:
                word = str(key.value) if isinstance(key, ScalarNode) else "?"
                if word in seen and word != "<<":
                    raise self._wrong(key, f"'{word}' is given twice")
                seen.add(word)
                yield child, self._stands(f"{path}.{word}" if path else word, key)

    def _stands(self, path: str, node: Node) -> str:
        self._places.setdefault(path, (node.start_mark.line + 1, node.start_mark.column + 1))
        return path

    def _wrong(self, node: Node, message: str) -> InvalidSpec:
        mark = node.start_mark
        return InvalidSpec(f"{self._name}:{mark.line + 1}:{mark.column + 1}: {message}")


# The parser in C where PyYAML was built with it.
_Safe: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_Safe):
    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}


def _resolves(tag: str, pattern: str, first: str) -> None:
    """Plain scalars of that pattern; `first` are the characters that one may begin with."""
    beginnings = [*first, ""] if tag == "null" else [*first]  # nothing at all is a null
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(pattern), beginnings)


_resolves("null", r"(?:~|null|Null|NULL|)$", "~nN")
_resolves("bool", r"(?:true|True|TRUE|false|False|FALSE)$", "tTfF")
_resolves("int", r"(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$", "-+0123456789")
_resolves(
    "float",
    r"(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
    r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$",
    "-+0123456789.",
)
_resolves("merge", r"<<$", "<")


def _construct_int(loader: Any, node: ScalarNode) -> int:
    text: str = loader.construct_scalar(node)
    base = {"0o": 8, "0x": 16}.get(text[:2], 10)
    return int(text[2:] if base != 10 else text, base)


def _construct_float(loader: Any, node: ScalarNode) -> float:
    text: str = loader.construct_scalar(node)
    return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))


_Loader.add_constructor("tag:yaml.org,2002:int", _construct_int)
_Loader.add_constructor("tag:yaml.org,2002:float", _construct_float)
