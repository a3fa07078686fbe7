"""What an engine tells of itself as spans. Who exports them, and how, is not known here.

The default tells nobody, and costs a call that does nothing. A span is told whole, once it is over.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Final, NamedTuple, Protocol

from styx.core import trace
from styx.core.attempt import Attempt, AttemptState, Exit
from styx.core.delta import Delta
from styx.core.event import JobSubmitted
from styx.core.ids import JobId
from styx.core.job import Job
from styx.core.world import World

LIMIT: Final = 16_384  # spans that wait, some 15 MiB; new ones beyond are dropped, and counted
SUBMIT: Final = "submit"
TURN: Final = "turn"
COMMIT: Final = "commit"
ATTEMPT: Final = "attempt"
_GOOD: Final = frozenset(
    {AttemptState.SUCCEEDED, AttemptState.CANCELLED, AttemptState.PREEMPTED}
)  # or nobody's fault

Value = str | int | float | bool


class Span(NamedTuple):
    name: str
    trace_id: str
    id: str
    parent: str  # "" is none
    began: datetime
    ended: datetime
    attributes: Mapping[str, Value]
    failed: str = ""  # the reason, of one that did


class Took(NamedTuple):
    """Seconds of a turn."""

    decision_s: float
    commit_s: float
    whole_s: float


class Tracer(Protocol):
    exported: int  # spans, so far
    dropped: int

    def submitted(
        self, fact: JobSubmitted, route: str, took_s: float, clock: Callable[[], datetime]
    ) -> None:
        """A job is durable: `took_s` after its request had come by that route."""
        ...

    def turned(self, delta: Delta, world: World, took: Took) -> None:
        """A delta is committed and applied."""
        ...


class Off:
    """Tells nobody."""

    exported = dropped = 0

    def submitted(
        self, fact: JobSubmitted, route: str, took_s: float, clock: Callable[[], datetime]
    ) -> None: ...
    def turned(self, delta: Delta, world: World, took: Took) -> None: ...


OFF: Final[Tracer] = Off()


class Spans:
    """A tracer that queues spans, up to `LIMIT`, for who takes them."""

    def __init__(self) -> None:
        self.exported = self.dropped = 0
        self._queue: deque[Span] = deque()

    def submitted(
        self, fact: JobSubmitted, route: str, took_s: float, clock: Callable[[], datetime]
    ) -> None:
        its = trace.of_job(fact.job_id, fact.traceparent)
        if not its.sampled:
            return
        ended = clock()
        began = ended - timedelta(seconds=took_s)
        attributes: dict[str, Value] = {
            "http.request.method": "POST",
            "http.route": route,
            "styx.job.id": fact.job_id,
            "styx.job.name": fact.spec.name,
            "styx.job.tasks": len(fact.task_ids),
        }
        id_ = _submit(fact.job_id)
        self._put(Span(SUBMIT, its.id, id_, its.parent, began, ended, attributes))

    def turned(self, delta: Delta, world: World, took: Took) -> None:
        for job in delta.jobs.values():
            if job.version == 1:
                self._turn(job, delta, took)
        for attempt in delta.attempts.values():
            if attempt.ended_at is delta.now:
                self._ended(attempt, delta, world)

    def take(self, most: int) -> list[Span]:
        """The oldest, to be exported."""
        queue = self._queue
        return [queue.popleft() for _ in range(min(most, len(queue)))]

    def _turn(self, job: Job, delta: Delta, took: Took) -> None:
        """In the trace of the job that it took in; of several, in each."""
        its = trace.of_job(job.id, job.traceparent)
        if not its.sampled:
            return
        turn = trace.span(TURN, job.id)
        began, decided = delta.now, delta.now + timedelta(seconds=took.decision_s)
        over = began + timedelta(seconds=took.whole_s)
        rows = len(delta.jobs) + len(delta.tasks) + len(delta.attempts) + len(delta.agents)
        attributes = {"styx.turn.events": len(delta.answers)}
        self._put(Span(TURN, its.id, turn, _submit(job.id), began, over, attributes))
        committed = decided + timedelta(seconds=took.commit_s)
        commit = trace.span(COMMIT, job.id)
        self._put(
            Span(COMMIT, its.id, commit, turn, decided, committed, {"styx.commit.rows": rows})
        )

    def _ended(self, attempt: Attempt, delta: Delta, world: World) -> None:
        task = delta.tasks.get(attempt.task_id) or world.tasks.get(attempt.task_id)
        job = task and (delta.jobs.get(task.job_id) or world.jobs.get(task.job_id))
        if task is None or job is None:
            return  # its task was over before: nobody's try any more
        its = trace.of_job(job.id, job.traceparent)
        if not its.sampled:
            return
        began, ended = _times(attempt)
        agent = world.agents.get(attempt.agent_id)
        attributes: dict[str, Value] = {
            "styx.job.id": job.id,
            "styx.task.id": task.id,
            "styx.task.name": task.name,
            "styx.attempt": attempt.n,
            "styx.node_rank": attempt.rank,
            "styx.agent.id": attempt.agent_id,
            "styx.agent.name": agent.name if agent else "",
            "styx.state": attempt.state.value,
            "styx.reason": attempt.reason.value,
        }
        if attempt.exit is not None:
            attributes.update(_exit(attempt.exit))
        failed = "" if attempt.state in _GOOD else attempt.reason.value or attempt.state.value
        span = trace.attempt_span(attempt.key)
        self._put(Span(ATTEMPT, its.id, span, _submit(job.id), began, ended, attributes, failed))

    def _put(self, span: Span) -> None:
        if len(self._queue) < LIMIT:
            self._queue.append(span)
        else:
            self.dropped += 1


def _submit(job: JobId) -> str:
    return trace.span(SUBMIT, job)


def _times(attempt: Attempt) -> tuple[datetime, datetime]:
    """From start to end, as its own machine measured it, where that is known: news of either may have
    come late.
    """
    assert attempt.ended_at is not None, "it is over"
    began, ended = attempt.started_at or attempt.assigned_at, attempt.ended_at
    if attempt.exit is None or attempt.started_at is None:
        return began, ended
    ran = timedelta(milliseconds=attempt.exit.ran_ms)
    ended = min(ended, began + ran)
    return ended - ran, ended


def _exit(exit_: Exit) -> Iterator[tuple[str, Value]]:
    measured = {
        "process.exit.code": exit_.code,
        "styx.exit.signal": exit_.signal,
        "styx.cpu_ms": exit_.cpu_ms,
        "styx.max_rss_bytes": exit_.max_rss_bytes,
    }
    return ((name, value) for name, value in measured.items() if value is not None)
