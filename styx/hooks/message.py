"""What a notification says: read from rows that are final, so that every try says the same."""

from typing import Final

import msgspec

from styx.api import views
from styx.core.job import Job, JobState
from styx.store.notices import Notices, Try
from styx.store.query import Query
from styx.wire import hook

_encode: Final = msgspec.json.Encoder().encode
_FAILED: Final = frozenset({JobState.FAILED, JobState.LOST})


async def body(query: Query, notices: Notices, of: Try) -> bytes:
    """Raises: StoreUnavailable."""
    job = await query.job(of.job_id)
    assert job is not None, "jobs are never deleted"
    counts = await query.job_counts([job.id])
    failed = await _first_failed(query, notices, job) if job.state in _FAILED else None
    said = hook.JobEnd(views.job(job, counts[job.id]), failed)
    return _encode(hook.Notification(of.event, job.finished_at or job.created_at, said))


async def _first_failed(query: Query, notices: Notices, job: Job) -> hook.FailedTask | None:
    task_id = await notices.first_failed(job.id)
    found = await query.task(task_id) if task_id is not None else None
    if found is None:
        return None
    shown = views.task(*found, {agent.id: agent for agent in await query.agents()})
    kept = {name: getattr(shown, name) for name in hook.FailedTask.__struct_fields__}
    return hook.FailedTask(**kept)
