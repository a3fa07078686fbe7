"""YAML → plain data, remembering where each field stands.

PyYAML reads YAML 1.1, where `on` and `no` are booleans, `1e-4` is text and `12:30` a number. The scalars
of a Styx file are those of the YAML 1.2 core schema; files written for other programs have the old ones.
"""

import re
from collections.abc import Iterator
from typing import Any, ClassVar, Final

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from styx.errors import InvalidSpec
from styx.file.document import Document, Place, join

MAX_VALUES: Final = 5_000_000  # aliases included: a few lines of them can stand for billions


def parse(name: str, text: str, *, old: bool = False) -> list[Document]:
    """Every document, at least one; `old` reads the scalars of YAML 1.1.

    Raises: InvalidSpec, with line and column.
    """
    loader = _Old(text) if old else _Loader(text)
    found: list[Document] = []
    try:
        while loader.check_node():
            node = loader.get_node()
            places = {"": _place(node)}
            _Walk(name, places).visit(node, "")
            content = loader.construct_document(node)
            found.append(Document(name, content, lambda places=places: places))
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
    return found or [Document(name, None, dict[str, Place])]


def _place(node: Node) -> Place:
    return node.start_mark.line + 1, node.start_mark.column + 1


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
                yield child, self._stands(join(path, word), key)

    def _stands(self, path: str, node: Node) -> str:
        self._places.setdefault(path, _place(node))
        return path

    def _wrong(self, node: Node, message: str) -> InvalidSpec:
        line, column = _place(node)
        return InvalidSpec(f"{self._name}:{line}:{column}: {message}")


# The parser in C where PyYAML was built with it.
_Safe: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Old(_Safe):
    """The scalars of YAML 1.1."""


class _Loader(_Safe):
    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}


# Tag, pattern and first characters of the plain scalars that are no text.
RESOLVED: Final[list[tuple[str, re.Pattern[str], list[str]]]] = []


def _resolves(tag: str, pattern: str, first: str) -> None:
    """Plain scalars of that pattern; `first` are the characters that one may begin with."""
    beginnings = [*first, ""] if tag == "null" else [*first]  # nothing at all is a null
    RESOLVED.append((f"tag:yaml.org,2002:{tag}", re.compile(pattern), beginnings))
    _Loader.add_implicit_resolver(*RESOLVED[-1])


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
