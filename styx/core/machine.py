"""State machines as tables: a move that its table does not hold is a bug, and changes nothing."""

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar

from styx.errors import IllegalTransition

S = TypeVar("S", bound=StrEnum)


def check(table: Mapping[S, frozenset[S]], before: S, after: S) -> None:
    """Raise `IllegalTransition` unless `table` allows the move. Staying is always allowed."""
    if before is not after and after not in table[before]:
        raise IllegalTransition(f"{type(before).__name__}: {before} -> {after}")


def terminal(table: Mapping[S, frozenset[S]]) -> frozenset[S]:
    """The states that nothing leaves."""
    return frozenset(state for state, following in table.items() if not following)
