"""Which tasks of a submission need not run: see `core.cache`."""

from styx.api.backend import Backend
from styx.core import cache
from styx.core.ids import TaskId
from styx.core.spec import JobSpec


async def lookup(
    backend: Backend, project: str, job: JobSpec, *, anew: bool = False
) -> cache.Taken:
    """Nothing, if all of it is to run `anew`. Raises: StoreUnavailable."""
    wanted = set[str]() if anew else cache.wanted(job)
    if not wanted:
        return {}
    known: dict[cache.Key, TaskId] = {}
    for succeeded in await backend.query.succeeded(project, sorted(wanted)):
        known.setdefault(cache.key_of(succeeded.spec, succeeded.array_index), succeeded.task_id)
    return cache.taken(job, known)
