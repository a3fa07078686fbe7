"""A schedule: when a job is due again and again, and what becomes of the times that were missed.

Zones are read from the machine's own files, which are as constant as a calendar.
"""

import zoneinfo
from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from enum import StrEnum
from typing import Final, NamedTuple, cast

import msgspec

from styx.core import cron, fields
from styx.core.fields import Field, Wrong
from styx.core.units import Expected
from styx.errors import FieldError

LABEL: Final = "styx.schedule"  # of its jobs: its name
DUE_VARIABLE: Final = "STYX_SCHEDULED_AT"  # of their tasks: for which time of the schedule they run
KEY: Final = "schedule:"  # how the idempotency keys of its jobs begin
LATE: Final = timedelta(
    minutes=1
)  # later than so, a due time was missed: longer than a new leader takes
MOST_MISSED: Final = 1_000  # that `all` makes up for
UTC_NAME: Final = "UTC"
_LEAST_WINDOW: Final = timedelta(minutes=1)
_WIDER: Final = 4


class Missed(StrEnum):
    """What becomes of due times at which no server ran."""

    ONCE = "once"  # one job, for the last of them
    SKIP = "skip"
    ALL = "all"


class Overlap(StrEnum):
    """What becomes of a due time while a job of an earlier one still runs."""

    SKIP = "skip"
    ALLOW = "allow"
    CANCEL = "cancel"


class Settled(NamedTuple):
    """`due` are the times to run for, oldest first; `passed` is the last one not to run for, if any."""

    due: Sequence[datetime]
    passed: datetime | None


class Schedule(msgspec.Struct, frozen=True):
    """`cron` is as it was written: see `core.cron`."""

    cron: str
    timezone: str = UTC_NAME
    missed: Missed = Missed.ONCE
    overlap: Overlap = Overlap.SKIP

    def after(self, moment: datetime) -> datetime | None:
        """The next due time that is later; None is never."""
        return cron.read(self.cron).after(moment, _zone(self.timezone))

    def upcoming(self, moment: datetime, most: int) -> list[datetime]:
        """The next due times, in the schedule's own zone."""
        table, zone = cron.read(self.cron), _zone(self.timezone)
        found: list[datetime] = []
        due = table.after(moment, zone)
        while due is not None and len(found) < most:
            found.append(due.astimezone(zone))
            due = table.after(due, zone)
        return found

    def settle(self, due: datetime, now: datetime) -> Settled:
        """What to do at `now` about `due`, and about all due times since."""
        most = MOST_MISSED if self.missed is Missed.ALL else 1
        found = self._last(due, now, most)
        if self.missed is Missed.SKIP and now - found[-1] > LATE:
            return Settled((), found[-1])
        return Settled(found, due if found[0] > due else None)

    def _last(self, since: datetime, now: datetime, most: int) -> list[datetime]:
        """The last due times up to `now`, of which `since` is one. Looks back further and further: a
        schedule of every second may have been left alone for a year.
        """
        table, zone = cron.read(self.cron), _zone(self.timezone)
        window = _LEAST_WINDOW
        while True:
            found: deque[datetime] = deque(maxlen=most)
            begin = now - window
            due = since if begin <= since else table.after(begin, zone)
            while due is not None and due <= now:
                found.append(due)
                due = table.after(due, zone)
            if begin <= since or len(found) == most:
                return list(found)
            window *= _WIDER


def read(value: object) -> Schedule:
    """A cron expression, or an object with more. Raises: Expected, Wrong."""
    if isinstance(value, str):
        return Schedule(_timetable(value))
    if not isinstance(value, dict):
        raise Expected(cron.EXPECTED)
    errors: list[FieldError] = []
    given = fields.read(cast("object", value), FIELDS, errors)
    if not errors and "cron" not in given:
        errors.append(FieldError("cron", f"missing: {cron.EXPECTED}"))
    if given.get("missed") is Missed.ALL and given.setdefault("overlap", Overlap.ALLOW) is not (
        Overlap.ALLOW
    ):
        message = (
            "with `missed: all` no due time is left out, and those made up for overlap: `allow`"
        )
        errors.append(FieldError("overlap", message))
    if errors:
        raise Wrong(errors)
    return Schedule(**given)


def stamp(moment: datetime) -> str:
    """RFC 3339, in UTC."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _timetable(value: object) -> str:
    text = fields.text(value)
    cron.read(text)
    return text


def _timezone(value: object) -> str:
    name = fields.text(value)
    try:
        _zone(name)
    except (KeyError, ValueError, OSError):
        raise Wrong([FieldError("", _no_zone(name))]) from None
    return name


def _zone(name: str) -> tzinfo:
    """Raises: KeyError, ValueError, OSError."""
    return UTC if name == UTC_NAME else zoneinfo.ZoneInfo(name)


def _no_zone(name: str) -> str:
    known = zoneinfo.available_timezones()
    if not known:
        return "this machine knows no time zones but UTC: install its package tzdata"
    near = fields.did_you_mean(name, known) or ", such as Europe/Berlin"
    return f"there is no time zone {fields.show(name)}{near}"


FIELDS: Final = {
    "cron": Field("cron", _timetable),
    "timezone": Field("timezone", _timezone),
    "missed": Field("missed", fields.choice(Missed)),
    "overlap": Field("overlap", fields.choice(Overlap)),
}
