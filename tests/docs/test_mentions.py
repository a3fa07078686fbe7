"""What the pages mention in passing is there: commands of Styx with their options, files, sections."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click
import pytest

from styx.cli import main
from tests.docs.block import blocks
from tests.docs.test_docs import PAGES
from tests.support.site import ROOT

COMMAND: Final = re.compile(r"(?<!`)`styx ([^`]+)`")
LINK: Final = re.compile(r"\]\((?!https?:)([^)#]*)(#[^)]+)?\)")
HEADING: Final = re.compile(r"^#+ (.+)$", re.MULTILINE)


def prose(page: str) -> str:
    """Without its blocks."""
    text = (ROOT / page).read_text()
    lines = text.splitlines()
    for block in blocks(page, text):
        start, end = block.line - 1, block.line - 1 + len(block.text.splitlines())
        lines[start:end] = [""] * (end - start)
    return "\n".join(lines)


def wrong_command(words: list[str]) -> str:
    """Empty: there is such a command, and it has the options. What `run` runs has its own."""
    found: click.Command = main.styx
    context = click.Context(found, info_name="styx")
    rest = words
    while isinstance(found, click.Group) and rest and re.fullmatch("[a-z]+", rest[0]):
        inner = found.get_command(context, rest[0])
        if inner is None:
            return f"no command {rest[0]}"
        found, rest = inner, rest[1:]
    known = {name for one in found.params for name in [*one.opts, *one.secondary_opts]} | {"--help"}
    asked = [word.partition("=")[0] for word in rest if re.match("--?[a-z]", word)]
    ours = asked if found.context_settings.get("allow_interspersed_args", True) else asked[:1]
    return ", ".join(f"no option {name}" for name in ours if name not in known)


def broken_links(page: str, text: str) -> Iterator[str]:
    for match in LINK.finditer(text):
        target = (ROOT / page).parent / match[1] if match[1] else ROOT / page
        if not target.exists():
            yield f"{match[1]}: no such file"
        elif match[2] and match[2][1:] not in anchors(target):
            yield f"{match[1]}{match[2]}: no such section"


def anchors(page: Path) -> set[str]:
    """As GitHub makes them."""
    titles = HEADING.findall(page.read_text())
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES)
def test_every_command_is_one(page: str) -> None:
    found = {match[1]: wrong_command(match[1].split()) for match in COMMAND.finditer(prose(page))}
    assert {command: wrong for command, wrong in found.items() if wrong} == {}


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page: str) -> None:
    assert [*broken_links(page, prose(page))] == []


def test_what_is_not_there_is_found() -> None:
    assert wrong_command(["rum", "x"]) == "no command rum"
    assert wrong_command(["server", "begin"]) == "no command begin"
    assert wrong_command(["run", "--cpu", "2", "x"]) == "no option --cpu"
    assert wrong_command(["submit", "--wait", "x", "--foo"]) == "no option --foo"
    assert wrong_command(["run", "--cpus", "2", "x", "--foo"]) == ""
    assert wrong_command(["server", "start"]) == wrong_command(["logs", "-f", "x"]) == ""
    text = "[a](README.md#jobs) [b](NOWHERE.md) [c](README.md#nothing) [d](#the-code-in-a-page)"
    assert [*broken_links("CONTRIBUTING.md", text)] == [
        "NOWHERE.md: no such file",
        "README.md#nothing: no such section",
    ]
