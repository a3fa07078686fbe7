"""What the planted bugs put in the place of what is right: see `tests.sim.bugs`."""

# pyright: reportPrivateUsage=false, reportPrivateImportUsage=false
import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

from msgspec.structs import replace

from styx.agent import home, spool
from styx.agent.custody import Custody
from styx.agent.duties import Duties
from styx.agent.roster import Entry, Phase
from styx.agent.session import Session
from styx.agent.spool import Stream
from styx.agent.supervisor import Supervisor
from styx.core import dag, lifecycle, place, policy, roster
from styx.core.agent import AgentState
from styx.core.attempt import AttemptState
from styx.core.event import SyncAnswer
from styx.core.task import Reason, TaskState
from styx.core.world import World
from styx.engine import detector
from styx.engine.loop import Engine
from styx.engine.reports import Reports
from styx.engine.streams import Streams
from styx.errors import StoreUnavailable
from styx.wire import agent as wire
from tests.sim.store import MemoryStore, Tables


def nothing(*_: object, **__: object) -> None:
    pass


# --- the database ---------------------------------------------------------------------------------


def append_anything(self: Tables, term: int, chunk: Any) -> int:
    stream = (chunk.key, chunk.stream)
    self.logs.setdefault(stream, bytearray()).extend(chunk.data)
    self.on_log(term, stream, len(self.logs[stream]) - len(chunk.data), chunk.data)
    return self.next(stream)


async def load_without_fence(self: MemoryStore) -> Any:
    self._unsure = False
    return await _load_rows(self)


_load_rows = MemoryStore.load


def take_anyway(self: Tables, holder: str, *rest: Any) -> Any:
    self.lease = self.lease._replace(expires_at=0.0)
    return _take(self, holder, *rest)


_take = Tables.take


# --- the server -----------------------------------------------------------------------------------

_exited, _satisfied, _verdict = lifecycle.exited, dag.satisfied, policy.verdict


def late_result_wins(draft: Any, event: Any) -> None:
    attempt = draft.attempt(event.key)
    if attempt and attempt.state is AttemptState.LOST and event.exit.code == 0:
        draft.put_attempt(replace(attempt, state=AttemptState.SUCCEEDED, exit=event.exit))
    else:
        _exited(draft, event)


def lost_satisfies(on: Any, state: Any, how: Any) -> bool:
    return state is TaskState.LOST or _satisfied(on, state, how)


def failure_satisfies(on: Any, state: Any, how: Any) -> bool:
    return state is TaskState.FAILED or _satisfied(on, state, how)


def as_if(spec: dict[str, Any]) -> Callable[..., Any]:
    """Decide as for another spec."""

    def verdict(task: Any, attempt: Any, how: Any) -> Any:
        return _verdict(replace(task, spec=replace(task.spec, **spec)), attempt, how)

    return verdict


def no(*_: object) -> bool:
    return False


def cancelled_if_void(task: Any, attempt: Any, how: Any) -> Any:
    if attempt.state is AttemptState.REJECTED and task.cancel_at:
        return policy.Verdict(TaskState.CANCELLED, Reason.CANCELLED)
    return _verdict(task, attempt, how)


async def ack_first(self: Reports, reports: Any, logs_stored: Any = no) -> None:
    reports = list(reports)
    for report in reports:
        self._acknowledge(report)
    await _post(self, reports, logs_stored)


_post = Reports.post
_detector = detector.Detector.__init__


def no_grace(self: Any, links: Any, **fields: Any) -> None:
    _detector(self, links, **{**fields, "start_s": -1e6})


def look_without_stall(self: Any, agents: Any, now_s: float) -> Any:
    self._looked_s = now_s
    return _look(self, agents, now_s)


_look = detector.Detector.look


def takes_work_until_gone(agent: Any) -> bool:
    return agent.state is not AgentState.GONE


def all_but_one(draft: Any, task: Any, chosen: Any) -> None:
    _assign_to(draft, task, chosen._replace(agents=chosen.agents[:-1] or chosen.agents))


def the_first_alternative(task: Any, _: Any) -> Any:
    return (task.spec.requirements.any_of or [task.spec.requirements])[0]


_assign_to = place.assign


def cancel_forgets(draft: Any, task: Any, reason: Any, *, force: bool) -> None:
    _cancel(draft, task, reason, force=force)
    for attempt in draft.members(task) if task.state is TaskState.ACTIVE else ():
        if attempt.state is AttemptState.ASSIGNED:
            lifecycle.end(draft, attempt, AttemptState.REJECTED, Reason.CANCELLED)


_cancel = lifecycle.cancel


def sync_stops_nothing(draft: Any, event: Any) -> Any:
    answer = _synced(draft, event)
    return replace(answer, stop=()) if isinstance(answer, SyncAnswer) else answer


_synced = roster.synced


def judged_by_wish(exit_: Any, stop_reason: Any) -> Any:
    return _judge(replace(exit_, signalled=bool(stop_reason)), stop_reason)


_judge = lifecycle.judge


async def ack_bytes_first(self: Streams, batch: Any) -> None:
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


def load_forgets(*which: int) -> Any:
    """A world that is loaded without some of what the database says."""

    def load(*parts: Any) -> World:
        return _load(*(type(p)() if n in which else p for n, p in enumerate(parts)))

    return staticmethod(load)


async def turn_believes(self: Engine, batch: Any) -> None:
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


def assign_again(self: Duties, assign: Any, lease_: Any) -> None:
    entry = self._roster.get(assign.key)
    if entry is not None and entry.order is None:
        self._roster.remove(assign.key)
    _assign(self, assign, lease_)


def start_again(self: Supervisor, order: Any) -> None:
    """Neither the journal nor the output that is there holds it back."""
    Path(home.spool_path(self._home, order["k"], home.OUT_SUFFIX)).unlink(missing_ok=True)
    self._journal.attempts.pop(order["k"], None)
    self._journal.forgotten.pop(order["k"], None)
    _start(self, order)


def claim_runs(self: Entry, record: Any) -> None:
    _apply_record(self, record)
    if self.phase is Phase.STARTING:
        self.phase = Phase.RUNNING


_apply_record = Entry.apply


def forget_at_once(self: Session, entry: Any) -> None:
    _report(self, entry)
    if not entry.live:
        asyncio.get_running_loop().call_soon(self._duties.forget, entry.key)


_report = Session.report


def stop_without_tombstone(self: Supervisor, order: Any) -> None:
    if order["do"] != "stop" or order["k"] in self._custody.live:
        _obey(self, order)


_check_limits = Custody._check_limits


def only_the_lease(self: Custody, attempt: Any, now: float) -> None:
    attempt.timeout_at = float("inf")
    _check_limits(self, attempt, now)


def only_the_timeout(self: Custody, attempt: Any, now: float) -> None:
    attempt.exclusive = False
    _check_limits(self, attempt, now)


def ever(*_: object) -> float:
    return 1e12


def none(*_: object) -> None:
    return None


def lend_only(self: Session, logs: Any) -> None:
    self._in_flight += spool.size(logs)


def restart_from_zero(self: Stream, offset: int) -> None:
    self.sent = self.acked = 0


def yes(*_: object) -> bool:
    return True


def just_the_wall(wall: Any, *_: object) -> Any:
    return wall


def now(now: Any, _: float) -> Any:
    return now


async def sleeps(*_: object) -> None:
    await asyncio.sleep(1e9)
