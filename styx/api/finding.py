"""What a user writes for an object: its id, a unique prefix of it, its name (the newest), or `last`."""

import re
from collections.abc import Mapping
from typing import Final

from styx.core.fields import did_you_mean
from styx.errors import Conflict, NotFound

PREFIX_LEAST: Final = 4
SHOWN: Final = 5  # candidates of an ambiguous prefix

_PREFIX: Final = re.compile(r"[0-9a-f-]{4,36}")


def is_prefix(reference: str) -> bool:
    """Whether it may begin an id."""
    return _PREFIX.fullmatch(reference) is not None


def by_reference(reference: str, noun: str, names: Mapping[str, str]) -> str:
    """The one id that is meant, of those whose names are given. Raises: NotFound, Conflict."""
    if reference in names:
        return reference
    if reference == "last" and names:
        return max(names)
    named = [object_id for object_id, name in names.items() if name == reference]
    if named:
        return max(named)
    begun = [i for i in names if i.startswith(reference)] if is_prefix(reference) else []
    if len(begun) > 1:
        raise ambiguous(reference, noun, [(i, names[i]) for i in sorted(begun)])
    if not begun:
        raise unknown(reference, noun, did_you_mean(reference, names.values()))
    return begun[0]


def ambiguous(reference: str, noun: str, candidates: list[tuple[str, str]]) -> Conflict:
    shown = ", ".join(f"{object_id} ({name})" for object_id, name in candidates[:SHOWN])
    more = " and more" if len(candidates) > SHOWN else ""
    return Conflict(
        f"{reference!r} may be any of several {noun}s: {shown}{more}",
        hint="give more of the id",
    )


def unknown(reference: str, noun: str, near: str = "") -> NotFound:
    hint = f"no {noun} has this id, prefix or name{near}"
    return NotFound(f"there is no {noun} {reference!r}", hint=f"{hint}; list them: styx {noun}s")
