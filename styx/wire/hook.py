"""What a webhook is sent: a public contract as `wire.http` is, change it only by adding."""

from datetime import datetime

import msgspec

from styx.wire import http


class FailedTask(msgspec.Struct):
    """What a notification says of a task: nothing of its command, environment or output."""

    id: str
    name: str
    array_index: int | None
    status: http.Status
    reason: str
    exit_code: int | None
    signal: int | None
    attempt: int
    agent: str
    finished_at: datetime | None


class JobEnd(msgspec.Struct):
    job: http.JobView
    first_failed_task: FailedTask | None


class Notification(msgspec.Struct):
    """The body of a webhook, in the shape of Standard Webhooks."""

    type: str  # as `http.NotificationView.event`
    timestamp: datetime  # when the job ended
    data: JobEnd
