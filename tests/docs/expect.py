"""What a page says that a command prints, and what it did print. `…` stands for anything."""

import difflib
import re
from collections.abc import Iterator
from typing import Any, Final, cast

ANYTHING: Final = "…"


def differences(expected: str, printed: str) -> str:
    """Empty: as expected. A line of `…` alone stands for any number of lines; widths do not count."""
    wanted = [" ".join(line.split()) for line in expected.splitlines()]
    found = [" ".join(line.split()) for line in printed.splitlines()]
    if re.fullmatch("".join(map(_line, wanted)), "".join(f"{line}\n" for line in found)):
        return ""
    return "\n".join(difflib.unified_diff(wanted, found, "the page", "printed", lineterm="", n=99))


def _line(wanted: str) -> str:
    return r"(?:.*\n)*?" if wanted == ANYTHING else _text(wanted) + r"\n"


def _text(wanted: str) -> str:
    return ".*?".join(map(re.escape, wanted.split(ANYTHING)))


def unlike(expected: Any, answer: Any, path: str = "$") -> Iterator[str]:
    """Where JSON is not as the page says. A key `…` stands for any further ones, so does an item."""
    if isinstance(expected, dict) and isinstance(answer, dict):
        yield from _unlike_members(
            cast("dict[str, Any]", expected), cast("dict[str, Any]", answer), path
        )
    elif isinstance(expected, list) and isinstance(answer, list):
        yield from _unlike_items(cast("list[Any]", expected), cast("list[Any]", answer), path)
    elif isinstance(expected, str) and ANYTHING in expected:
        if not re.fullmatch(_text(expected), str(answer), re.DOTALL):
            yield f"{path}: {answer!r} is not {expected!r}"
    elif expected != answer:
        yield f"{path}: {answer!r} is not {expected!r}"


def _unlike_members(expected: dict[str, Any], answer: dict[str, Any], path: str) -> Iterator[str]:
    more = ANYTHING in expected
    wanted = {key: value for key, value in expected.items() if key != ANYTHING}
    for key in wanted.keys() - answer.keys():
        yield f"{path}.{key}: is not in the answer"
    for key in () if more else answer.keys() - wanted.keys():
        yield f"{path}.{key}: the page does not show it"
    for key in wanted.keys() & answer.keys():
        yield from unlike(wanted[key], answer[key], f"{path}.{key}")


def _unlike_items(expected: list[Any], answer: list[Any], path: str) -> Iterator[str]:
    more = expected[-1:] == [ANYTHING]
    wanted = expected[:-1] if more else expected
    if len(answer) < len(wanted) or (len(answer) > len(wanted) and not more):
        yield f"{path}: {len(answer)} items, not {len(wanted)}"
    for number, (one, other) in enumerate(zip(wanted, answer, strict=False)):
        yield from unlike(one, other, f"{path}[{number}]")
