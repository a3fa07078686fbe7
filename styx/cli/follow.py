"""Following tasks: what they write goes to our own stdout and stderr, byte for byte, attempt by attempt."""

import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, Protocol

from styx.cli import detach, exits, render, talk
from styx.errors import StyxError
from styx.sdk.client import Styx
from styx.wire import http as wire

CACHED: Final = "cached"  # the reason of a task that did not run
STREAMS: Final = ("out", "err")
WAITING: Final = frozenset({"blocked", "queued", "provisioning"})
WHY_AFTER_S: Final = 1.0  # a wait this long deserves a word,
WHY_EVERY_S: Final = 2.0  # and a fresh one this often
POLL_FIRST_S: Final = 0.02  # a quick job is seen at once,
POLL_LAST_S: Final = 1.0  # a long one costs a request a second
FOLLOWED_TASKS: Final = 100  # of a larger job only the ends are told
FOLLOWED_AT_ONCE: Final = 16


class Sink(Protocol):
    """Where a stream's bytes go."""

    def write(self, stream: str, data: bytes) -> None: ...

    def end(self) -> None:
        """Nothing more comes."""


class Verbatim:
    """Each stream to ours of the same kind, unchanged."""

    def write(self, stream: str, data: bytes) -> None:
        render.raw(data, STREAMS.index(stream) + 1)

    def end(self) -> None:
        pass


class Prefixed:
    """Whole lines behind the task's name, so that several tasks can share one terminal."""

    _turn = threading.Lock()  # of all tasks: a line is never cut by another

    def __init__(self, name: str, width: int) -> None:
        self._prefix = f"{name:<{width}} | ".encode()
        self._rest = defaultdict[str, bytes](bytes)

    def write(self, stream: str, data: bytes) -> None:
        *lines, self._rest[stream] = (self._rest[stream] + data).split(b"\n")
        text = b"".join(self._prefix + line + b"\n" for line in lines)
        with self._turn:
            render.raw(text, STREAMS.index(stream) + 1)

    def end(self) -> None:
        for stream, rest in [*self._rest.items()]:
            if rest:
                self.write(stream, b"\n")


VERBATIM: Final = Verbatim()


class Announced(Verbatim):
    """As `Verbatim`, once the word on why the task waits is off the screen."""

    def __init__(self, waiting: "Waiting") -> None:
        self._waiting = waiting

    def write(self, stream: str, data: bytes) -> None:
        self._waiting.hush()
        super().write(stream, data)


def run(styx: Styx, task_id: str) -> int:
    """Copy what every attempt writes until the task is over; return its exit code. Raises: Detached."""
    waiting = Waiting(styx.another(), task_id)
    with detach.on_interrupt(task_id, lambda: styx.another().cancel(task_id)):
        if talk.interactive():
            waiting.start()
        try:
            copy(styx, task_id, Announced(waiting), from_beginning=True)
            ended = styx.wait(task_id)
        finally:
            waiting.hush()
    tell_end(ended)
    return exits.of_task(ended)


def copy(
    styx: Styx,
    task_id: str,
    sink: Sink,
    *,
    streams: Sequence[str] = STREAMS,
    attempt: int | None = None,
    tail: int | None = None,
    from_beginning: bool = False,
) -> None:
    """Until the task is over, or the one attempt that is asked for."""
    only = streams[0] if len(streams) == 1 else ""
    for written in styx.follow(
        task_id, stream=only, attempt=attempt, tail=tail, from_beginning=from_beginning
    ):
        if detach.left.is_set():
            return
        if written.why:
            talk.warn(f"{written.lost:,} bytes of std{written.stream} were lost: {written.why}")
        else:
            sink.write(written.stream, written.data)
    sink.end()


def print_so_far(
    styx: Styx,
    task_id: str,
    sink: Sink,
    streams: Sequence[str],
    attempt: int | None,
    tail: int | None,
) -> None:
    """Copy what one attempt wrote so far, the last unless given."""
    for stream in streams:
        for piece in styx.logs(task_id, stream=stream, attempt=attempt, tail=tail):
            sink.write(stream, piece)
    sink.end()


def job(styx: Styx, job_id: str) -> int:
    """Copy what all its tasks write, line by line behind their names, until the job is over.

    Of a large job only the ends are told. Return the exit code. Raises: Detached.
    """
    with detach.on_interrupt(job_id, lambda: styx.another().cancel_job(job_id)):
        total = styx.job(job_id).total
        if total > FOLLOWED_TASKS:
            talk.say(f"{total:,} tasks; what they write: styx logs ID")
            styx.wait_job(job_id)
        else:
            _copy_job(styx, job_id)
    return exit_of_job(styx, job_id)


def exit_of_job(styx: Styx, job_id: str) -> int:
    """The highest exit code of its tasks."""
    counts = styx.job(job_id).counts
    unhappy = [status for status in wire.TERMINAL - {"succeeded"} if counts.get(status)]
    if not unhappy:
        return exits.FINE
    return exits.of_tasks(styx.tasks(job=job_id, status=",".join(unhappy)))


def tell_end(task: wire.TaskDetail) -> None:
    """One line about a task that did not succeed, or did not run; silence about one that did."""
    if task.taken_from:
        talk.say(f"{task.name} did not run again: this is the output of {task.taken_from}")
    if task.status == "succeeded":
        return
    took = f" after {render.duration(task.duration_ms / 1_000)}" if task.duration_ms else ""
    why = render.ending(task)
    detail = f": {task.detail}" if task.detail else ""
    talk.error(
        f"{task.name} {task.status}{f' ({why})' if why else ''}{took}{detail}",
        hint=f"styx explain {task.id}",
    )


class Waiting(threading.Thread):
    """Says on a terminal, for as long as the task waits for room, why it does."""

    def __init__(self, styx: Styx, task_id: str) -> None:
        super().__init__(name=f"why {task_id} waits", daemon=True)
        self._styx = styx
        self._task_id = task_id
        self._over = threading.Event()
        self._turn = threading.Lock()  # of the one line: nothing is said after `hush`
        self._shown = False

    def hush(self) -> None:
        with self._turn:
            self._over.set()
            self._clear()

    def run(self) -> None:
        wait_s = WHY_AFTER_S
        try:
            while not self._over.wait(wait_s) and self._tell():
                wait_s = WHY_EVERY_S
        except StyxError:
            return  # whoever follows the task says what is wrong with the server

    def _tell(self) -> bool:
        """Whether it waits still."""
        found = self._styx.explain(self._task_id)
        with self._turn:
            if self._over.is_set():
                return False
            if found.status not in WAITING:
                self._clear()
                return False
            talk.status_line(f"{found.name}: {found.summary}")
            self._shown = True
            return True

    def _clear(self) -> None:
        if self._shown:
            talk.status_line("")
            self._shown = False


class _TaskCopy(threading.Thread):
    """One task of several, followed until it is over."""

    def __init__(self, styx: Styx, row: wire.TaskView, width: int) -> None:
        super().__init__(name=f"task {row.id}", daemon=True)
        self.error: StyxError | None = None
        self._styx = styx
        self._task_id = row.id
        self._sink = Prefixed(row.name, width)

    def run(self) -> None:
        try:
            with self._styx:
                copy(self._styx, self._task_id, self._sink, from_beginning=True)
                tell_end(self._styx.wait(self._task_id))
        except StyxError as error:
            self.error = error


def _copy_job(styx: Styx, job_id: str) -> None:
    copies: dict[str, _TaskCopy] = {}
    rows: list[wire.TaskView] = []
    for _ in _polls():
        rows = list(styx.tasks(job=job_id))
        width = max((len(row.name) for row in rows), default=0)
        free = FOLLOWED_AT_ONCE - sum(copy.is_alive() for copy in copies.values())
        started = [row for row in reversed(rows) if row.attempt and row.id not in copies]
        for row in started[:free]:
            copies[row.id] = _TaskCopy(styx.another(), row, width)
            copies[row.id].start()
        _raise_any(copies.values())
        if len(started) <= free and all(row.status in wire.TERMINAL for row in rows):
            break
    for copying in copies.values():
        copying.join()
    _raise_any(copies.values())
    if cached := sum(row.reason == CACHED for row in rows):
        talk.say(f"{cached:,} of {len(rows):,} tasks did not run again: they succeeded before")


def _raise_any(copies: Iterable[_TaskCopy]) -> None:
    for copying in copies:
        if copying.error:
            raise copying.error


def _polls() -> Iterator[None]:
    """Looks at something that changes: soon after each other first, at last one a second."""
    pause_s = POLL_FIRST_S
    while True:
        yield
        time.sleep(pause_s)
        pause_s = min(POLL_LAST_S, pause_s * 1.5)
