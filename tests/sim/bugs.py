"""Planted bugs: each breaks one rule of the product, or of the database, and must be caught.

A bug is a list of patches (owner, name, replacement). Two rules that hide each other's absence are
broken together. `hunt` tries seeds until one of the invariants complains that the bug is meant to break.
"""
# pyright: reportPrivateUsage=false, reportPrivateImportUsage=false
# A bug is planted where the rule is kept, which is mostly inside.

import contextlib
from collections.abc import Generator
from typing import Any, Final, NamedTuple
from unittest import mock

from styx.agent import room as waiting
from styx.agent.custody import Custody
from styx.agent.duties import Duties, Lease
from styx.agent.roster import Entry
from styx.agent.session import Session
from styx.agent.spool import Stream
from styx.agent.supervisor import Supervisor
from styx.core import choice, dag, lifecycle, machine, match, place, policy, roster
from styx.core.block import Tasks
from styx.core.draft import Draft
from styx.core.room import Room
from styx.core.task import Reason
from styx.core.world import World
from styx.engine import detector, lease, loop, timers
from styx.engine.links import Links
from styx.engine.loop import Engine
from styx.engine.reports import Reports
from styx.engine.streams import Streams
from tests.sim import wrong
from tests.sim.invariants import Invariants
from tests.sim.kernel import Kernel
from tests.sim.store import MemoryStore, Tables

Patch = tuple[Any, str, Any]

_STALE_LEADER: Final[list[Patch]] = [
    (Engine, "leading", property(wrong.yes)),
    (lease.Lease, "valid", property(wrong.yes)),
    (lease.Lease, "left_s", property(lambda _: 1e3)),
]


def _blind(check: str) -> list[Patch]:
    """Without the check that sees it at once: what it leads to must be seen as well."""
    return [(Invariants, check, wrong.nothing)]


class Bug(NamedTuple):
    """`rules`: what was broken on purpose; a violation of another one is not the find that is wanted."""

    rules: str
    patches: list[Patch]


BUGS: Final[dict[str, Bug]] = {
    # The database
    "no database fence": Bug("I-9", [(Tables, "fence", wrong.nothing)]),
    "idempotency key not unique": Bug("I-5", [(Tables, "_unique", wrong.nothing)]),
    "log append ignores offset": Bug("I-6", [(Tables, "_append", wrong.append_anything)]),
    "lease taken while it lives": Bug(
        "R-12", [(Tables, "leader", wrong.none), (Tables, "take", wrong.take_anyway)]
    ),
    "unknown commit not fenced": Bug("law-4", [(MemoryStore, "load", wrong.load_without_fence)]),
    "unknown commit believed": Bug("I-2 I-4 world", [(Engine, "_turn", wrong.turn_believes)]),
    # Attempts and what they make of their tasks
    "late result overrides lost": Bug(
        "I-2 I-3",
        [(lifecycle, "exited", wrong.late_result_wins), (machine, "check", wrong.nothing)],
    ),
    "acknowledged before commit": Bug("L-1 I-4", [(Reports, "post", wrong.ack_first)]),
    "at most once retried": Bug(
        "I-7", [(policy, "Delivery", mock.MagicMock()), (lifecycle, "Delivery", mock.MagicMock())]
    ),
    "exit judged by the wish": Bug("I-3", [(lifecycle, "judge", wrong.judged_by_wish)]),
    "retries without end": Bug("I-14", [(lifecycle, "verdict", wrong.as_if({"retries": 99}))]),
    "infra retries without end": Bug(
        "I-14", [(lifecycle, "verdict", wrong.as_if({"infra_retries": 99}))]
    ),
    "retries cut short": Bug("D-5", [(lifecycle, "verdict", wrong.as_if({"retries": 0}))]),
    "infra retries cut short": Bug(
        "D-5", [(lifecycle, "verdict", wrong.as_if({"infra_retries": 0}))]
    ),
    "user pays for a lost lease": Bug(
        "D-5", [(policy, "_INFRA", policy._INFRA - {Reason.AGENT_SILENT})]
    ),
    "rejects never drain": Bug("D-5", [(policy, "REJECTS_ALLOWED", 1_000)]),
    "no task is poison": Bug("D-5", [(policy, "POISON_DEATHS", 1_000)]),
    "void hides that it failed fast": Bug("D-3", [(lifecycle, "verdict", wrong.cancelled_if_void)]),
    "backoff not waited for": Bug("D-6", [(lifecycle, "later", wrong.now)]),
    "any move allowed": Bug(
        "I-2", [(machine, "check", wrong.nothing), (lifecycle, "TERMINAL", frozenset())]
    ),
    "timeout not kept": Bug("D-9", [(Custody, "_check_limits", wrong.only_the_lease)]),
    # Jobs and needs
    "child unlocked by lost parent": Bug("I-12", [(dag, "satisfied", wrong.lost_satisfies)]),
    "child unlocked by failed parent": Bug("I-12", [(dag, "satisfied", wrong.failure_satisfies)]),
    "skipped too early": Bug("I-12", [(dag, "satisfied", wrong.no)]),
    "fail fast forgets": Bug("D-3", [(lifecycle, "cancel_job", wrong.nothing)]),
    "cancel of a job not swept": Bug("L-1", [(lifecycle, "sweep", wrong.nothing)]),
    "settled needs not loaded": Bug(
        "I-12 L-1 crash world", [(World, "load", wrong.load_forgets(4))]
    ),
    "blocks not loaded": Bug("L-1 world crash", [(World, "load", wrong.load_forgets(6))]),
    "a block keeps what it gave": Bug("I-1 I-2 world crash", [(Tasks, "_touch", wrong.nothing)]),
    "tallies not loaded": Bug("I-2 L-1 world", [(World, "load", wrong.load_forgets(5))]),
    "deadlines forgotten": Bug("L-1", [(timers.Timers, "run", wrong.sleeps)]),
    "wall clock believed": Bug("T-17 L-1", [(loop, "Steady", wrong.just_the_wall)]),
    # Placement
    "suspects are assigned to": Bug("R-23", [(match, "takes_work", wrong.takes_work_until_gone)]),
    "gang placed in part": Bug("gang", [(place, "assign", wrong.all_but_one)]),
    "more at once than asked": Bug("parallel", [(Draft, "at_limit", wrong.no)]),
    "room not counted": Bug("I-13", [(Room, "take", wrong.nothing), (Room, "give", wrong.nothing)]),
    "agent ignores its room": Bug("I-13", [(waiting.Room, "fits", wrong.yes)]),
    "takes one alternative, holds another": Bug(
        "I-13", [(choice, "held", wrong.the_first_alternative)]
    ),
    # Silence
    "no failover grace": Bug(
        "L-2",
        [
            (detector.Detector, "__init__", wrong.no_grace),
            (detector.Detector, "look", wrong.look_without_stall),
        ],
    ),
    "no brake": Bug("R-22", [(detector.Detector, "_brake", wrong.no)]),
    "silence never noticed": Bug("R-23", [(detector.Detector, "_link_event", wrong.none)]),
    "lost agent keeps its session": Bug("R-23 L-3", [(Links, "_over", wrong.no)]),
    "deaf to silence": Bug(
        "L-3", [(Session, "_beat", wrong.sleeps), (Session, "abort", wrong.nothing)]
    ),
    # Leases
    "stale leader acknowledges": Bug("R-12", _STALE_LEADER),
    "stale leader lets two run": Bug("I-8", [*_STALE_LEADER, *_blind("granted")]),
    "stale assign started": Bug("R-40", [(Lease, "start_until", wrong.ever)]),
    "stale assign lets two run": Bug(
        "I-8", [(Lease, "start_until", wrong.ever), *_blind("given_up_for")]
    ),
    "exclusive lease not kept": Bug("I-8", [(Custody, "_check_limits", wrong.only_the_timeout)]),
    # Directives and reports
    "directives on edges only": Bug("L-1 I-11", [(Links, "redrive_one", wrong.nothing)]),
    "cancel forgets, no stop reply": Bug(
        "I-7 I-11", [(lifecycle, "cancel", wrong.cancel_forgets), (Links, "remind", wrong.nothing)]
    ),
    "what should not run is left": Bug(
        "I-11 L-1", [(roster, "synced", wrong.sync_stops_nothing), (Links, "remind", wrong.nothing)]
    ),
    "absent attempts kept": Bug("L-1", [(roster, "_absent", wrong.nothing)]),
    "assign not deduplicated": Bug(
        "I-1",
        [(Duties, "assign", wrong.assign_again), (Supervisor, "start", wrong.start_again)],
    ),
    "claim said to run": Bug("I-3", [(Entry, "apply", wrong.claim_runs)]),
    "forgets before it is told": Bug("L-1 I-3", [(Session, "report", wrong.forget_at_once)]),
    "stop leaves no tombstone": Bug(
        "L-1 I-7", [(Supervisor, "_obey", wrong.stop_without_tombstone)]
    ),
    "claims not on disk": Bug("I-1 I-7 I-8", [(Kernel, "sync", wrong.nothing)]),
    "reports said once": Bug("L-1", [(Session, "_resend", wrong.nothing)]),
    "stop after sync ignored": Bug("L-1 I-11", [(Duties, "stop", wrong.nothing)]),
    # Logs
    "logs complete too soon": Bug("I-6", [(Streams, "_logs_stored", wrong.yes)]),
    "bytes acknowledged first": Bug("I-6 L-1", [(Streams, "_store", wrong.ack_bytes_first)]),
    "silence counts as stuck": Bug("L-3", [(Session, "_lend", wrong.lend_only)]),
    "bytes sent from zero": Bug(
        "I-6",
        [(Stream, "restart", wrong.restart_from_zero), (Tables, "_append", wrong.append_anything)],
    ),
}


@contextlib.contextmanager
def planted(name: str) -> Generator[None]:
    """The product with that bug; with "", as it is."""
    with contextlib.ExitStack() as stack:
        for owner, attribute, replacement in BUGS[name].patches if name else ():
            stack.enter_context(mock.patch.object(owner, attribute, replacement))
        yield
