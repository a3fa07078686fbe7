# Generated from aio/handles.py by `python -m tests.sdk.generate`; do not edit.
"""What a submit hands back: a task or a job, to ask and to wait for."""

import os
from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import Literal

from styx.sdk.kept import Kept
from styx.wire import http as wire
from styx.wire import parcel


class TaskHandle:
    """One task. It holds no more than the id: whatever is asked, the server says how it is now."""

    def __init__(self, styx: Kept, task_id: str, name: str) -> None:
        self.id = task_id
        self.name = name
        self._styx = styx

    def status(self) -> wire.Status:
        return (self.detail()).status

    def detail(self) -> wire.TaskDetail:
        return self._styx.task(self.id)

    def explain(self) -> wire.Explanation:
        """Why it is not running yet, or what happened to it."""
        return self._styx.explain(self.id)

    def cancel(self, *, force: bool = False) -> wire.CancelAccepted:
        return self._styx.cancel(self.id, force=force)

    def wait(self, *, timeout_s: float | None = None, check: bool = False) -> wire.TaskDetail:
        """Return the task once it is over. Raises: TimeoutError; with `check` also TaskFailed."""
        return self._styx.wait(self.id, timeout_s=timeout_s, check=check)

    def logs(
        self,
        *,
        follow: bool = False,
        stream: Literal["out", "err"] = "out",
        tail: int | None = None,
    ) -> Iterator[str]:
        """Lines for people, without their ends; what is no UTF-8 is replaced. With `follow` until the task
        is over. `Styx.logs` has the bytes.
        """
        pieces = self._styx.logs(self.id, stream=stream, follow=follow, tail=tail)
        rest = b""
        with closing(pieces) as opened:
            for piece in opened:
                *lines, rest = (rest + piece).split(b"\n")
                for line in lines:
                    yield line.decode(errors="replace")
        if rest:
            yield rest.decode(errors="replace")

    def outputs(self) -> parcel.OutputsView:
        """What it has left. Raises: NotFound, while there is nothing."""
        return self._styx.outputs(self.id)

    def download(self, to: str | os.PathLike[str], *, force: bool = False) -> parcel.OutputsView:
        """Lay what it has left into the directory `to`; over what is there only by `force`."""
        return self._styx.download(self.id, to, force=force)

    def __repr__(self) -> str:
        return f"<task {self.name} {self.id}>"


class JobHandle:
    """A job, with the ids of its tasks by name; an array's name stands for those of its elements."""

    def __init__(
        self, styx: Kept, job_id: str, name: str, task_ids: Mapping[str, str | list[str]]
    ) -> None:
        self.id = job_id
        self.name = name
        self.task_ids = task_ids
        self._styx = styx

    def task(self, name: str, index: int | None = None) -> TaskHandle:
        """One of its tasks; of an array, the element. Raises: LookupError."""
        found = self.task_ids[name]
        if isinstance(found, str):
            if index is not None:
                raise LookupError(f"{name} is no array")
            return TaskHandle(self._styx, found, name)
        if index is None:
            raise LookupError(f"{name} is an array of {len(found):,}: which one?")
        return TaskHandle(self._styx, found[index], f"{name}/{index}")

    def status(self) -> str:
        return (self.detail()).status

    def detail(self) -> wire.JobDetail:
        return self._styx.job(self.id)

    def cancel(self, *, force: bool = False) -> wire.CancelAccepted:
        return self._styx.cancel_job(self.id, force=force)

    def wait(self, *, timeout_s: float | None = None, check: bool = False) -> wire.JobView:
        """Return the job once all its tasks are over. Raises: TimeoutError; with `check` also TaskFailed,
        of the first task that did.
        """
        return self._styx.wait_job(self.id, timeout_s=timeout_s, check=check)

    def __repr__(self) -> str:
        return f"<job {self.name} {self.id}>"
