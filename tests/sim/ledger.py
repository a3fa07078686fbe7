"""What really happened on the machines, whatever anybody believes: the judge of what was recorded."""

from collections.abc import Callable
from dataclasses import dataclass, field

from styx.core.ids import AttemptKey, TaskId


@dataclass(slots=True)
class Run:
    """One execution of a command: from its exec until nothing of it is left."""

    machine: str
    key: AttemptKey
    started_at: float  # virtual time
    ended_at: float | None = None
    code: int | None = None
    signal: int | None = None
    wrote: dict[int, bytearray] = field(default_factory=lambda: {1: bytearray(), 2: bytearray()})
    killed: list[tuple[float, str]] = field(default_factory=list[tuple[float, str]])

    @property
    def runs(self) -> bool:
        return self.ended_at is None


class Ledger:
    def __init__(self) -> None:
        self.runs: dict[AttemptKey, Run] = {}
        self.running: dict[AttemptKey, Run] = {}
        self.of_task: dict[TaskId, list[Run]] = {}
        self.on_started: Callable[[Run, Run | None], None] = _unheard
        self.on_ended: Callable[[Run], None] = _unheard

    def started(self, machine: str, key: AttemptKey | str, at: float) -> None:
        """A command was executed for the attempt. A second time is what must never be."""
        key = the_key(key)
        before = self.runs.get(key)
        run = self.runs[key] = self.running[key] = Run(machine, key, at)
        self.of_task.setdefault(key.task_id, []).append(run)
        self.on_started(run, before)

    def ended(
        self,
        machine: str,
        key: AttemptKey | str,
        code: int | None,
        at: float,
        signal: int | None = None,
    ) -> None:
        """Its process is gone: by itself (`code`), by a `signal`, or with its machine (neither)."""
        key = the_key(key)
        for run in self.of_task[
            key.task_id
        ]:  # where a disk was copied, two machines may have run it
            if run.key == key and run.machine == machine and run.runs:
                run.ended_at, run.code, run.signal = at, code, signal
                if self.running.get(key) is run:
                    del self.running[key]
                self.on_ended(run)

    def wrote(self, machine: str, key: AttemptKey | str, stream: int, data: bytes) -> None:
        key = the_key(key)
        runs = [r for r in self.of_task[key.task_id] if r.key == key and r.machine == machine]
        runs[-1].wrote[stream] += data

    def killed(self, key: AttemptKey | str, at: float, why: str = "") -> None:
        """A signal was sent to it, whoever sent it."""
        run = self.runs.get(the_key(key))
        if run is not None:
            run.killed.append((at, why))


def the_key(key: AttemptKey | str) -> AttemptKey:
    if isinstance(key, str):
        task_id, n, rank = key.rsplit(".", 2)
        return AttemptKey(TaskId(task_id), int(n), int(rank))
    return key


def _unheard(*_: object) -> None:
    pass
