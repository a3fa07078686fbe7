"""Which tasks of a submission need not run: see `core.cache`."""

from collections.abc import Collection

from styx.api.backend import Backend
from styx.core import cache, output
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
    found = await backend.query.succeeded(project, sorted(wanted))
    gone = await _gone(backend, [each.task_id for each in found if output.returns(each.spec)])
    for succeeded in found:
        if succeeded.task_id in gone:
            continue
        known.setdefault(cache.key_of(succeeded.spec, succeeded.array_index), succeeded.task_id)
    return cache.taken(job, known)


async def _gone(backend: Backend, ids: Collection[TaskId]) -> set[TaskId]:
    """Whose outputs are not here any more: they run again to make them. Those of the others stay for a while."""
    if not ids:
        return set()
    left = await backend.files.left_by(ids)
    here = await backend.files.use(set(left.values()))
    return {id_ for id_ in ids if left.get(id_) not in here}
