"""The whole error tree. The class is the decision; a message is for the user, its context for the log.

    StyxError
    ├─ RequestError            the caller can fix it
    │  ├─ InvalidSpec  NotFound  Conflict  Unauthenticated  Forbidden  LimitReached
    ├─ AgentError
    │  ├─ LinkLost  WireMismatch
    └─ StoreError
       ├─ StoreUnavailable     hold the turn; the API answers 503
       ├─ StaleWrite           a newer leader wrote: this one is deposed
       ├─ WriteRefused         one row of the batch breaks a constraint: repeat the events one by one
       └─ SetupError           the database or the configuration cannot be used; said once, at start

Bugs are AssertionErrors (`IllegalTransition`, a failed `World.check`): they end the process loudly.
"""

import msgspec


class StyxError(Exception):
    """Base of every error that Styx raises on purpose."""

    def __init__(self, message: str, *, hint: str = "", **context: object) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.context = context


class FieldError(msgspec.Struct, frozen=True):
    """One thing wrong with a document: where (`tasks.train.resources.gpus`) and what would be right."""

    path: str
    message: str


class RequestError(StyxError):
    """The caller can fix it."""


class InvalidSpec(RequestError):
    """The document is understood as JSON but says something that cannot be done."""

    def __init__(self, message: str, *errors: FieldError, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.errors = errors


class NotFound(RequestError): ...


class Conflict(RequestError): ...


class Unauthenticated(RequestError): ...


class Forbidden(RequestError): ...


class LimitReached(RequestError):
    """A bound was met; `retry_after_s` says when to come back."""

    def __init__(self, message: str, *, retry_after_s: float = 1.0, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.retry_after_s = retry_after_s


class AgentError(StyxError): ...


class LinkLost(AgentError): ...


class WireMismatch(AgentError): ...


class StoreError(StyxError): ...


class StoreUnavailable(StoreError): ...


class StaleWrite(StoreError): ...


class WriteRefused(StoreError): ...


class SetupError(StoreError): ...


class IllegalTransition(AssertionError):
    """A state machine was asked for a move that its table does not hold: a bug, never an input."""
