"""Exit codes of `styx`.

0        fine
1        no: not found, refused; a task that was skipped, is lost, or failed without a code
2        a usage error before anything ran, an invalid document included
124      `--timeout` of `styx wait` reached; a task that timed out (as `timeout` does)
125      Styx itself failed: unreachable, 5xx, a bug
126      the task's command could not be executed, or its image not be had
127      the task's command was not found (as a shell says it)
128+n    the task ended by signal n; 143 also when it was cancelled before it ran
130      detached by Ctrl-C; the task goes on
141      the reader of our output went away (as SIGPIPE would say)
0–255    else the task's own, from `run`, `wait` and `logs -f`; of several tasks the highest
"""

from collections.abc import Iterable
from typing import Final

from styx import errors
from styx.sdk import failures
from styx.wire import http as wire

FINE: Final = 0
NO: Final = 1
USAGE: Final = 2
TIMEOUT: Final = 124
STYX_FAILED: Final = 125
NOT_EXECUTABLE: Final = 126
COMMAND_NOT_FOUND: Final = 127
DETACHED: Final = 130
PIPE_CLOSED: Final = 141
CANCELLED: Final = 143  # 128 + SIGTERM, which is how Styx cancels

_TIMEOUTS: Final = frozenset({"timeout", "queue_timeout"})
_NOT_RUN: Final = frozenset({"spawn_error", "image", "registry"})
_NOT_FOUND: Final = "command not found"  # how an agent words that a command is not there


def of_task(task: wire.TaskView) -> int:
    """What `styx run` exits with for a task that is over."""
    if task.status == "succeeded":
        return FINE
    if task.reason in _TIMEOUTS:
        return TIMEOUT
    if task.reason in _NOT_RUN:
        detail = task.detail if isinstance(task, wire.TaskDetail) else ""
        return COMMAND_NOT_FOUND if _NOT_FOUND in detail else NOT_EXECUTABLE
    if task.signal:
        return 128 + task.signal
    # A cancelled task may well exit 0 from its handler of SIGTERM, yet it did not succeed.
    return task.exit_code or (CANCELLED if task.status == "cancelled" else NO)


def of_tasks(tasks: Iterable[wire.TaskView]) -> int:
    return max(map(of_task, tasks), default=FINE)


def of_error(error: errors.StyxError) -> int:
    if isinstance(error, errors.InvalidSpec):
        return USAGE
    if isinstance(error, failures.TaskFailed):
        return of_task(error.task)
    return NO if isinstance(error, errors.RequestError) else STYX_FAILED
