"""What an ID on the command line names: a task or a job, by id, unique prefix, name or `last`; or `all`."""

from collections.abc import Iterator, Sequence
from typing import Final

from styx.errors import NotFound
from styx.sdk.client import Styx
from styx.wire import http as wire

ALL: Final = "all"  # every task that is not over
LIVE: Final = "blocked,queued,provisioning,assigned,running,cancelling"


def find(styx: Styx, reference: str) -> wire.TaskDetail | wire.JobView:
    """The task, else the job. Raises: NotFound, Conflict (it may be any of several)."""
    try:
        return styx.task(reference)
    except NotFound as no_task:
        try:
            return styx.job(reference)
        except NotFound:
            raise NotFound(f"there is no task or job '{reference}'", hint=no_task.hint) from no_task


def expand(styx: Styx, references: Sequence[str]) -> Iterator[str]:
    """The same, with every task that is not over in the place of `all`."""
    for reference in references:
        if reference == ALL:
            yield from [task.id for task in styx.tasks(status=LIVE)]
        else:
            yield reference
