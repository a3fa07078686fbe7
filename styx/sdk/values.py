"""Values on their way between tasks: JSON, so that whoever looks can read them, and no pickle is trusted.

Of Python's own it keeps NaN, infinities and large numbers, which JSON proper has not.
"""

import json
import os
from pathlib import Path, PurePath
from typing import Any, Final, Protocol, cast

import msgspec

MAX_BYTES: Final = 1 << 20  # of one value; more belongs into a file
FILE: Final = "result.json"


def encode(value: object, what: str) -> str:
    """Raises: TypeError, naming `what`."""
    try:
        text = json.dumps(msgspec.to_builtins(value, enc_hook=_simple), separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        raise TypeError(f"{what} is no JSON: {error}") from error
    if len(text) > MAX_BYTES:
        hint = "write it to a file below $STYX_OUTPUT_DIR, and hand on its name"
        raise TypeError(f"{what} has {len(text):,} bytes; at most {MAX_BYTES:,}: {hint}")
    return text


def convert(value: object, hint: Any, what: str) -> Any:
    """What JSON made of a value → what the annotation says it is. Raises: TypeError, naming `what`."""
    try:
        return msgspec.convert(value, hint, str_keys=True, dec_hook=_complex)
    except msgspec.ValidationError as error:
        raise TypeError(f"{what}: {error}") from error


class Results(Protocol):
    """What the tasks before this one returned."""

    def of(self, task: str, width: int | None) -> Any:
        """Of an array of so many elements, the list of theirs. Raises: LookupError."""
        ...


class Inputs:
    """Results as an agent puts them below `directory`."""

    def __init__(self, directory: str) -> None:
        self._directory = directory

    def of(self, task: str, width: int | None) -> Any:
        if width is None:
            return self._read(task)
        return [self._read(f"{task}/{index}") for index in range(width)]

    def _read(self, place: str) -> Any:
        if not self._directory:
            raise LookupError(f"no result of '{place}': this agent has set no STYX_INPUT_DIR")
        try:
            return json.loads((Path(self._directory) / place / FILE).read_bytes())
        except FileNotFoundError as error:
            raise LookupError(f"no result of '{place}': {error.filename} is missing") from error


def keep(text: str, directory: str) -> None:
    """Where the agent takes a task's outputs from; without such a directory nobody waits for it."""
    if directory:
        (Path(directory) / FILE).write_text(text)


def _simple(value: object) -> object:
    """Of what msgspec does not know: a path, or one number in the coat of a library."""
    if isinstance(value, os.PathLike):
        return os.fspath(cast("os.PathLike[str]", value))
    item = getattr(type(value), "item", None)
    if callable(item) and not getattr(value, "ndim", 0):
        return item(value)
    raise TypeError(f"a value of type {type(value).__name__}")


def _complex(kind: Any, value: object) -> Any:
    """Of annotations that msgspec does not know: a path; the rest as it is, if it is one."""
    if isinstance(kind, type) and issubclass(kind, PurePath):
        return kind(cast("Any", value))
    return value
