"""The one public word for a task, from its row and the members of its current try."""

from collections.abc import Iterable

from styx.core.attempt import Attempt, AttemptState
from styx.core.task import Task, TaskState


def of(task: Task, members: Iterable[Attempt]) -> str:
    """One of: blocked queued assigned running cancelling succeeded failed cancelled skipped lost."""
    match task.state:
        case TaskState.READY:
            return "queued"
        case TaskState.ACTIVE:
            if task.cancel_at is not None:
                return "cancelling"
            running = any(m.state is AttemptState.RUNNING for m in members if m.n == task.attempt)
            return "running" if running else "assigned"
        case state:
            return str(state)
