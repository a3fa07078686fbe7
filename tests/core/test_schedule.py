"""What a schedule says, how it is refused, and what becomes of the times that were missed."""

from datetime import UTC, datetime, timedelta
from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from styx.core import form, schedule
from styx.core.schedule import MOST_MISSED, Missed, Overlap, Schedule, Settled
from styx.errors import InvalidSpec

TASKS = {"a": {"run": "true"}}
NOON = datetime(2026, 12, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def checked(when: object, **job: object) -> form.Scheduled:
    return form.check_scheduled({"name": "nightly", "tasks": TASKS, "schedule": when, **job})


def refused(when: object, **job: object) -> dict[str, str]:
    with pytest.raises(InvalidSpec) as error:
        checked(when, **job)
    return {field.path: field.message for field in error.value.errors}


def test_a_string_is_the_whole_schedule():
    found = checked("0 2 * * *")
    assert found.schedule == Schedule("0 2 * * *", "UTC", Missed.ONCE, Overlap.SKIP)
    assert found.job.name == "nightly"
    assert [task.name for task in found.job.tasks] == ["a"]


def test_an_object_says_more():
    when = {"cron": "@daily", "timezone": "Europe/Berlin", "missed": "skip", "overlap": "cancel"}
    assert checked(when).schedule == Schedule(
        "@daily", "Europe/Berlin", Missed.SKIP, Overlap.CANCEL
    )


def test_all_that_was_missed_may_overlap():
    assert checked({"cron": "@daily", "missed": "all"}).schedule.overlap is Overlap.ALLOW
    both = {"cron": "@daily", "missed": "all", "overlap": "skip"}
    assert "made up for overlap" in refused(both)["schedule.overlap"]


@pytest.mark.parametrize(
    ("when", "path", "said"),
    [
        (7, "schedule", "expected minute hour day month weekday"),
        ("61 * * * *", "schedule", "expected minutes from 0 to 59"),
        ({}, "schedule.cron", "missing: minute hour"),
        ({"cron": "@dayly"}, "schedule.cron", "the words are @hourly"),
        ({"cron": "@daily", "timezon": "UTC"}, "schedule.timezon", "did you mean 'timezone'"),
        (
            {"cron": "@daily", "timezone": "Europe/Berln"},
            "schedule.timezone",
            "there is no time zone 'Europe/Berln'; did you mean 'Europe/Berlin'?",
        ),
        ({"cron": "@daily", "timezone": "/etc/x"}, "schedule.timezone", "there is no time zone"),
        ({"cron": "@daily", "timezone": "Europe"}, "schedule.timezone", "there is no time zone"),
        ({"cron": "@daily", "timezone": ""}, "schedule.timezone", "there is no time zone"),
        ({"cron": "@daily", "missed": "never"}, "schedule.missed", "one of once, skip, all"),
        ({"cron": "@daily", "overlap": True}, "schedule.overlap", "one of skip, allow, cancel"),
        (None, "schedule", "missing: minute hour"),
    ],
)
def test_what_is_wrong_is_told(when: object, path: str, said: str):
    assert said in refused(when)[path]


def test_a_schedule_needs_a_name():
    assert "known by its job's name" in refused("@daily", name=None)["name"]


@pytest.mark.parametrize("check", [form.check_job, form.check_alone])
def test_a_job_has_none_and_says_where_it_belongs(check):
    with pytest.raises(InvalidSpec) as error:
        check({"run": "true", "tasks": TASKS, "schedule": "@daily"})
    told = {field.path: field.message for field in error.value.errors}
    assert "PUT the document to /api/v1/schedules/NAME" in told["schedule"]


def test_what_comes_next_is_told_in_its_own_zone():
    berlin = Schedule("0 2 * * *", "Europe/Berlin")
    assert [due.isoformat() for due in berlin.upcoming(NOON, 2)] == [
        "2026-12-02T02:00:00+01:00",
        "2026-12-03T02:00:00+01:00",
    ]
    assert berlin.after(NOON) == datetime(2026, 12, 2, 1, tzinfo=UTC)


# --- what was missed ------------------------------------------------------------------------------


def settled(missed: Missed, due: datetime, now: datetime, cron: str = "* * * * *") -> Settled:
    return Schedule(cron, missed=missed).settle(due, now)


@pytest.mark.parametrize("missed", Missed)
def test_what_is_on_time_runs(missed: Missed):
    for late_s in (0, 1, 59.9):
        now = NOON + timedelta(seconds=late_s)
        assert settled(missed, NOON, now, "@daily") == Settled([NOON], None)


def test_once_is_for_the_last():
    now = NOON + 4.5 * MINUTE
    assert settled(Missed.ONCE, NOON, now) == Settled([NOON + 4 * MINUTE], NOON)
    later = NOON + timedelta(hours=30)
    assert settled(Missed.ONCE, NOON, later, "0 12 * * *").due == [NOON + timedelta(days=1)]


def test_skip_leaves_out_what_is_late():
    now = NOON + timedelta(hours=2)
    assert settled(Missed.SKIP, NOON, now, "0 12 * * *") == Settled((), NOON)
    # The last of them is on time, though others were missed.
    assert settled(Missed.SKIP, NOON, now) == Settled([now], NOON)


def test_all_are_made_up_for_in_order():
    found = settled(Missed.ALL, NOON, NOON + 100 * MINUTE)
    assert found == Settled([NOON + n * MINUTE for n in range(101)], None)


def test_all_are_no_more_than_the_last_thousand():
    now = NOON + timedelta(days=7)
    found = settled(Missed.ALL, NOON, now)
    assert found == Settled([now - n * MINUTE for n in range(MOST_MISSED)][::-1], NOON)


@pytest.mark.parametrize("missed", Missed)
@pytest.mark.parametrize("cron", ["every 1s", "* * * * *", "* * 1 * *", "0 0 29 2 *"])
def test_ten_years_of_absence_cost_little(missed: Missed, cron: str):
    when = Schedule(cron, "America/New_York", missed)
    due = when.after(NOON)
    assert due is not None
    began_s = process_time()
    when.settle(due, due + timedelta(days=3_653))
    assert process_time() - began_s < 2.0


@given(
    st.sampled_from(["*/7 * * * *", "0 3 * * 1-5", "every 13m", "30 2 * * *"]),
    st.sampled_from(Missed),
    st.integers(0, 20_000),
    st.integers(0, 8_000),
)
def test_settling_says_the_last_due_times(cron: str, missed: Missed, begin: int, minutes: int):
    when = Schedule(cron, "Europe/Berlin", missed)
    due = when.after(NOON + begin * MINUTE)
    assert due is not None
    now = due + minutes * MINUTE
    every = [due]
    while (later := when.after(every[-1])) is not None and later <= now:
        every.append(later)
    most = MOST_MISSED if missed is Missed.ALL else 1
    found = when.settle(due, now)
    if missed is Missed.SKIP and now - every[-1] > schedule.LATE:
        assert found == Settled((), every[-1])
    else:
        assert list(found.due) == every[-most:]
        assert (found.passed is not None) == (len(every) > most)
