# ruff: noqa: T201 -- a command line prints
"""Planted bugs: each breaks one rule of the product, or of the database, and must be caught.

A bug is a list of patches (owner, name, replacement). Two rules that hide each other's absence are
broken together. `hunt` tries seeds until one of the invariants complains that the bug is meant to break.
"""
# pyright: reportPrivateUsage=false, reportPrivateImportUsage=false
# A bug is planted where the rule is kept, which is mostly inside.

import asyncio
import contextlib
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from typing import Any, Final, NamedTuple
from unittest import mock

from msgspec.structs import replace

from styx.agent.custody import Custody
from styx.agent.duties import Duties, Lease
from styx.agent.roster import Entry, Phase
from styx.agent.session import Session
from styx.agent.spool import Stream
from styx.agent.supervisor import Supervisor
from styx.core import dag, lifecycle, machine, match, place, policy, roster
from styx.core.agent import AgentState
from styx.core.attempt import AttemptState
from styx.core.event import SyncAnswer
from styx.core.room import Room
from styx.core.task import Reason, TaskState
from styx.core.world import World
from styx.engine import detector, lease, loop, timers
from styx.engine.links import Links
from styx.engine.loop import Engine
from styx.engine.reports import Reports
from styx.engine.streams import Streams
from styx.errors import StoreUnavailable
from styx.wire import agent as wire
from tests.sim import trial
from tests.sim.invariants import Invariants
from tests.sim.kernel import Kernel
from tests.sim.plan import draw
from tests.sim.store import MemoryStore, Tables

Patch = tuple[Any, str, Any]


def _nothing(*_: object, **__: object) -> None:
    pass


# --- the database ---------------------------------------------------------------------------------


def _append_anything(self: Tables, term: int, chunk: Any) -> int:
    stream = (chunk.key, chunk.stream)
    self.logs.setdefault(stream, bytearray()).extend(chunk.data)
    self.on_log(term, stream, len(self.logs[stream]) - len(chunk.data), chunk.data)
    return self.next(stream)


async def _load_without_fence(self: MemoryStore) -> Any:
    self._unsure = False
    return await _load_rows(self)


_load_rows = MemoryStore.load


def _take_anyway(self: Tables, holder: str, *rest: Any) -> Any:
    self.lease = self.lease._replace(expires_at=0.0)
    return _take(self, holder, *rest)


_take = Tables.take


# --- the server -----------------------------------------------------------------------------------

_exited, _satisfied, _verdict = lifecycle.exited, dag.satisfied, policy.verdict


def _late_result_wins(draft: Any, event: Any) -> None:
    attempt = draft.attempt(event.key)
    if attempt and attempt.state is AttemptState.LOST and event.exit.code == 0:
        draft.put_attempt(replace(attempt, state=AttemptState.SUCCEEDED, exit=event.exit))
    else:
        _exited(draft, event)


def _lost_satisfies(on: Any, state: Any, how: Any) -> bool:
    return state is TaskState.LOST or _satisfied(on, state, how)


def _failure_satisfies(on: Any, state: Any, how: Any) -> bool:
    return state is TaskState.FAILED or _satisfied(on, state, how)


def _as_if(spec: dict[str, Any]) -> Callable[..., Any]:
    """Decide as for another spec."""

    def verdict(task: Any, attempt: Any, how: Any) -> Any:
        return _verdict(replace(task, spec=replace(task.spec, **spec)), attempt, how)

    return verdict


def _no(*_: object) -> bool:
    return False


def _cancelled_if_void(task: Any, attempt: Any, how: Any) -> Any:
    if attempt.state is AttemptState.REJECTED and task.cancel_at:
        return policy.Verdict(TaskState.CANCELLED, Reason.CANCELLED)
    return _verdict(task, attempt, how)


async def _ack_first(self: Reports, reports: Any, logs_stored: Any = _no) -> None:
    reports = list(reports)
    for report in reports:
        self._acknowledge(report)
    await _post(self, reports, logs_stored)


_post = Reports.post
_detector = detector.Detector.__init__


def _no_grace(self: Any, links: Any, **fields: Any) -> None:
    _detector(self, links, **{**fields, "start_s": -1e6})


def _look_without_stall(self: Any, agents: Any, now_s: float) -> Any:
    self._looked_s = now_s
    return _look(self, agents, now_s)


_look = detector.Detector.look


def _takes_anybody(agent: Any, wanted: Any) -> bool:
    return agent.state is not AgentState.GONE and match.why_never(wanted, agent) is None


def _cancel_forgets(draft: Any, task: Any, reason: Any, *, force: bool) -> None:
    _cancel(draft, task, reason, force=force)
    for attempt in draft.members(task) if task.state is TaskState.ACTIVE else ():
        if attempt.state is AttemptState.ASSIGNED:
            lifecycle.end(draft, attempt, AttemptState.REJECTED, Reason.CANCELLED)


_cancel = lifecycle.cancel


def _sync_stops_nothing(draft: Any, event: Any) -> Any:
    answer = _synced(draft, event)
    return replace(answer, stop=()) if isinstance(answer, SyncAnswer) else answer


_synced = roster.synced


def _judged_by_wish(exit_: Any, stop_reason: Any) -> Any:
    return _judge(replace(exit_, signalled=bool(stop_reason)), stop_reason)


_judge = lifecycle.judge


async def _ack_bytes_first(self: Streams, batch: Any) -> None:
    for message in batch:
        if isinstance(message, wire.Log):
            self._link.send(
                wire.LogOk(message.key, message.stream, message.offset + len(message.data))
            )
    try:
        await asyncio.sleep(0)
        await _store(self, batch[: len(batch) // 2])
    except StoreUnavailable:
        pass


_store = Streams._store
_apply = World.apply
_load = World.load


def _load_forgets(*which: int) -> Any:
    """A world that is loaded without some of what the database says."""

    def load(*parts: Any) -> World:
        return _load(*(type(p)() if n in which else p for n, p in enumerate(parts)))

    return staticmethod(load)


async def _turn_believes(self: Engine, batch: Any) -> None:
    """A failed commit is taken for a good one."""
    commit = self.store.commit

    async def believed(delta: Any) -> None:
        with contextlib.suppress(StoreUnavailable):
            await commit(delta)
        self.store._unsure = False  # type: ignore[attr-defined]

    with mock.patch.object(self.store, "commit", believed):
        await _turn(self, batch)


_turn = Engine._turn

# --- the agent ------------------------------------------------------------------------------------

_assign, _start, _obey = Duties.assign, Supervisor.start, Supervisor._obey


def _assign_again(self: Duties, assign: Any, lease_: Any) -> None:
    entry = self._roster.get(assign.key)
    if entry is not None and entry.order is None:
        self._roster.remove(assign.key)
    _assign(self, assign, lease_)


def _start_again(self: Supervisor, order: Any) -> None:
    self._journal.attempts.pop(order["k"], None)
    self._journal.forgotten.pop(order["k"], None)
    _start(self, order)


def _claim_runs(self: Entry, record: Any) -> None:
    _apply_record(self, record)
    if self.phase is Phase.STARTING:
        self.phase = Phase.RUNNING


_apply_record = Entry.apply


def _forget_at_once(self: Session, entry: Any) -> None:
    _report(self, entry)
    if not entry.live:
        asyncio.get_running_loop().call_soon(self._duties.forget, entry.key)


_report = Session.report


def _stop_without_tombstone(self: Supervisor, order: Any) -> None:
    if order["do"] != "stop" or order["k"] in self._custody.live:
        _obey(self, order)


_check_limits = Custody._check_limits


def _only_the_lease(self: Custody, attempt: Any, now: float) -> None:
    attempt.timeout_at = float("inf")
    _check_limits(self, attempt, now)


def _only_the_timeout(self: Custody, attempt: Any, now: float) -> None:
    attempt.exclusive = False
    _check_limits(self, attempt, now)


def _ever(*_: object) -> float:
    return 1e12


def _none(*_: object) -> None:
    return None


def _restart_from_zero(self: Stream, offset: int) -> None:
    self.sent = self.acked = 0


def _yes(*_: object) -> bool:
    return True


def _just_the_wall(wall: Any, *_: object) -> Any:
    return wall


def _now(now: Any, _: float) -> Any:
    return now


async def _sleeps(*_: object) -> None:
    await asyncio.sleep(1e9)


_STALE_LEADER: Final[list[Patch]] = [
    (Engine, "leading", property(_yes)),
    (lease.Lease, "valid", property(_yes)),
    (lease.Lease, "left_s", property(lambda _: 1e3)),
]


def _blind(check: str) -> list[Patch]:
    """Without the check that sees it at once: what it leads to must be seen as well."""
    return [(Invariants, check, _nothing)]


class Bug(NamedTuple):
    """`rules`: what was broken on purpose; a violation of another one is not the find that is wanted."""

    rules: str
    patches: list[Patch]


BUGS: Final[dict[str, Bug]] = {
    # The database
    "no database fence": Bug("I-9", [(Tables, "fence", _nothing)]),
    "idempotency key not unique": Bug("I-5", [(Tables, "_unique", _nothing)]),
    "log append ignores offset": Bug("I-6", [(Tables, "_append", _append_anything)]),
    "lease taken while it lives": Bug(
        "R-12", [(Tables, "leader", _none), (Tables, "take", _take_anyway)]
    ),
    "unknown commit not fenced": Bug("law-4", [(MemoryStore, "load", _load_without_fence)]),
    "unknown commit believed": Bug("I-2 I-4 world", [(Engine, "_turn", _turn_believes)]),
    # Attempts and what they make of their tasks
    "late result overrides lost": Bug(
        "I-2 I-3", [(lifecycle, "exited", _late_result_wins), (machine, "check", _nothing)]
    ),
    "acknowledged before commit": Bug("L-1 I-4", [(Reports, "post", _ack_first)]),
    "at most once retried": Bug(
        "I-7", [(policy, "Delivery", mock.MagicMock()), (lifecycle, "Delivery", mock.MagicMock())]
    ),
    "exit judged by the wish": Bug("I-3", [(lifecycle, "judge", _judged_by_wish)]),
    "retries without end": Bug("I-14", [(lifecycle, "verdict", _as_if({"retries": 99}))]),
    "infra retries without end": Bug(
        "I-14", [(lifecycle, "verdict", _as_if({"infra_retries": 99}))]
    ),
    "rejects never drain": Bug("D-5", [(policy, "REJECTS_ALLOWED", 1_000)]),
    "no task is poison": Bug("D-5", [(policy, "POISON_DEATHS", 1_000)]),
    "void hides that it failed fast": Bug("D-3", [(lifecycle, "verdict", _cancelled_if_void)]),
    "backoff not waited for": Bug("D-6", [(lifecycle, "later", _now)]),
    "any move allowed": Bug(
        "I-2", [(machine, "check", _nothing), (lifecycle, "TERMINAL", frozenset())]
    ),
    "timeout not kept": Bug("D-9", [(Custody, "_check_limits", _only_the_lease)]),
    # Jobs and needs
    "child unlocked by lost parent": Bug("I-12", [(dag, "satisfied", _lost_satisfies)]),
    "child unlocked by failed parent": Bug("I-12", [(dag, "satisfied", _failure_satisfies)]),
    "skipped too early": Bug("I-12", [(dag, "satisfied", _no)]),
    "fail fast forgets": Bug("D-3", [(lifecycle, "cancel_job", _nothing)]),
    "cancel of a job not swept": Bug("L-1", [(lifecycle, "sweep", _nothing)]),
    "settled needs not loaded": Bug("I-12 L-1 crash world", [(World, "load", _load_forgets(4))]),
    "tallies not loaded": Bug("I-2 L-1 world", [(World, "load", _load_forgets(5))]),
    "deadlines forgotten": Bug("L-1", [(timers.Timers, "run", _sleeps)]),
    "wall clock believed": Bug("T-17 L-1", [(loop, "Steady", _just_the_wall)]),
    # Placement
    "suspects are assigned to": Bug("R-23", [(place, "takes", _takes_anybody)]),
    "room not counted": Bug("I-13", [(Room, "take", _nothing), (Room, "give", _nothing)]),
    # Silence
    "no failover grace": Bug(
        "L-2",
        [
            (detector.Detector, "__init__", _no_grace),
            (detector.Detector, "look", _look_without_stall),
        ],
    ),
    "no brake": Bug("R-22", [(detector.Detector, "_brake", _no)]),
    "silence never noticed": Bug("R-23", [(detector.Detector, "_link_event", _none)]),
    "lost agent keeps its session": Bug("R-23 L-3", [(Links, "_over", _no)]),
    "deaf to silence": Bug("L-3", [(Session, "_beat", _sleeps), (Session, "abort", _nothing)]),
    # Leases
    "stale leader acknowledges": Bug("R-12", _STALE_LEADER),
    "stale leader lets two run": Bug("I-8", [*_STALE_LEADER, *_blind("granted")]),
    "stale assign started": Bug("R-40", [(Lease, "start_until", _ever)]),
    "stale assign lets two run": Bug(
        "I-8", [(Lease, "start_until", _ever), *_blind("given_up_for")]
    ),
    "exclusive lease not kept": Bug("I-8", [(Custody, "_check_limits", _only_the_timeout)]),
    # Directives and reports
    "directives on edges only": Bug("L-1 I-11", [(Links, "redrive_one", _nothing)]),
    "cancel forgets, no stop reply": Bug(
        "I-7 I-11", [(lifecycle, "cancel", _cancel_forgets), (Links, "remind", _nothing)]
    ),
    "what should not run is left": Bug(
        "I-11 L-1", [(roster, "synced", _sync_stops_nothing), (Links, "remind", _nothing)]
    ),
    "absent attempts kept": Bug("L-1", [(roster, "_absent", _nothing)]),
    "assign not deduplicated": Bug(
        "I-1",
        [(Duties, "assign", _assign_again), (Supervisor, "start", _start_again)],
    ),
    "claim said to run": Bug("I-3", [(Entry, "apply", _claim_runs)]),
    "forgets before it is told": Bug("L-1 I-3", [(Session, "report", _forget_at_once)]),
    "stop leaves no tombstone": Bug("L-1 I-7", [(Supervisor, "_obey", _stop_without_tombstone)]),
    "claims not on disk": Bug("I-1 I-7 I-8", [(Kernel, "sync", _nothing)]),
    "reports said once": Bug("L-1", [(Session, "_resend", _nothing)]),
    "stop after sync ignored": Bug("L-1 I-11", [(Duties, "stop", _nothing)]),
    # Logs
    "logs complete too soon": Bug("I-6", [(Streams, "_logs_stored", _yes)]),
    "bytes acknowledged first": Bug("I-6 L-1", [(Streams, "_store", _ack_bytes_first)]),
    "bytes sent from zero": Bug(
        "I-6", [(Stream, "restart", _restart_from_zero), (Tables, "_append", _append_anything)]
    ),
}


@contextlib.contextmanager
def planted(name: str) -> Generator[None]:
    """The product with that bug; with "", as it is."""
    with contextlib.ExitStack() as stack:
        for owner, attribute, replacement in BUGS[name].patches if name else ():
            stack.enter_context(mock.patch.object(owner, attribute, replacement))
        yield


class Catch(NamedTuple):
    name: str
    seed: int | None
    text: str
    cpu_s: float
    others: dict[str, int]  # other rules that it broke before: how often


def _hunted(name: str, within: int) -> Catch:
    began, wanted = time.process_time(), BUGS[name].rules.split()
    others: dict[str, int] = {}
    with planted(name):
        for seed in range(within):
            violation = trial.run(draw(seed)).violation
            if violation is None:
                continue
            if violation.rule in wanted:
                return Catch(name, seed, str(violation), time.process_time() - began, others)
            others[violation.rule] = others.get(violation.rule, 0) + 1
    return Catch(name, None, "", time.process_time() - began, others)


def hunt(names: Sequence[str], *, within: int, jobs: int) -> int:
    """Print the first seed that exposes each. Returns 1 if one was not caught."""
    print(f"{'bug':32} {'rules':22} {'seed':>6} {'seconds':>8}  violation")
    missed = 0
    with ProcessPoolExecutor(jobs, initializer=trial.quiet) as pool:
        hunts = [pool.submit(_hunted, name, within) for name in names]
        for catch in map(Future.result, as_completed(hunts)):
            seed = "MISSED" if catch.seed is None else catch.seed
            before = "; ".join(f"{rule} {n} times" for rule, n in catch.others.items())
            print(
                f"{catch.name:32} {BUGS[catch.name].rules:22} {seed:>6} {catch.cpu_s:8.1f}  "
                f"{catch.text[:120]}{f' (before: {before})' if before else ''}",
                flush=True,
            )
            missed += catch.seed is None
    print(f"{len(names)} planted, {missed} missed within {within} seeds")
    return 1 if missed else 0
