"""Every attempt that this agent holds, as the link knows it, and the GPUs that they use."""

from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from typing import Any

import msgspec

from styx.agent import home
from styx.agent.errand import Parcel
from styx.agent.redact import Veil
from styx.agent.spool import ERR, OUT, Stream
from styx.core import room
from styx.core.attempt import AttemptState, Exit
from styx.core.ids import AttemptKey, TaskId
from styx.core.spec import Requirements
from styx.core.task import Reason
from styx.wire import agent as wire


class Phase(StrEnum):
    STARTING = "starting"  # the supervisor has been told
    RUNNING = "running"
    ENDED = "ended"
    VOID = "void"


class Entry:
    """One attempt. `order` is kept until the supervisor has claimed it: it may have to be given again."""

    __slots__ = (
        "detail",
        "exclusive",
        "exit",
        "gpus",
        "job",
        "key",
        "order",
        "parcel",
        "phase",
        "pid",
        "reason",
        "streams",
        "unkillable",
    )

    def __init__(
        self, key: AttemptKey, directory: str, order: dict[str, Any] | None = None
    ) -> None:
        self.key = key
        self.order = order
        self.phase = Phase.STARTING
        self.pid = 0
        self.gpus: tuple[int, ...] = tuple(order["gpus"]) if order else ()
        self.exclusive = bool(order and order["exclusive"])
        self.job: str = order.get("job", "") if order else ""  # whose files it uses
        self.parcel = parcel_of(order or {})
        self.exit: Exit | None = None
        self.reason = Reason.NONE
        self.detail = ""
        self.unkillable = False
        text, found = str(key), order is None
        self.streams = (
            Stream(key, OUT, home.spool_path(directory, text, home.OUT_SUFFIX), found=found),
            Stream(key, ERR, home.spool_path(directory, text, home.ERR_SUFFIX), found=found),
        )

    def hide(self, values: Iterable[str]) -> None:
        """Mask them from now on, beside those of before."""
        for stream in self.streams:
            stream.veil = (stream.veil | values) if stream.veil else Veil(values)

    @property
    def live(self) -> bool:
        return self.phase in (Phase.STARTING, Phase.RUNNING)

    def apply(self, record: Mapping[str, Any]) -> None:
        self.order = None
        self.gpus = tuple(record.get("gpus", self.gpus))
        self.exclusive = record.get("exclusive", self.exclusive)
        self.job = record.get("job", self.job)
        self.parcel = parcel_of(record) or self.parcel
        self.pid = record.get("pid", self.pid)
        self.unkillable = record.get("unkillable", self.unkillable)
        if "void" in record:
            self.phase = Phase.VOID
            self.reason, self.detail = Reason(record["void"]), record["detail"]
        elif "exit" in record:
            self.phase = Phase.ENDED
            self.exit = end = msgspec.convert(record["exit"], Exit)
            self.streams[0].final, self.streams[1].final = end.out_bytes, end.err_bytes
            if end.reason is Reason.EXIT_STATUS_LOST:
                # Assigned anew it is not executed anew: a power cut took its claim, not its output.
                for stream in self.streams:
                    stream.written_earlier()
        elif (
            self.pid or "began" in record
        ):  # a claim alone says nothing: its supervisor may have died before the start
            self.phase = Phase.RUNNING

    def event(self) -> wire.EvAccepted | wire.EvStarted | wire.EvExited | wire.EvVoid:
        """What there is to report of it."""
        match self.phase:
            case Phase.STARTING:
                return wire.EvAccepted(self.key)
            case Phase.RUNNING:
                return wire.EvStarted(self.key)
            case Phase.VOID:
                return wire.EvVoid(self.key, self.reason, self.detail)
            case Phase.ENDED:
                assert self.exit is not None
                return wire.EvExited(self.key, self.exit)

    def notice(self) -> wire.Notice | None:
        """What the server's operator should know of it."""
        if not self.unkillable or not self.live:
            return None
        return wire.Notice("unkillable", f"{self.key} was killed and does not end; pid {self.pid}")

    def held(self) -> wire.Held:
        produced = (self.streams[0].length(), self.streams[1].length())
        return wire.Held(self.key, self.state, self.exit, produced)

    @property
    def state(self) -> AttemptState:
        match self.phase:
            case Phase.STARTING:
                return AttemptState.ACCEPTED
            case Phase.RUNNING:
                return AttemptState.RUNNING
            case Phase.VOID:
                return AttemptState.REJECTED
            case Phase.ENDED:
                assert self.exit is not None
                well = is_well(self.exit) and self.exit.reason is Reason.NONE
                return AttemptState.SUCCEEDED if well else AttemptState.FAILED


def parcel_of(said: Mapping[str, Any]) -> Parcel | None:
    """Of an order or a record."""
    return msgspec.convert(said["parcel"], Parcel) if "parcel" in said else None


class Roster:
    def __init__(self, directory: str, gpu_models: Mapping[int, str]) -> None:
        self._directory = directory
        self._gpu_models = gpu_models  # by the driver's index
        self._entries: dict[AttemptKey, Entry] = {}
        self.live = 0  # how many of them are
        self.running = 0

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    def get(self, key: AttemptKey) -> Entry | None:
        return self._entries.get(key)

    def add(self, key: AttemptKey, order: dict[str, Any] | None = None) -> Entry:
        entry = self._entries[key] = Entry(key, self._directory, order)
        self.live += 1
        return entry

    def apply(self, entry: Entry, record: Mapping[str, Any]) -> None:
        """Take over what a line of the journal says."""
        self._count(entry, -1)
        entry.apply(record)
        self._count(entry, 1)

    def remove(self, key: AttemptKey) -> None:
        self._count(self._entries.pop(key), -1)

    def grant_gpus(self, wanted: Requirements) -> list[int] | None:
        """The lowest free devices of one model that fits; None when there are not as many."""
        if not wanted.gpus:
            return []
        used = {index for entry in self if entry.live for index in entry.gpus}
        free: dict[str, list[int]] = {}
        for index, model in sorted(self._gpu_models.items()):
            if index not in used and room.model_matches(wanted.gpu_model, model):
                free.setdefault(model, []).append(index)
        for indexes in free.values():
            if len(indexes) >= wanted.gpus:
                return indexes[: wanted.gpus]
        return None

    def _count(self, entry: Entry, one: int) -> None:
        self.live += one * entry.live
        self.running += one * (entry.phase is Phase.RUNNING)


def parse_key(text: str) -> AttemptKey:
    """The inverse of `str(key)`."""
    task_id, n, rank = text.rsplit(".", 2)
    return AttemptKey(TaskId(task_id), int(n), int(rank))


def is_well(end: Exit) -> bool:
    """Whether the task's own process has ended as it should."""
    return end.code == 0 and not end.signalled
