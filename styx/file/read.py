"""A file of YAML, TOML or JSON → its documents. Only YAML may hold more than one."""

import sys
from pathlib import Path
from typing import Final, NamedTuple

from styx.errors import InvalidSpec
from styx.file import json_text, toml_text, yaml_text
from styx.file.document import Document

EXPECTED: Final = "one task, or a job with `tasks`"
EXAMPLE: Final = "name: hello, command: [echo, Hello]"
STDIN: Final = "-"
STDIN_NAME: Final = "stdin"


class Source(NamedTuple):
    name: str
    text: str


def source(path: str) -> Source:
    """Raises: InvalidSpec, for what cannot be read or is no text."""
    name = STDIN_NAME if path == STDIN else path
    try:
        raw = sys.stdin.buffer.read() if path == STDIN else Path(path).read_bytes()
        return Source(name, raw.decode("utf-8-sig"))
    except OSError as error:
        raise InvalidSpec(f"{name}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InvalidSpec(f"{name}: not text in UTF-8 (byte {error.start})") from error


def is_yaml(given: Source) -> bool:
    return not given.name.endswith((".json", ".toml"))


def documents(given: Source) -> list[Document]:
    """At least one. Raises: InvalidSpec, with line and column."""
    name, text = given
    if name.endswith(".json"):
        return [json_text.parse(name, text)]
    if name.endswith(".toml"):
        return [toml_text.parse(name, text)]
    return yaml_text.parse(name, text)


def read(
    path: str,
    *,
    expected: str = EXPECTED,
    example: str = EXAMPLE,
) -> Document:
    """The one document of a file. Raises: InvalidSpec; `expected` and `example` say what it is for."""
    return only(documents(source(path)), expected=expected, example=example)


def only(found: list[Document], *, expected: str, example: str) -> Document:
    """Raises: InvalidSpec, unless it is one, and an object."""
    first = found[0]
    if len(found) > 1:
        raise InvalidSpec(f"{found[1].where()}: a second document: a file of Styx holds one")
    if not isinstance(first.content, dict):
        raise InvalidSpec(f"{first.name}: expected {expected}", hint=example)
    return first
