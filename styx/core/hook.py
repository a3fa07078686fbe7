"""Whom a job's end is told: the `on` of a document, and which hooks an end concerns.

A URL is judged by its form here; what it leads to is judged where it is asked (`kit.reach`).
"""

import re
from collections.abc import Callable
from functools import partial
from typing import Final, cast
from urllib.parse import urlsplit

from styx.core import fields
from styx.core.fields import Field, Wrong
from styx.core.job import JobState
from styx.core.spec import Ending, Hook
from styx.core.units import Expected
from styx.errors import FieldError

MAX_HOOKS: Final = 10  # of one job
MAX_URL_BYTES: Final = 2_048
MAX_HOST_BYTES: Final = 253  # what DNS takes

_CONCERNS: Final = {
    Ending.SUCCEEDED: frozenset({JobState.SUCCEEDED}),
    Ending.FAILED: frozenset({JobState.FAILED, JobState.LOST}),
    Ending.CANCELLED: frozenset({JobState.CANCELLED}),
    Ending.DONE: frozenset(JobState) - {JobState.RUNNING},
}
# Readers of URLs disagree about what lies beyond these: so it is not taken.
_URL: Final = re.compile(r"https?://[!$-;=?-\[\]_a-z~]+", re.IGNORECASE)
_HOST: Final = re.compile(
    r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*\.?"
)
_V4: Final = re.compile(r"(25[0-5]|2[0-4]\d|1?\d?\d)(\.(25[0-5]|2[0-4]\d|1?\d?\d)){3}")
_V6: Final = re.compile(r"[0-9a-f:.]*:[0-9a-f:.]*")
_NUMBER: Final = re.compile(r"(\d+|0x[0-9a-f]*)\.?")


def concerns(on: Ending, state: JobState) -> bool:
    return state in _CONCERNS[on]


def read(value: object) -> tuple[Hook, ...]:
    """Each end with its URL, or a list of them. Raises: Expected, Wrong."""
    errors: list[FieldError] = []
    given = fields.read(value, _ON, errors)
    if errors:
        raise Wrong(errors)
    found = tuple(dict.fromkeys(hook for hooks in given.values() for hook in hooks))
    if len(found) > MAX_HOOKS:
        raise Wrong([FieldError("", f"{len(found)} URLs; a job tells at most {MAX_HOOKS}")])
    return found


def url(value: object) -> str:
    """Of a form that every reader of URLs takes for the same. Raises: Expected."""
    if not isinstance(value, str) or not _URL.fullmatch(value) or len(value) > MAX_URL_BYTES:
        raise Expected("an https:// URL of plain ASCII (a host's other letters as punycode)")
    try:
        parts = urlsplit(value)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise Expected("a URL with a host, and a port from 1 to 65,535") from None
    if "@" in parts.netloc:
        raise Expected("a URL without a user: what is sent is signed instead")
    if (
        port == 0
        or len(host) > MAX_HOST_BYTES
        or not (_HOST.fullmatch(host) or _V6.fullmatch(host))
    ):
        raise Expected("a URL with a host, and a port from 1 to 65,535")
    if _NUMBER.fullmatch(host.removesuffix(".").rpartition(".")[2]) and not _V4.fullmatch(host):
        raise Expected("a host's name or a whole address")
    return value


def _receivers(value: object, on: Ending) -> tuple[Hook, ...]:
    if not isinstance(value, list):
        return (Hook(on, _receiver(value)),)
    found: list[Hook] = []
    errors: list[FieldError] = []
    for index, item in enumerate(cast("list[object]", value)):
        try:
            found.append(Hook(on, _receiver(item)))
        except (Expected, Wrong) as error:
            errors += fields.below(f"[{index}]", item, error)
    if errors:
        raise Wrong(errors)
    return tuple(found)


def _receiver(value: object) -> str:
    """A URL, or an object with one."""
    if not isinstance(value, dict):
        return _shy(value)
    errors: list[FieldError] = []
    given = fields.read(cast("object", value), _RECEIVER, errors)
    if not errors and "url" not in given:
        errors.append(FieldError("url", "missing: where the end is told"))
    if errors:
        raise Wrong(errors)
    return given["url"]


def _shy(value: object) -> str:
    """As `url`; what is wrong is not shown, as a URL may be a secret."""
    try:
        return url(value)
    except Expected as expected:
        raise Wrong([FieldError("", f"expected {expected}")]) from None


def _reader(on: Ending) -> Callable[[object], tuple[Hook, ...]]:
    return partial(_receivers, on=on)


_RECEIVER: Final = {"url": Field("url", _shy)}
_ON: Final = {on.value: Field(on.value, _reader(on)) for on in Ending}
