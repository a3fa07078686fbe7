"""What can go wrong between a client and its server, and how a client learns it.

StyxError
├─ RequestError …          the server's 4xx, by the same classes as inside it
├─ Unreachable             nothing answers at the address
├─ ServerFailed            the server answered 5xx, or not as a Styx server
└─ TaskFailed              a task that was waited for did not succeed
"""

import msgspec

from styx import errors
from styx.wire import http as wire


class Unreachable(errors.StyxError):
    """Nothing answers at the server's address; `cause` is the system's word for it."""

    def __init__(self, url: str, cause: str) -> None:
        hint = "start one here with: styx server start      or set STYX_SERVER_URL"
        super().__init__(f"cannot reach {url} ({cause})", hint=hint)
        self.url = url
        self.cause = cause


class ServerFailed(errors.StyxError):
    """The server answered, but not as it should: 5xx, or something that is not the API."""

    def __init__(self, message: str, *, status: int, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.status = status


class TaskFailed(errors.StyxError):
    """`tail` is the end of the task's standard error."""

    def __init__(self, task: wire.TaskView, tail: bytes = b"") -> None:
        ended = f"exit {task.exit_code}" if task.exit_code is not None else task.reason
        super().__init__(f"task {task.name} {task.status}" + (f" ({ended})" if ended else ""))
        self.task = task
        self.tail = tail

    @property
    def exit_code(self) -> int | None:
        return self.task.exit_code

    @property
    def reason(self) -> str:
        return self.task.reason


_BY_STATUS: dict[int, type[errors.RequestError]] = {
    401: errors.Unauthenticated,
    403: errors.Forbidden,
    404: errors.NotFound,
    409: errors.Conflict,
}


def from_answer(status: int, body: bytes) -> errors.StyxError:
    """The error that an answer of 400 and above stands for."""
    try:
        problem = msgspec.json.decode(body, type=wire.Problem)
    except msgspec.MsgspecError:
        text = body[:200].decode(errors="replace").strip()
        return ServerFailed(f"not a Styx server's answer: HTTP {status} {text}", status=status)
    message = problem.detail or problem.title
    if known := _BY_STATUS.get(status):
        return known(message, hint=problem.hint)
    if status == 429:
        return errors.LimitReached(message, hint=problem.hint)
    if status < 500:
        wrong = [errors.FieldError(error.path, error.message) for error in problem.errors]
        return errors.InvalidSpec(message, *wrong, hint=problem.hint)
    suffix = f" (request {problem.request_id})" if problem.request_id else ""
    return ServerFailed(f"the server failed: {message}{suffix}", status=status, hint=problem.hint)
