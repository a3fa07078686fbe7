"""A job's notifications, for who asks about the job. They are made and changed by `notices`."""

from datetime import datetime
from typing import Final

import msgspec

from styx.core.ids import JobId

OF_JOB: Final = """
SELECT job_id, n, event, url, state, tries, due_at, tried_at, status, detail
FROM notifications WHERE job_id = $1 ORDER BY n
"""


class Told(msgspec.Struct, frozen=True):
    """One notification as it stands."""

    job_id: JobId
    n: int
    event: str
    url: str
    state: str  # waiting, delivered, gave_up
    tries: int
    due_at: datetime | None
    tried_at: datetime | None
    status: int | None
    detail: str


def message_id(job_id: JobId, n: int) -> str:
    """The same in every try, whoever makes it: receivers drop repeats by it. It has no full stop."""
    return f"msg_{job_id.replace('-', '')}_{n}"
