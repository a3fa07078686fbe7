"""What an engine counts for its operator. Plain numbers: who shows them, and how, is the API's business.

One look at each committed delta, before the world takes it over, and no work for what did not change state.
"""

from collections import Counter
from datetime import datetime
from typing import Final

from styx.core.delta import Delta
from styx.core.task import Reason, Task, TaskState
from styx.core.world import World
from styx.kit.tally import Spread

WAIT_S: Final = (0.005, 0.02, 0.1, 0.5, 1, 5, 15, 60, 300, 1_800, 7_200, 28_800, 86_400)
RUN_S: Final = (0.01, 0.1, 1, 10, 60, 300, 1_800, 3_600, 14_400, 43_200, 86_400, 604_800)
TURN_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
EVENTS: Final = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500)  # up to TURN_EVENTS


class Meter:
    """Counts from the beginning of a term: one engine's."""

    def __init__(self) -> None:
        self.submitted = 0  # tasks
        self.reached: Counter[tuple[TaskState, Reason]] = Counter()
        self.wait_s = Spread(WAIT_S)
        self.run_s = Spread(RUN_S)
        self.turn_s = Spread(TURN_S)
        self.decision_s = Spread(TURN_S)
        self.commit_s = Spread(TURN_S)
        self.events = Spread(EVENTS)
        self.unwanted_log_bytes = 0  # of attempts that are nobody's here

    def see(self, delta: Delta, world: World) -> None:
        """A delta that is committed, and the world without it."""
        tasks, attempts = world.tasks, world.attempts
        # Neighbours mostly went the same way, and hashing an enum's member costs more than comparing it.
        last, run = (TaskState.READY, Reason.NONE), 0
        for task_id, task in delta.tasks.items():
            before = tasks.find(task_id)
            state = task.state
            if before is None:
                self.submitted += 1
            elif before.state is state and before.attempt == task.attempt:
                continue
            if state is not last[0] or task.reason is not last[1]:
                if run:
                    self.reached[last] += run
                last, run = (state, task.reason), 0
            run += 1
            if state is TaskState.ACTIVE:
                self.wait_s.add(_waited_s(task, before, delta.now))
        if run:
            self.reached[last] += run
        for key, attempt in delta.attempts.items():
            if attempt.exit is not None:
                known = attempts.get(key)
                if known is None or known.exit is None:
                    self.run_s.add(attempt.exit.ran_ms / 1_000)

    def see_whole(self, tasks: Counter[TaskState], *, cached: int) -> None:
        """The tasks of a job that was committed beside the turns; so many more were over at once."""
        self.submitted += cached
        if cached:
            self.reached[TaskState.SUCCEEDED, Reason.CACHED] += cached
        for state, count in tasks.items():
            self.submitted += count
            self.reached[state, Reason.NONE] += count


def _waited_s(task: Task, before: Task | None, now: datetime) -> float:
    """Since it could have been placed: a backoff, which the placing has cleared, is not a wait."""
    since = task.ready_at
    if since is None or since is now:
        return 0.0
    if before is not None and before.not_before is not None:
        since = max(since, before.not_before)
    return max(0.0, (now - since).total_seconds())
