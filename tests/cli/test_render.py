"""Tables and data on stdout."""

import io
import json
import sys
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from styx.cli import render
from styx.cli.render import Column


class Row(msgspec.Struct):
    id: str
    status: str
    size: int


ROWS = [Row("alpha", "running", 5), Row("b", "failed", 1234)]
COLUMNS = (
    Column("NAME", lambda row: row.id, elastic=True),
    Column("STATUS", lambda row: render.state(row.status), status=lambda row: row.status),
    Column("SIZE", lambda row: str(row.size), right=True),
    Column("TWICE", lambda row: str(2 * row.size), wide=True),
)


def test_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    render.rows(ROWS, COLUMNS, "table")
    assert capsys.readouterr().out.splitlines() == [
        "NAME    STATUS      SIZE",
        "alpha   ● running      5",
        "b       ■ failed    1234",
    ]


def test_a_wide_table_has_more_columns(capsys: pytest.CaptureFixture[str]) -> None:
    render.rows(ROWS, COLUMNS, "wide")
    assert capsys.readouterr().out.splitlines()[0].split() == ["NAME", "STATUS", "SIZE", "TWICE"]


def test_a_cell_cannot_move_the_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    render.rows([Row("a\x1b[2J\nb", "running", 1)], COLUMNS, "table")
    assert capsys.readouterr().out.splitlines()[1].startswith("a?[2J?b ")


def test_an_empty_table_says_so_beside_the_data(capsys: pytest.CaptureFixture[str]) -> None:
    render.rows([], COLUMNS, "table", empty="nothing here")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "nothing here\n")


@pytest.mark.parametrize("output", ["json", "jsonl", "yaml", "name"])
def test_data(capsys: pytest.CaptureFixture[str], output: str) -> None:
    render.rows(ROWS, COLUMNS, output)
    out = capsys.readouterr().out
    plain = msgspec.to_builtins(ROWS)
    match output:
        case "json":
            assert json.loads(out) == plain
        case "jsonl":
            assert [json.loads(line) for line in out.splitlines()] == plain
        case "yaml":
            assert msgspec.yaml.decode(out) == plain
        case _:
            assert out == "alpha\nb\n"


def test_no_data_is_an_empty_list(capsys: pytest.CaptureFixture[str]) -> None:
    render.rows([], COLUMNS, "json", empty="nothing here")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("[]\n", "")


def test_colour_only_when_asked_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.delenv("NO_COLOR", raising=False)
    render.rows(ROWS, COLUMNS, "table")
    assert "\x1b[31m■ failed " in capsys.readouterr().out
    monkeypatch.setenv("NO_COLOR", "1")
    render.rows(ROWS, COLUMNS, "table")
    assert "\x1b" not in capsys.readouterr().out


def test_a_terminal_without_unicode_still_has_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    ascii_only = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", ascii_only)
    render.rows(ROWS, COLUMNS, "table")
    ascii_only.seek(0)
    assert [line.split()[1:3] for line in ascii_only.read().splitlines()[1:]] == [
        ["*", "running"],
        ["#", "failed"],
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0ms"), (0, "0ms"), (0.0142, "14ms"), (0.9994, "999ms"), (0.9996, "1.0s"), (1.44, "1.4s"),
        (9.949, "9.9s"), (9.96, "10s"), (59.4, "59s"), (59.6, "1m"), (60, "1m"), (1_860, "31m"),
        (3_599, "59m"), (3_600, "1h 0m"), (8_040, "2h 14m"), (86_399, "23h 59m"), (273_600, "3d 4h"),
    ],
)  # fmt: skip
def test_durations(seconds: float, text: str) -> None:
    assert render.duration(seconds) == text


def test_ages() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert render.age(now - timedelta(minutes=31), now) == "31m"
    assert render.age(None, now) == "–"


@pytest.mark.parametrize(
    ("amount", "text"), [(4.0, "4"), (0.5, "0.5"), (1_000, "1,000"), (100.0, "100"), (0, "0")]
)
def test_numbers(amount: float, text: str) -> None:
    assert render.number(amount) == text


def test_short_ids_tell_all_apart() -> None:
    ids = [
        "01a2106e-9bcb-75bf-9cea-678316ffdaa8",
        "01a2106e-9bcb-75bf-9cea-678316ffdaa9",
        "01a2106e-9bcc-75bf-9cea-678316ffdaa9",
        "01a2106f-0000-75bf-9cea-678316ffdaa9",
    ]
    short = render.short_ids([*ids, ids[0]])
    assert short == {
        ids[0]: ids[0],
        ids[1]: ids[1],
        ids[2]: "01a2106e-9bcc",
        ids[3]: "01a2106f-0000",
    }
    assert all(id_.startswith(prefix) for id_, prefix in short.items())


def test_a_row_is_cut_at_the_elastic_column_only() -> None:
    columns = (COLUMNS[0], COLUMNS[2])
    widths = [20, 8]
    render.fit(columns, widths, room=20)
    assert widths == [9, 8]
    assert list(render.joined(["a" * 20, "5"], widths, columns)) == list(
        "aaaaaaaa…   " + "       5"
    )


def test_an_elastic_column_keeps_a_readable_rest() -> None:
    widths = [20, 8]
    render.fit((COLUMNS[0], COLUMNS[2]), widths, room=5)
    assert widths == [8, 8]
