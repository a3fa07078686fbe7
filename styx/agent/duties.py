"""What the server asks for, turned into orders to the supervisor; what the supervisor says, into reports.

Every duty is idempotent under the attempt's key: whatever is said twice is answered twice and done once.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

import msgspec

from styx.agent import order, proc
from styx.agent.deliver import Deliveries
from styx.agent.engine import Engine
from styx.agent.roster import Entry, Roster, is_well, parcel_of, parse_key
from styx.agent.spool import Spool
from styx.core.attempt import Exit, StopReason
from styx.core.ids import AttemptKey
from styx.core.spec import TaskSpec
from styx.core.task import Reason
from styx.wire import agent as wire

FRESH_S: Final = 60.0  # an assignment this long after the last sign of a lease is not started
MARGIN_S: Final = 30.0  # clock-rate error of 1 % on both sides of a lease of 300 s, and a slow kill
_VOID_REASONS: Final = {
    StopReason.TIMEOUT: Reason.TIMEOUT,
    StopReason.GANG: Reason.GANG,
    StopReason.FAIL_FAST: Reason.FAIL_FAST,
    StopReason.SUPERSEDED: Reason.SUPERSEDED,
    StopReason.UNKNOWN: Reason.UNKNOWN_ATTEMPT,
    StopReason.DRAIN: Reason.DRAIN,
    StopReason.PREEMPT: Reason.PREEMPTED,
}


class Lease:
    """How long the server's last word counts. Renewed by acknowledged heartbeats only, from the moment
    when they were sent, on the clock of `proc.now`: never by this machine's own idea of itself.
    """

    def __init__(self, at: float, lost_after_s: float) -> None:
        self.at = at
        self._lost_after_s = lost_after_s
        self._margin_s = min(MARGIN_S, lost_after_s / 4)  # of a lease too short for the full margin

    @property
    def exclusive_until(self) -> float:
        """When no process of an exclusive attempt may be left."""
        return self.at + self._lost_after_s - self._margin_s

    def start_until(self, spec: TaskSpec) -> float:
        """Until when an attempt may be started that was assigned under this lease (R-40)."""
        return self.until(exclusive=spec.exclusive, grace_s=spec.grace_s)

    def until(self, *, exclusive: bool, grace_s: float) -> float:
        if exclusive:
            return self.exclusive_until - grace_s
        return self.at + min(FRESH_S, self._lost_after_s)


class Reporter(Protocol):
    """The session with the server, while there is one."""

    def report(self, entry: Entry) -> None: ...

    def settle(self) -> None: ...

    def forget(self, entry: Entry) -> None: ...

    def abort(self, why: str) -> None: ...


class Duties:
    """`full` answers why nothing new can be taken, "" when it can."""

    def __init__(
        self,
        directory: str,
        roster: Roster,
        spool: Spool,
        command: Callable[[dict[str, Any]], None],
        flush: Callable[[], None],
        *,
        has_gpus: bool,
        engine: Engine | None,
        deliveries: Deliveries,
        full: Callable[[], str],
    ) -> None:
        self._directory = directory
        self._roster = roster
        self._spool = spool
        self._command = command
        self.flush = flush  # to be called when all commands of the moment have been given
        self._has_gpus = has_gpus
        self._engine = engine
        self._deliveries = deliveries
        self.full = full
        self.session: Reporter | None = None
        self._lease = Lease(proc.now(), 0.0)  # the last that was spoken of

    # --- from the server ----------------------------------------------------------------------

    def assign(self, assign: wire.Assign, lease: Lease) -> None:
        entry = self._roster.get(assign.key)
        if entry is not None:
            if entry.order is None:
                self._report(entry)
            return
        self._lease = lease
        until = lease.start_until(assign.spec)
        if proc.now() >= until:
            self._void(
                assign.key, Reason.STALE_ASSIGN, "the agent has been out of touch for too long"
            )
            return
        gpus = self._roster.grant_gpus(assign.spec.requirements)
        full = self.full() if gpus is not None else "too few of its GPUs are free"
        if full or gpus is None:
            self._void(assign.key, Reason.AGENT_FULL, full)
            return
        start = order.start(
            assign, directory=self._directory, gpus=gpus, has_gpus=self._has_gpus, until=until
        )
        if assign.spec.image:
            if self._engine is None:
                self._void(assign.key, Reason.AGENT_FULL, "it has no container engine any more")
                return
            start |= order.contained(start, assign.spec, self._directory, self._engine)
        makes = assign.spec.outputs and "end" not in start
        if makes and (lacking := _make(start["env"][order.OUTPUTS])):
            self._void(assign.key, Reason.AGENT_FULL, lacking)
            return
        entry = self._roster.add(assign.key, start)
        if assign.secrets:
            entry.hide(assign.secrets.values())
        if assign.spec.exclusive:
            self.renew(lease)
        self._command(start)

    def hide(self, keys: Sequence[AttemptKey], values: Sequence[str]) -> None:
        """What an earlier link knew, or a supervisor started without one."""
        for entry in filter(None, map(self._roster.get, keys)):
            entry.hide(values)

    def stop(self, key: AttemptKey, reason: StopReason, grace_s: float) -> None:
        """A key never heard of becomes a tombstone: its assignment may still be on the way."""
        entry = self._roster.get(key)
        if entry is not None and not entry.live:
            self._report(entry)
            return
        if self._deliveries.stop(str(key)):
            return
        why = _VOID_REASONS.get(reason, Reason.CANCELLED)
        self._command({"do": "stop", "k": str(key), "grace": grace_s, "why": why})

    def forget(self, key: AttemptKey) -> None:
        entry = self._roster.get(key)
        if entry is None or entry.live:
            return
        if self.session is not None:
            self.session.forget(entry)
        self._spool.remove(entry.streams)
        self._roster.remove(key)
        self._command({"do": "forget", "k": str(key)})
        if entry.parcel and entry.exit and entry.exit.reason is Reason.NONE:
            # Of what could not be brought, what there is of it stays for as long as the job's files.
            self._deliveries.remove(entry.parcel)

    def renew(self, lease: Lease) -> None:
        """Let exclusive attempts, if there are any, run for as long as this lease goes."""
        self._lease = lease
        if any(entry.live and entry.exclusive for entry in self._roster):
            self._command({"do": "lease", "until": lease.exclusive_until})

    def start_until(self, order: Mapping[str, Any]) -> float:
        """Until when what was ordered a while ago may start, as things stand now."""
        return self._lease.until(exclusive=order["exclusive"], grace_s=order["grace"])

    # --- from the supervisor ------------------------------------------------------------------

    def records(self, records: Sequence[Mapping[str, Any]]) -> None:
        """What became of attempts, or is said again. Of one that began and ended in the same breath
        the end says it all: a report less, and half of what the server has to write down.
        """
        moved = {entry.key: entry for entry in map(self._record, records)}
        for entry in moved.values():
            self._moved(entry)
        if self.session is not None:
            self.session.settle()

    def delivered(self, key: str, end: Mapping[str, Any]) -> None:
        """What it has left is brought, or never will be: it has ended so."""
        entry = self._roster.get(parse_key(key))
        if entry is None:  # its supervisor has lost it meanwhile
            return
        self._roster.apply(entry, {"exit": end})
        self._moved(entry)
        if self.session is not None:
            self.session.settle()

    def snapshot(self, records: Sequence[Mapping[str, Any]]) -> None:
        """All that a supervisor holds, which may not be the one that was there before."""
        self.records(records)
        held = {record["k"] for record in records}
        for entry in [entry for entry in self._roster if str(entry.key) not in held]:
            if entry.order is not None:
                self._command(entry.order)  # it had not got that far when it fell
            else:
                self._spool.remove(entry.streams)
                self._roster.remove(entry.key)
                if self.session is not None:
                    self.session.abort(f"the supervisor has lost {entry.key}")
        self.flush()

    def _record(self, record: Mapping[str, Any]) -> Entry:
        key = parse_key(record["k"])
        entry = self._roster.get(key)
        if entry is None:
            entry = self._roster.add(key)
        self._roster.apply(entry, self._held_back(entry, record))
        return entry

    def _held_back(self, entry: Entry, record: Mapping[str, Any]) -> Mapping[str, Any]:
        """The record without an end before which something is to be brought to the server."""
        parcel = parcel_of(record) or entry.parcel
        if parcel is None or "exit" not in record:
            return record
        before = {name: value for name, value in record.items() if name != "exit"}
        if not entry.live:
            # The journal does not know all of it.
            return before | {"exit": msgspec.to_builtins(entry.exit)}
        if not is_well(msgspec.convert(record["exit"], Exit)):
            return record
        self._deliveries.put(str(entry.key), parcel, record["exit"])
        return before | {"began": True}  # of the shortest nobody has said so

    def _moved(self, entry: Entry) -> None:
        self._spool.add(entry.streams)  # not before: of the shortest no growth is noticed at all
        if entry.live or self.session is None:
            self._spool.mark(entry.streams)  # what waits for a server counts towards the caps
        self._report(entry)

    def _void(self, key: AttemptKey, reason: Reason, detail: str) -> None:
        self._command({"do": "void", "k": str(key), "why": reason, "detail": detail})

    def _report(self, entry: Entry) -> None:
        if self.session is not None:
            self.session.report(entry)


def _make(path: str) -> str:
    """Why the directory cannot be had; "" once it is there."""
    try:
        os.makedirs(path, mode=0o700, exist_ok=True)
    except OSError as error:
        return f"the directory for its outputs cannot be made: {error.strerror}"
    return ""
