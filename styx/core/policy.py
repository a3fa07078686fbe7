"""Numbers, and when: backoff, budgets, bounds of a turn, weights of fair share."""

from datetime import datetime, timedelta
from typing import Final

import msgspec

from styx.core.attempt import Attempt, AttemptState, StopReason
from styx.core.spec import Delivery, Requirements
from styx.core.task import Reason, Task, TaskState

GPU_WEIGHT_CPUS: Final = 8  # what a GPU counts in fair share: the cores usually rented beside one
REJECT_BACKOFF_S: Final = 1.0  # an agent that refused keeps refusing for a while
# An agent that rejects so often within the window, once a second at most, gets no more work until somebody
# looks at it (D-5): a burst has one cause, but what goes on would go on for ever.
REJECTS_ALLOWED: Final = 5
REJECTS_WINDOW_S: Final = 600.0
PREEMPT_MARGIN_S: Final = 10.0  # for the end to be told before the machine is gone (D-10)
POISON_DEATHS: Final = 3  # a task whose machines die under it is given no more of them (D-5)

LEAST_MS: Final = 1.0  # what a task costs its agent, however little it does
FADE: Final = 0.9  # of a long run with each that follows: one among fifty still counts
BUSY_MS: Final = 10_000.0  # what waited at an agent in vain counts as a run of so long

SCATTER: Final = 2_654_435_761  # Knuth's multiplier: neighbouring ids fall far apart

# Ends for which the machine is to blame: they cost an infra retry, never one of the user's.
_INFRA: Final = frozenset(
    {
        Reason.REGISTRY,
        Reason.EXIT_STATUS_LOST,
        Reason.AGENT_REBOOTED,
        Reason.AGENT_REPLACED,
        Reason.STATE_LOST,
        Reason.AGENT_SILENT,  # the agent ended an exclusive task for want of a lease
    }
)
_DEATHS: Final = frozenset(
    {Reason.AGENT_SILENT, Reason.AGENT_REBOOTED, Reason.STATE_LOST, Reason.EXIT_STATUS_LOST}
)


class Policy(msgspec.Struct, frozen=True):
    retry_base_s: float = 10.0
    retry_cap_s: float = 600.0
    reserve_after_s: float = 30.0
    placements_per_turn: int = 1_000  # some 40 ms of deciding
    settlements_per_turn: int = 5_000  # as much


class Verdict(msgspec.Struct, frozen=True):
    """What an ended attempt makes of its task. `delay_s` counts only for READY."""

    state: TaskState
    reason: Reason
    delay_s: float = 0.0
    user_failures: int = 0  # to add
    infra_failures: int = 0  # to add
    deaths: int = 0  # to add


def verdict(task: Task, attempt: Attempt, policy: Policy) -> Verdict:
    """Decide once, on the one attempt that speaks for its try."""
    match attempt.state:
        case AttemptState.SUCCEEDED:
            return Verdict(TaskState.SUCCEEDED, Reason.NONE)
        case AttemptState.CANCELLED:
            return Verdict(TaskState.CANCELLED, attempt.reason)
        case AttemptState.REJECTED:
            if task.cancel_at:
                failed_fast = attempt.stop_reason is StopReason.FAIL_FAST
                reason = Reason.FAIL_FAST if failed_fast else Reason.CANCELLED
                return Verdict(TaskState.CANCELLED, reason)
            busy = attempt.reason is Reason.AGENT_BUSY
            return Verdict(TaskState.READY, Reason.NONE, 0.0 if busy else REJECT_BACKOFF_S)
        case AttemptState.PREEMPTED:
            return _infra(task, attempt, TaskState.FAILED, 0.0)
        case AttemptState.LOST:
            return _infra(task, attempt, TaskState.LOST, _infra_delay_s(task, policy))
        case _:
            if attempt.reason in _INFRA:
                return _infra(task, attempt, TaskState.FAILED, _infra_delay_s(task, policy))
            return _failed(task, attempt, policy)


def _infra(task: Task, attempt: Attempt, final: TaskState, delay_s: float) -> Verdict:
    if task.cancel_at:
        return Verdict(TaskState.CANCELLED, Reason.LOST_DURING_CANCEL, infra_failures=1)
    if task.spec.delivery is Delivery.AT_MOST_ONCE:
        # Without its image nothing has run, which is an end that is known.
        state = TaskState.FAILED if attempt.reason is Reason.REGISTRY else TaskState.LOST
        return Verdict(state, attempt.reason, infra_failures=1)
    foretold = attempt.stop_reason is StopReason.PREEMPT
    # An agent that ended it for want of a lease was cut off, and lives.
    cut_off = attempt.state is AttemptState.FAILED and attempt.reason is Reason.AGENT_SILENT
    began = attempt.started_at is not None
    deaths = int(began and attempt.reason in _DEATHS and not foretold and not cut_off)
    if deaths and task.deaths + deaths >= POISON_DEATHS:
        return Verdict(TaskState.FAILED, Reason.POISON, infra_failures=1, deaths=deaths)
    if task.infra_failures >= task.spec.infra_retries:
        return Verdict(final, attempt.reason, infra_failures=1, deaths=deaths)
    return Verdict(TaskState.READY, attempt.reason, delay_s, infra_failures=1, deaths=deaths)


def _failed(task: Task, attempt: Attempt, policy: Policy) -> Verdict:
    code = attempt.exit.code if attempt.exit else None
    worth = not task.spec.retry_on or code in task.spec.retry_on
    again = worth and task.user_failures < task.spec.retries and not task.cancel_at
    if not again or task.spec.delivery is Delivery.AT_MOST_ONCE:
        return Verdict(TaskState.FAILED, attempt.reason, user_failures=1)
    delay_s = backoff_s(task, task.user_failures, policy)
    return Verdict(TaskState.READY, attempt.reason, delay_s, user_failures=1)


def _infra_delay_s(task: Task, policy: Policy) -> float:
    return backoff_s(task, task.infra_failures, policy)


def backoff_s(task: Task, failures: int, policy: Policy) -> float:
    """Doubling, with jitter that the task's own id decides: the core has no dice.

    The result lies in the upper half of the doubled span, so that retries of an array spread out but
    none comes at once.
    """
    span = min(policy.retry_cap_s, policy.retry_base_s * 2 ** min(failures, 16))
    number = int(task.id.replace("-", "")[-8:], 16) * (2 * task.attempt + 1)
    dice = number * SCATTER % 2**32
    return span * (0.5 + 0.5 * dice / 2**32)


def pace_ms(before: float | None, attempt: Attempt) -> float | None:
    """How long tasks of a class hold their room, once one more has ended: the longest lately.

    None while nothing is known of it.
    """
    if attempt.reason is Reason.AGENT_BUSY:
        ran_ms = BUSY_MS
    elif attempt.exit is None or attempt.started_at is None:
        return before
    else:
        ran_ms = max(LEAST_MS, attempt.exit.ran_ms)
    return ran_ms if before is None else max(ran_ms, FADE * before)


def later(now: datetime, delay_s: float) -> datetime | None:
    return now + timedelta(seconds=delay_s) if delay_s else None


def weight(requirements: Requirements) -> int:
    """What a node counts in fair share, in thousandths of a core."""
    return requirements.cpus_milli + requirements.gpus * GPU_WEIGHT_CPUS * 1_000
