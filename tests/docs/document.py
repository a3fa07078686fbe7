"""Blocks of YAML, TOML and JSON: whatever of Styx's they look like, they must be it."""

from pathlib import Path
from typing import Any, Final, cast

from styx import config
from styx.cli import validate
from styx.errors import InvalidSpec
from styx.file import read
from styx.simulate import form
from tests.docs import wire
from tests.docs.block import Block

SIMULATION: Final = {"agents", "workloads"}
SECTIONS: Final = set(config.Config.__struct_fields__)


def faults(block: Block, path: Path) -> list[str]:
    """`path` is the block as a file. Each begins with its place; none: it is what it should be."""
    found = _found(block, path)
    if "refused" in block.marks:
        return [] if found else [f"{block.place}: should be refused, and is not"]
    return [fault.replace(f"{path}", block.page) for fault in found]


def _found(block: Block, path: Path) -> list[str]:
    try:
        content = read.documents(read.source(str(path)))[0].content
        if block.kind == "json" and wire.knows(content):
            return []
        keys = set(cast("dict[str, Any]", content)) if isinstance(content, dict) else set[str]()
        if keys >= SIMULATION:
            form.check(cast("object", content))
            return []
        if block.kind == "toml" and keys <= SECTIONS:
            config.load(file=path, environ={})
            return []
    except InvalidSpec as error:
        return [f"{block.place}: {error}"]
    verdict = validate.judge(str(path), {})
    return [f"{error.path}: {error.message}" for error in verdict.errors]
