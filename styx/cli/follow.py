"""Following tasks: what they write goes to our own stdout and stderr, byte for byte, attempt by attempt.

A stream is read by a thread over a connection of its own. The main thread asks for the task, so that
Ctrl-C always finds it waiting.
"""

import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, Protocol

import msgspec

from styx.cli import detach, exits, render, talk
from styx.errors import StyxError
from styx.sdk.client import POLL_FIRST_S, POLL_LAST_S, Styx
from styx.sdk.streams import Output
from styx.wire import http as wire

STREAMS: Final[tuple[str, ...]] = ("out", "err")
WHY_AFTER_S: Final = 1.0  # a wait this long deserves a word
FOLLOWED_TASKS: Final = 100  # of a larger job only the ends are told
FOLLOWED_AT_ONCE: Final = 16


class Sink(Protocol):
    """Where a stream's bytes go."""

    def write(self, stream: str, data: bytes) -> None: ...

    def end(self) -> None:
        """An attempt is over: nothing more comes of its lines."""


class Verbatim:
    """Each stream to ours of the same kind, unchanged."""

    def write(self, stream: str, data: bytes) -> None:
        render.raw(data, 1 if stream == "out" else 2)

    def end(self) -> None:
        pass


VERBATIM: Final = Verbatim()


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
            render.raw(text, 1 if stream == "out" else 2)

    def end(self) -> None:
        for stream in STREAMS:
            if self._rest[stream]:
                self.write(stream, b"\n")


class Wanted(msgspec.Struct, frozen=True):
    """Which streams, from which attempt on, and of that one only so many last lines."""

    streams: tuple[str, ...] = STREAMS
    first: int = 1
    tail: int | None = None


class Copy(threading.Thread):
    """One stream of one attempt, copied until it ends."""

    def __init__(self, output: Output, stream: str, sink: Sink) -> None:
        super().__init__(name=f"copy of {stream}", daemon=True)
        self.output = output
        self.stream = stream
        self.error: StyxError | None = None
        self._sink = sink

    def run(self) -> None:
        try:
            for piece in self.output:
                if detach.left.is_set():
                    return
                self._sink.write(self.stream, piece)
        except StyxError as error:
            self.error = error


EVERYTHING: Final = Wanted()


def polls() -> Iterator[None]:
    """Looks at something that changes: soon after each other first, at last one a second."""
    pause_s = POLL_FIRST_S
    while True:
        yield
        time.sleep(pause_s)
        pause_s = min(POLL_LAST_S, pause_s * 1.5)


def task(
    styx: Styx, task_id: str, sink: Sink, wanted: Wanted = EVERYTHING, *, explain: bool = False
) -> wire.TaskDetail:
    """Copy what every attempt writes until the task is over; return it.

    `explain` says meanwhile, on a terminal, why it does not run yet.
    """
    copied = wanted.first - 1  # attempts
    while True:
        found = _attempt_after(styx, task_id, copied, explain=explain)
        if found.attempt <= copied:
            return found
        for attempt in range(copied + 1, found.attempt + 1):
            tail = wanted.tail if attempt == wanted.first else None
            _copy(styx, (found.id, attempt), wanted.streams, tail, sink)
            sink.end()
        copied = found.attempt


def attempt(styx: Styx, task_id: str, number: int, sink: Sink, wanted: Wanted) -> None:
    """Copy what one attempt wrote so far."""
    for stream in wanted.streams:
        for piece in styx.output(task_id, stream, attempt=number, tail=wanted.tail):
            sink.write(stream, piece)
    sink.end()


def job(styx: Styx, job_id: str) -> int:
    """Copy what all its tasks write, line by line behind their names, until the job is over.

    Of a large job only the ends are told. Return the exit code. Raises: Detached.
    """
    with detach.on_interrupt(job_id, lambda: styx.another().cancel_job(job_id)):
        _copy_job(styx, job_id)
    return exit_of_job(styx, job_id)


def _copy_job(styx: Styx, job_id: str) -> None:
    watched = styx.job(job_id)
    if watched.total > FOLLOWED_TASKS:
        talk.say(f"{watched.total:,} tasks; what they write: styx logs ID")
        styx.wait_job(job_id)
        return
    names = [row.name for row in styx.tasks(job=job_id)]
    width = max(map(len, names), default=0)
    copies: dict[str, TaskCopy] = {}
    for _ in polls():
        rows = list(styx.tasks(job=job_id))
        for row in rows:
            free = sum(copy.is_alive() for copy in copies.values()) < FOLLOWED_AT_ONCE
            if row.id not in copies and row.attempt and free:
                copies[row.id] = TaskCopy(styx.another(), row.id, Prefixed(row.name, width))
                copies[row.id].start()
        over = all(row.status in wire.TERMINAL for row in rows)
        if over and all(row.id in copies or not row.attempt for row in rows):
            break
    for copy in copies.values():
        copy.join()
        if copy.error:
            raise copy.error


class TaskCopy(threading.Thread):
    """One task of several, followed until it is over."""

    def __init__(self, styx: Styx, task_id: str, sink: Sink) -> None:
        super().__init__(name=f"task {task_id}", daemon=True)
        self.error: StyxError | None = None
        self._styx = styx
        self._task_id = task_id
        self._sink = sink

    def run(self) -> None:
        try:
            with self._styx:
                ended = task(self._styx, self._task_id, self._sink)
        except StyxError as error:
            self.error = error
        else:
            tell_end(ended)


def exit_of_job(styx: Styx, job_id: str) -> int:
    """The highest exit code of its tasks."""
    counts = styx.job(job_id).counts
    unhappy = [status for status in wire.TERMINAL - {"succeeded"} if counts.get(status)]
    if not unhappy:
        return exits.FINE
    return exits.of_tasks(styx.tasks(job=job_id, status=",".join(unhappy)))


def tell_end(task: wire.TaskDetail) -> None:
    """One line about a task that did not succeed; silence about one that did."""
    if task.status == "succeeded":
        return
    took = f" after {render.duration(task.duration_ms / 1_000)}" if task.duration_ms else ""
    why = ending(task)
    detail = f": {task.detail}" if task.detail else ""
    talk.error(
        f"{task.name} {task.status}{f' ({why})' if why else ''}{took}{detail}",
        hint=f"styx explain {task.id}",
    )


def ending(task: wire.TaskView) -> str:
    """`exit 1`, `signal 9, oom`, `need_unmet`, or nothing."""
    words = [f"exit {task.exit_code}"] if task.exit_code else []
    words += [f"signal {task.signal}"] if task.signal else []
    plain = {"", "exit_code", "signal", "cancelled"}
    return ", ".join([*words, *({task.reason} - plain)])


def _copy(
    styx: Styx, key: tuple[str, int], streams: Sequence[str], tail: int | None, sink: Sink
) -> None:
    """The streams of one attempt, until it is over and every byte of it is here."""
    task_id, attempt = key
    outputs = {
        stream: styx.output(task_id, stream, attempt=attempt, tail=tail, follow=True)
        for stream in streams
    }
    for _ in polls():
        copies = [Copy(output, stream, sink) for stream, output in outputs.items()]
        for copy in copies:
            copy.start()
        for copy in copies:
            copy.join()
        for copy in copies:
            if copy.error:
                raise copy.error
        # A server that stops ends its answers too; only the attempt's row tells whether it is over.
        if _is_over(styx.task(task_id), attempt, outputs):
            return
        outputs = {
            stream: styx.output(task_id, stream, attempt=attempt, offset=output.offset, follow=True)
            for stream, output in outputs.items()
        }


def _is_over(task: wire.TaskDetail, attempt: int, outputs: Mapping[str, Output]) -> bool:
    """Whether nothing more can come: also when bytes were lost for good, which `logs_complete` knows."""
    for row in task.attempts:
        if (row.n, row.rank) == (attempt, 0):
            sizes = {"out": row.out_bytes, "err": row.err_bytes}
            read = all(output.offset >= sizes[stream] for stream, output in outputs.items())
            return row.ended_at is not None and (row.logs_complete or read)
    return True


def _attempt_after(styx: Styx, task_id: str, copied: int, *, explain: bool) -> wire.TaskDetail:
    """The task once it is over, or has an attempt beyond those already copied."""
    began_s = time.monotonic()
    shown = ""
    try:
        for _ in polls():
            found = styx.task(task_id)
            if found.attempt > copied or found.status in wire.TERMINAL:
                return found
            if explain and talk.interactive() and time.monotonic() - began_s > WHY_AFTER_S:
                shown = styx.explain(task_id).summary
                talk.status_line(f"{found.status}: {shown}")
    finally:
        if shown:
            talk.status_line("")
    raise AssertionError("polls do not end")
