"""The trace of a job (W3C Trace Context): whose it is, and which spans are the job's own.

Span ids are derived from ids that are stored anyway. So an order that is repeated names the same span,
and a span can be told when it is over, by whichever server is there by then: none is held open.
"""

import hashlib
from typing import NamedTuple

from styx.core.ids import AttemptKey, JobId


class Trace(NamedTuple):
    """`parent` is the submitter's span; "" is a trace of the job's own. Who does not want it recorded
    has said so with `sampled`.
    """

    id: str
    parent: str
    sampled: bool


def of_job(job_id: JobId, traceparent: str) -> Trace:
    """`traceparent` is of `kit.traceparent.cleaned`. A job that came without begins a trace of its id."""
    if not traceparent:
        return Trace(job_id.replace("-", ""), "", sampled=True)
    _, trace_id, span, flags = traceparent.split("-")
    return Trace(trace_id, span, sampled=flags == "01")


def span(*of: str) -> str:
    """The id of a span of that thing."""
    return hashlib.blake2b("/".join(of).encode(), digest_size=8).hexdigest()


def attempt_span(key: AttemptKey) -> str:
    return span(str(key))


def of_attempt(trace: Trace, key: AttemptKey) -> str:
    """The traceparent of what runs in an attempt."""
    return f"00-{trace.id}-{attempt_span(key)}-{int(trace.sampled):02x}"
