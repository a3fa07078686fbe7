"""The fenced blocks of a Markdown page, and what each says of itself.

The first word after the fence is the kind, which says how a block is tested (tests.docs.page has the table);
the words behind it are marks:

    terminal    goes on until it is stopped, so it gets a terminal of its own
    refused     a document that Styx must refuse
    title=NAME  is the file NAME

A block is a file, too, if the line above it ends with "`NAME`:", or its own first line is "# NAME".
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

MARKS: Final = {"terminal": {"bash"}, "refused": {"json", "toml", "yaml"}}  # of which kinds
FENCE: Final = re.compile(r"( *)(`{3,}|~{3,}) *([^`]*)")
NAMED_ABOVE: Final = re.compile(r".*`([\w./-]+)`:")
NAMED_WITHIN: Final = re.compile(r"# ([\w./-]+\.\w+)(;.*)?")
TITLE: Final = "title="


class Misspelt(AssertionError):
    """A block that cannot be read; says `PAGE:LINE`."""


@dataclass(frozen=True)
class Block:
    page: str  # relative to the checkout
    line: int  # of the first line of its text
    kind: str
    marks: frozenset[str]
    name: str  # of the file that it is, or ""
    text: str

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"

    def padded(self, text: str = "", line: int = 0) -> str:
        """The text, or a part of it, behind so many empty lines that programs count as the page does."""
        return "\n" * ((line or self.line) - 1) + (text or self.text)


def blocks(page: str, text: str) -> Iterator[Block]:
    """Raises: Misspelt."""
    lines = text.splitlines()
    number = 0
    while number < len(lines):
        opened = FENCE.fullmatch(lines[number])
        number += 1
        if opened is None:
            continue
        inside = _inside(page, lines, number, opened)
        yield _block(page, number, opened[3], inside, _above(lines[: number - 1]))
        number += len(inside) + 1


def _inside(page: str, lines: Sequence[str], start: int, opened: re.Match[str]) -> list[str]:
    indent, fence, _ = opened.groups()
    end = re.compile(rf" *{fence[0]}{{{len(fence)},}} *")
    for number in range(start, len(lines)):
        if end.fullmatch(lines[number]):
            return [line.removeprefix(indent) for line in lines[start:number]]
    raise Misspelt(f"{page}:{start}: this block has no end")


def _above(lines: Sequence[str]) -> str:
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _block(page: str, fence_line: int, info: str, inside: list[str], above: str) -> Block:
    kind, *words = info.split() or [""]
    titles = [word.removeprefix(TITLE).strip("\"'") for word in words if word.startswith(TITLE)]
    marks = frozenset(word for word in words if not word.startswith(TITLE))
    if unknown := [mark for mark in sorted(marks) if kind not in MARKS.get(mark, ())]:
        raise Misspelt(f"{page}:{fence_line}: no such mark: {', '.join(unknown)}")
    named = (NAMED_ABOVE.fullmatch(above), NAMED_WITHIN.fullmatch(inside[0] if inside else ""))
    names = [*titles, *(match[1] for match in named if match)]
    text = "\n".join(inside) + "\n"
    return Block(page, fence_line + 1, kind, marks, names[0] if names else "", text)
