"""From a failing plan to a small one that fails by the same rule."""

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import msgspec

from tests.sim.plan import Plan

T = TypeVar("T")
TRIES: Final = 300
_CALM: Final[dict[str, Any]] = {
    "bound_turn": False,
    "tiny": False,
    "cancel_in_window": 0.0,
    "freeze_in_window": 0.0,
    "leader_cut_at_start": 0.0,
    "cuts_at_start": 0.0,
    "jumps_in_backoff": 0.0,
    "unheard_verdicts": 0.0,
    "clock_error": 0.0,
    "spool_bytes": 64 << 20,
    "latency_s": 0.0005,
    "servers": 1,
}

Fails = Callable[[Plan], str | None]


def shrink(plan: Plan, rule: str, fails: Fails, *, tries: int = TRIES) -> Plan:
    """`fails` names the rule that a plan breaks. Rows are taken away by halves, then one by one."""

    def still(candidate: Plan) -> bool:
        nonlocal tries
        tries -= 1
        return tries >= 0 and fails(candidate) == rule

    def fewer(plan: Plan, rows: str) -> Plan:
        kept: Sequence[Any] = getattr(plan, rows)
        size = len(kept)
        while size >= 1:
            start = 0
            while start < len(kept):
                rest = (*kept[:start], *kept[start + size :])
                smaller = msgspec.structs.replace(plan, **{rows: rest})
                if still(smaller):
                    plan, kept = smaller, rest
                else:
                    start += size
            size //= 2
        return plan

    for calm in _CALM.items():
        calmer = msgspec.structs.replace(plan, **dict([calm]))
        if calmer != plan and still(calmer):
            plan = calmer
    return fewer(fewer(plan, "faults"), "works")
