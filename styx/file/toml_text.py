"""TOML → plain data. Python's reader tells no places, so they are looked up when one is needed."""

import json
import re
import tomllib
from collections.abc import Generator, Iterator
from typing import Final

from styx.errors import InvalidSpec
from styx.file.document import Document, join, places

_AT: Final = re.compile(r" \((at line (\d+), column (\d+)|at end of document)\)$")
_BLANK: Final = re.compile(r"(?:[\s,]|#[^\n]*)*")
_STRING: Final = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}|\'\'\'.*?\'{3,5}|"(?:[^"\\\n]|\\.)*"|\'[^\'\n]*\'', re.DOTALL
)
_BARE: Final = re.compile(r"[^,\]}#\n]+")
_KEY: Final = re.compile(r'\s*("(?:[^"\\\n]|\\.)*"|\'[^\'\n]*\'|[A-Za-z0-9_-]+)\s*(\.?)')


def parse(name: str, text: str) -> Document:
    """Raises: InvalidSpec, with line and column."""
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        message = str(error)
        at = _AT.search(message)
        where = name
        if at:
            lines = text.rstrip("\n").split("\n")
            line, column = at[2] or len(lines), at[3] or len(lines[-1]) + 1
            where, message = f"{name}:{line}:{column}", message[: at.start()]
        raise InvalidSpec(f"{where}: not TOML: {message}") from error
    except ValueError as error:
        raise InvalidSpec(f"{name}: not TOML: {error}") from error
    except RecursionError as error:
        raise InvalidSpec(f"{name}: nested too deeply") from error
    return Document(name, content, lambda: places(text, _Scan(text).paths()))


class _Scan:
    """Over text that is TOML: each key's path and where it begins."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._lists: dict[str, int] = {}  # of `[[path]]`: the index of the newest

    def paths(self) -> Iterator[tuple[str, int]]:
        table = ""
        while self._skip_blank() < len(self._text):
            if self._text[self._at] == "[":
                table = yield from self._header()
            else:
                yield from self._pair(table)

    def _header(self) -> Generator[tuple[str, int], None, str]:
        start = self._at
        many = self._text.startswith("[[", self._at)
        self._at += 2 if many else 1
        path = ""
        for key, _, last in self._keys():
            path = join(path, key)
            if last and many:
                self._lists[path] = self._lists.get(path, -1) + 1
            if path in self._lists:
                if last:
                    yield path, start
                path += f"[{self._lists[path]}]"
        self._at += 2 if many else 1
        yield path, start
        return path

    def _pair(self, path: str) -> Iterator[tuple[str, int]]:
        for key, start, _ in self._keys():
            path = join(path, key)
            yield path, start
        self._at += 1  # the sign of equality
        yield from self._value(path)

    def _value(self, path: str) -> Iterator[tuple[str, int]]:
        self._skip_blank()
        if string := _STRING.match(self._text, self._at):
            self._at = string.end()
        elif (opening := self._text[self._at]) in "[{":
            self._at += 1
            index = 0
            while self._text[self._skip_blank()] not in "]}":
                if opening == "{":
                    yield from self._pair(path)
                    continue
                yield f"{path}[{index}]", self._at
                yield from self._value(f"{path}[{index}]")
                index += 1
            self._at += 1
        elif bare := _BARE.match(self._text, self._at):
            self._at = bare.end()

    def _keys(self) -> Iterator[tuple[str, int, bool]]:
        """The parts of a dotted key, where each begins, and whether it is the last."""
        dot = "."
        while dot and (match := _KEY.match(self._text, self._at)):
            self._at, word, dot = match.end(), match[1], match[2]
            if word[0] in "\"'":
                word = json.loads(word) if word[0] == '"' else word[1:-1]
            yield word, match.start(1), not dot

    def _skip_blank(self) -> int:
        blank = _BLANK.match(self._text, self._at)
        assert blank is not None, "it may be empty"
        self._at = blank.end()
        return self._at
