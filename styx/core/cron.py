"""When a schedule is due: the five fields of cron, its words (`@daily`), and `every 10m`.

Wall clocks jump twice a year, and what is then meant follows cron of Debian:

  - At fixed hours and minutes (`30 2 * * *`) each time of day comes once a day: where the clock jumps over
    it, at the jump; where the clock goes back over it, the first time.
  - With `*` at the head of the hours or the minutes (`*/15 * * * *`) it is real time that counts: nothing
    at the jump, and the repeated hour again.
"""

import re
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Final, NamedTuple

import msgspec

from styx.core import units
from styx.core.units import Expected

EXPECTED: Final = (
    'minute hour day month weekday, such as "0 2 * * *"; a word such as "@daily"; or "every 10m"'
)
WORDS: Final = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
EVERY: Final = "every "
LONGEST_S: Final = 366 * 86_400.0
LONGEST_TEXT: Final = 500
EPOCH: Final = datetime.fromtimestamp(0, UTC)
MINUTE: Final = timedelta(minutes=1)
DAY: Final = timedelta(days=1)
# The pattern of weekdays and leap years repeats after 28 years, or 40 over a century without a leap day.
HORIZON_YEARS: Final = 40
LAST_YEAR: Final = 9_900
_DAYS_OF: Final = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_MONTHS: Final = [
    "jan",
    "feb",
    "mar",
    "apr",
    "may",
    "jun",
    "jul",
    "aug",
    "sep",
    "oct",
    "nov",
    "dec",
]
_WEEKDAYS: Final = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]
_ITEM: Final = re.compile(r"(?:\*|(\w{1,3})(?:-(\w{1,3}))?)(?:/(\d{1,3}))?")


class _Field(NamedTuple):
    name: str
    least: int
    most: int
    words: tuple[str, ...] = ()  # of its values, from `least` on

    def read(self, text: str) -> tuple[int, ...]:
        """Sorted. Raises: Expected."""
        values: set[int] = set()
        for item in text.split(","):
            found = _ITEM.fullmatch(item)
            if found is None or (found[3] and item[0] != "*" and not found[2]):
                raise self._expected()
            first = self._value(found[1]) if found[1] else self.least
            last = self._value(found[2]) if found[2] else first if found[1] else self.most
            if self.words and last == 0 < first:  # fri-sun
                last = 7
            step = int(found[3] or 1)
            if not self.least <= first <= last <= self.most or not step:
                raise self._expected()
            values.update(range(first, last + 1, step))
        return tuple(sorted(values))

    def _value(self, text: str) -> int:
        word = text.lower()
        if word in self.words:
            return self.least + self.words.index(word)
        if not (text.isascii() and text.isdecimal()):
            raise self._expected()
        return int(text)

    def _expected(self) -> Expected:
        words = f" or {self.words[0]}-{self.words[-1]}" if self.words else ""
        return Expected(
            f"{self.name} from {self.least} to {self.most}{words} (5, 1-5, 1,3, */2 or *) in {EXPECTED}"
        )


_FIELDS: Final = (
    _Field("minutes", 0, 59),
    _Field("hours", 0, 23),
    _Field("days", 1, 31),
    _Field("months", 1, 12, tuple(_MONTHS)),
    _Field("weekdays", 0, 7, tuple(_WEEKDAYS)),
)


class Cron(msgspec.Struct, frozen=True):
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: tuple[int, ...]
    months: tuple[int, ...]
    weekdays: frozenset[int]  # 0 is Sunday
    either: bool  # a day of the month or a weekday is enough, as neither is `*`
    elapsing: bool  # real time counts, not the time of day

    def after(self, moment: datetime, zone: tzinfo) -> datetime | None:
        """The first that is later; None is never."""
        if self.elapsing:
            return self._elapsed(_whole(moment.astimezone(UTC)) + MINUTE, zone)
        wall = self._first(_whole(_wall(moment, zone)) + MINUTE)
        while wall is not None:
            due = _reached(wall, zone)
            if due > moment:
                return due
            wall = self._first(wall + MINUTE)
        return None

    def _elapsed(self, moment: datetime, zone: tzinfo) -> datetime | None:
        """The first at `moment` or later whose time of day matches."""
        while True:
            wall = _wall(moment, zone)
            first = self._first(wall)
            if first is None:
                return None
            ahead = first - wall
            near = moment + min(ahead, DAY)
            if _offset(near, zone) != _offset(moment, zone):
                moment = _jump(moment, near, zone)  # from there on times of day may come again
            elif ahead > DAY:
                moment += ahead - DAY
            else:
                return near

    def _first(self, wall: datetime) -> datetime | None:
        """The first time of day that matches, at `wall` or later, as if clocks never jumped."""
        day, hour, minute = wall.date(), wall.hour, wall.minute
        if self._on(day):
            if hour in self.hours and (later := _from(self.minutes, minute)) is not None:
                return wall.replace(minute=later)
            if (later := _from(self.hours, hour + 1)) is not None:
                return wall.replace(hour=later, minute=self.minutes[0])
        found = self._day_after(day)
        if found is None:
            return None
        return datetime(found.year, found.month, found.day, self.hours[0], self.minutes[0])  # noqa: DTZ001

    def _day_after(self, day: date) -> date | None:
        last = min(day.year + HORIZON_YEARS, LAST_YEAR)
        day += DAY
        while day.year <= last:
            if day.month not in self.months:
                day = (day.replace(day=28) + 4 * DAY).replace(day=1)
            elif self._on(day):
                return day
            else:
                day += DAY
        return None

    def _on(self, day: date) -> bool:
        in_month = day.day in self.days
        in_week = day.isoweekday() % 7 in self.weekdays
        matches = in_month or in_week if self.either else in_month and in_week
        return matches and day.month in self.months


class Every(msgspec.Struct, frozen=True):
    """Whole periods since 1970, so that no restart moves them; zones have no say."""

    period: timedelta

    def after(self, moment: datetime, zone: tzinfo) -> datetime | None:
        del zone
        return EPOCH + ((moment - EPOCH) // self.period + 1) * self.period


Timetable = Cron | Every


def read(text: str) -> Timetable:
    """Raises: Expected."""
    if len(text) > LONGEST_TEXT:
        raise Expected(EXPECTED)
    given = " ".join(text.split())
    if given.startswith(EVERY):
        return _every(given.removeprefix(EVERY))
    if given.startswith("@") and given not in WORDS:
        raise Expected(f"{EXPECTED}; the words are {', '.join(WORDS)}")
    parts = WORDS.get(given, given).split()
    if len(parts) != len(_FIELDS):
        raise Expected(EXPECTED)
    minutes, hours, days, months, weekdays = (
        field.read(part) for field, part in zip(_FIELDS, parts, strict=True)
    )
    either = parts[2][0] != "*" and parts[4][0] != "*"
    if not either and all(days[0] > _DAYS_OF[month - 1] for month in months):
        raise Expected("a day that one of the months has")
    return Cron(
        minutes,
        hours,
        days,
        months,
        frozenset(day % 7 for day in weekdays),
        either=either,
        elapsing="*" in {parts[0][0], parts[1][0]},
    )


def _every(text: str) -> Every:
    seconds = units.seconds(text)
    if not 1 <= seconds <= LONGEST_S or seconds % 1:
        raise Expected('"every" with whole seconds up to a year, such as "every 10m"')
    return Every(timedelta(seconds=seconds))


def _from(values: tuple[int, ...], least: int) -> int | None:
    return next((value for value in values if value >= least), None)


# --- clocks that jump -----------------------------------------------------------------------------


def _whole(moment: datetime) -> datetime:
    return moment.replace(second=0, microsecond=0)


def _wall(moment: datetime, zone: tzinfo) -> datetime:
    """The time of day there, without its zone."""
    return moment.astimezone(zone).replace(tzinfo=None, fold=0)


def _offset(moment: datetime, zone: tzinfo) -> timedelta | None:
    return moment.astimezone(zone).utcoffset()


def _reached(wall: datetime, zone: tzinfo) -> datetime:
    """The first moment at which the clock there shows `wall`, or jumps over it."""
    local = wall.replace(tzinfo=zone)
    moment = local.astimezone(UTC)
    if _wall(moment, zone) == wall:
        return moment
    return _jump(local.replace(fold=1).astimezone(UTC), moment, zone)


def _jump(before: datetime, after: datetime, zone: tzinfo) -> datetime:
    """The minute, between the two, in which the clock there jumped."""
    same = _offset(before, zone)
    while after - before > MINUTE:
        middle = before + (after - before) // MINUTE // 2 * MINUTE
        if _offset(middle, zone) == same:
            before = middle
        else:
            after = middle
    return after
