"""Cron's arithmetic: against the calendar, and against a walk over every minute where clocks jump."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from styx.core import cron
from styx.core.units import Expected

BERLIN = ZoneInfo("Europe/Berlin")
MINUTE = timedelta(minutes=1)
# Half an hour at a time, at midnight, and backwards over midnight.
ZONES = (
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "America/Havana",
    "Asia/Beirut",
)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def dues(text: str, begin: str, many: int, zone=UTC) -> list[str]:
    """As the clock there shows them."""
    table, moment = cron.read(text), utc(begin)
    found: list[str] = []
    for _ in range(many):
        due = table.after(moment, zone)
        assert due is not None
        assert due > moment
        moment = due
        found.append(due.astimezone(zone).strftime("%a %Y-%m-%d %H:%M%z"))
    return found


@pytest.mark.parametrize(
    ("text", "begin", "expected"),
    [
        ("0 2 * * *", "2026-12-01T02:00:00Z", "Wed 2026-12-02 02:00+0000"),
        ("*/15 * * * *", "2026-12-01T02:14:59Z", "Tue 2026-12-01 02:15+0000"),
        ("5-20/15 8,17 * * mon-fri", "2026-12-04T17:20:00Z", "Mon 2026-12-07 08:05+0000"),
        ("0 0 29 2 *", "2026-12-01T00:00:00Z", "Tue 2028-02-29 00:00+0000"),
        ("0 0 29 2 *", "2096-03-01T00:00:00Z", "Fri 2104-02-29 00:00+0000"),
        ("0 0 31 * *", "2026-01-31T00:00:00Z", "Tue 2026-03-31 00:00+0000"),
        ("0 0 13 * fri", "2026-11-28T00:00:00Z", "Fri 2026-12-04 00:00+0000"),
        ("0 0 13 * fri", "2026-12-12T00:00:00Z", "Sun 2026-12-13 00:00+0000"),
        ("0 0 */2 * mon", "2026-12-01T00:00:00Z", "Mon 2026-12-07 00:00+0000"),
        ("0 0 * * 7", "2026-12-01T00:00:00Z", "Sun 2026-12-06 00:00+0000"),
        ("0 0 * * FRI-SUN", "2026-12-05T00:00:00Z", "Sun 2026-12-06 00:00+0000"),
        ("@hourly", "2026-12-01T02:00:00Z", "Tue 2026-12-01 03:00+0000"),
        ("@daily", "2026-12-01T02:00:00Z", "Wed 2026-12-02 00:00+0000"),
        ("@weekly", "2026-12-01T02:00:00Z", "Sun 2026-12-06 00:00+0000"),
        ("@monthly", "2026-12-01T02:00:00Z", "Fri 2027-01-01 00:00+0000"),
        ("@yearly", "2027-01-01T00:00:00Z", "Sat 2028-01-01 00:00+0000"),
        ("every 90m", "2026-12-01T00:00:00Z", "Tue 2026-12-01 01:30+0000"),
    ],
)
def test_the_next_due_time(text: str, begin: str, expected: str):
    assert dues(text, begin, 1) == [expected]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "minute hour day month weekday"),
        ("0 2 * *", "minute hour day month weekday"),
        ("0 0 2 * * *", "minute hour day month weekday"),
        ("60 * * * *", "minutes from 0 to 59"),
        ("0 24 * * *", "hours from 0 to 23"),
        ("0 0 0 * *", "days from 1 to 31"),
        ("0 0 * 13 *", "months from 1 to 12"),
        ("0 0 * * 8", "weekdays from 0 to 7 or sun-sat"),
        ("*/0 * * * *", "minutes from 0 to 59"),
        ("5/10 * * * *", "minutes from 0 to 59"),
        ("9-5 * * * *", "minutes from 0 to 59"),
        ("1,,2 * * * *", "minutes from 0 to 59"),
        ("² * * * *", "minutes from 0 to 59"),
        ("0 0 * mon *", "months from 1 to 12"),
        ("0 0 30 2 *", "a day that one of the months has"),
        ("@reboot", "the words are @hourly"),
        ("every 0s", "whole seconds up to a year"),
        ("every 1.5s", "whole seconds up to a year"),
        ("every soon", "a duration"),
        ("* " * 400, "minute hour day month weekday"),
    ],
)
def test_what_is_no_timetable_is_told(text: str, said: str):
    with pytest.raises(Expected) as refused:
        cron.read(text)
    assert said in str(refused.value)


def test_a_fixed_time_in_the_gap_comes_at_the_jump():
    """In the night to 2027-03-28 Berlin's clocks go from 02:00 to 03:00."""
    assert dues("30 2 * * *", "2027-03-26T12:00:00Z", 3, BERLIN) == [
        "Sat 2027-03-27 02:30+0100",
        "Sun 2027-03-28 03:00+0200",
        "Mon 2027-03-29 02:30+0200",
    ]


def test_several_fixed_times_in_one_gap_are_one_due_time():
    assert dues("0,30 2 * * *", "2027-03-27T12:00:00Z", 2, BERLIN) == [
        "Sun 2027-03-28 03:00+0200",
        "Mon 2027-03-29 02:00+0200",
    ]


def test_a_fixed_time_that_comes_twice_counts_the_first_time():
    """In the night to 2026-10-25 Berlin's clocks go from 03:00 back to 02:00."""
    assert dues("30 2 * * *", "2026-10-24T12:00:00Z", 2, BERLIN) == [
        "Sun 2026-10-25 02:30+0200",
        "Mon 2026-10-26 02:30+0100",
    ]
    assert dues("30 2 * * *", "2026-10-25T00:45:00Z", 1, BERLIN) == ["Mon 2026-10-26 02:30+0100"]


def test_every_hour_is_every_hour_of_real_time():
    assert dues("0 * * * *", "2027-03-28T00:00:00Z", 2, BERLIN) == [
        "Sun 2027-03-28 03:00+0200",
        "Sun 2027-03-28 04:00+0200",
    ]
    assert dues("30 * * * *", "2026-10-25T00:00:00Z", 3, BERLIN) == [
        "Sun 2026-10-25 02:30+0200",
        "Sun 2026-10-25 02:30+0100",
        "Sun 2026-10-25 03:30+0100",
    ]


def test_a_period_keeps_its_step_whatever_the_clock_does():
    found = [utc(f"{due[4:14]}T{due[15:]}") for due in dues("every 7m", "2026-10-25T00:00:00Z", 40)]
    assert {later - earlier for earlier, later in pairwise(found)} == {7 * MINUTE}
    assert found[0].timestamp() % 420 == 0


def jumps(name: str) -> list[datetime]:
    """The moments of 2026 to 2028 at which the clock there jumps."""
    zone, found = ZoneInfo(name), list[datetime]()
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    while moment.year < 2029:
        after = moment + timedelta(hours=1)
        if moment.astimezone(zone).utcoffset() != after.astimezone(zone).utcoffset():
            found.append(moment)
        moment = after
    return found


JUMPS = [(name, moment) for name in ZONES for moment in jumps(name)]


@st.composite
def fields(draw: st.DrawFn) -> str:
    """Such as have something to say around midnight."""
    minute = draw(st.sampled_from(["*", "*/7", "0", "15,45", "30-59/10", "59"]))
    hour = draw(st.sampled_from(["*", "*/2", "0", "1", "2", "23", "0-3", "1,23"]))
    day = draw(st.sampled_from(["*", "*/2", "1-15", "25"]))
    weekday = draw(st.sampled_from(["*", "sun", "mon-sat", "*/2"]))
    return f"{minute} {hour} {day} * {weekday}"


def walked(table: cron.Cron, begin: datetime, end: datetime, zone: ZoneInfo) -> list[datetime]:
    """What it means, minute by minute: a time of day is due when the clock first shows it or is past it."""
    found: list[datetime] = []
    moment, shown = begin, (begin.astimezone(zone)).replace(tzinfo=None)
    while moment < end:
        moment += MINUTE
        wall = moment.astimezone(zone).replace(tzinfo=None, fold=0)
        if table.elapsing:
            candidates = [wall]
        else:
            candidates = [shown + n * MINUTE for n in range(1, (wall - shown) // MINUTE + 1)]
            shown = max(shown, wall)
        if any(matches(table, candidate) for candidate in candidates):
            found.append(moment)
    return found


def matches(table: cron.Cron, wall: datetime) -> bool:
    in_month, in_week = wall.day in table.days, wall.isoweekday() % 7 in table.weekdays
    on = in_month or in_week if table.either else in_month and in_week
    return on and wall.hour in table.hours and wall.minute in table.minutes


@given(fields(), st.sampled_from(JUMPS), st.integers(0, 1_500))
def test_around_a_jump_it_is_due_when_a_watch_says_so(
    text: str, jump: tuple[str, datetime], minutes: int
):
    name, moment = jump
    zone, table = ZoneInfo(name), cron.read(text)
    assert isinstance(table, cron.Cron)
    begin, end = moment - timedelta(hours=30), moment + timedelta(hours=30)
    begin += minutes * MINUTE
    # The watch begins before any time of day that comes twice.
    watched = [due for due in walked(table, moment - timedelta(hours=30), end, zone) if due > begin]
    found: list[datetime] = []
    due = table.after(begin, zone)
    while due is not None and due <= end:
        found.append(due)
        due = table.after(due, zone)
    assert found == watched
