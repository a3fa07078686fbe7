"""The bench itself: what it says of a run, and that a run of it still fits the product."""

import dataclasses
import inspect
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from bench import __main__ as bench
from bench import peers, table
from bench.measure import figure
from bench.rows.size import QUICK, Size
from bench.table import Beside, Budget, Row, Section

ROOT: Final = Path(__file__).parent.parent.parent
PROMISED: Final = {  # the lines of the budget table, and the rows that answer them
    "POST /api/v1/tasks, durable": ("submit", "one"),
    "batch submit": ("submit", "batch"),
    "submit to finished, one echo": ("latency", "one"),
    "a chain of 200": ("latency", "chain"),
    "1, 2,000, 1": ("latency", "fan"),
    "10,000 echo: rate": ("throughput", "rate"),
    "10,000 echo: CPU": ("throughput", "cpu"),
    "100,000 pending: submit": ("pending", "submit"),
    "100,000 pending: memory": ("pending", "memory"),
    "no-op agent: rate": ("noop", "rate"),
    "no-op agent: CPU": ("noop", "cpu"),
    "CPU, flat": ("flat", "first"),
    "boot": ("flat", "boot"),
    "backlog: memory": ("backlog", "memory"),
    "backlog: latency": ("backlog", "latency"),
    "DAG: accepted": ("dag", "accepted"),
    "DAG: loop": ("dag", "lag"),
    "DAG: completes": ("dag", "completed"),
    "10,000 at once": ("running", "all"),
    "10,000 at once: heartbeats": ("running", "heartbeat"),
    "10,000 at once: API": ("running", "api"),
    "1,000 agents: memory": ("idle", "memory"),
    "1,000 agents: CPU": ("idle", "cpu"),
    "idle server": ("memory", "server"),
    "idle server with Postgres": ("memory", "postgres"),
    "idle agent": ("memory", "agent"),
    "start, warm": ("start", "warm"),
    "start, first": ("start", "first"),
    "logs": ("logs", "throughput"),
    "follow": ("logs", "follow"),
}


def a_section(value: float = 2.0, spin_after_s: float = 0.03) -> Section:
    beside = (
        Beside("floor", figure([1.0]), Budget(3.0)),
        Beside("Peer", figure([8.0]), peer=True),
        Beside("Absent", None, missing="not installed: how", peer=True),
    )
    row = Row("one", "a thing", "ms", figure([1.0, value, 9.0]), Budget(2.5), beside, "a | note")
    return Section("some", [row], 0.03, spin_after_s, 1.0)


def test_every_budget_has_its_row() -> None:
    for section, row in PROMISED.values():
        module = inspect.getmodule(bench.SECTIONS[section])
        assert module is not None
        assert f'"{row}"' in inspect.getsource(module), f"{section}.{row}"


def test_every_section_is_on_the_page() -> None:
    page = (ROOT / "docs" / "performance.md").read_text()
    assert [name for name in bench.SECTIONS if f"\n| `{name}` |" not in page] == []


def test_a_line_says_budget_floor_peers_ratio_and_verdict() -> None:
    section = a_section()
    cells = [cell.strip() for cell in table.line(section.rows[0], section.name).split("|")[1:-1]]
    assert cells == [
        "a thing",
        "≤ 2.5 ms; ≤ 3 × floor",
        "floor 1 ms",
        "Peer 8 ms; Absent: not installed: how",
        "2 (1–9, n 3) ms; a / note",
        "2.00 × floor, 0.25 × Peer",
        "yes",
        "`some`",
    ]


@pytest.mark.parametrize(
    ("value", "budget", "met"),
    [(2.0, Budget(2.5), True), (2.6, Budget(2.5), False), (2.0, Budget(2.5, least=True), False)],
)
def test_a_budget_is_met_or_not(value: float, budget: Budget, met: bool) -> None:
    assert Row("one", "a thing", "ms", figure([value]), budget).met is met


def test_one_budget_missed_is_a_row_missed() -> None:
    beside = (Beside("floor", figure([1.0]), Budget(1.5)),)
    assert Row("one", "a thing", "ms", figure([2.0]), Budget(2.5), beside).met is False
    assert Row("one", "a thing", "ms", figure([2.0])).met is None
    assert Row("broken", "it broke off", "", None).met is False


def test_a_section_on_a_restless_machine_is_noisy() -> None:
    assert not a_section().noisy
    restless = a_section(spin_after_s=0.04)
    assert restless.noisy
    assert "+33%, noisy" in table.noise([restless])
    assert "(noisy)" in table.markdown("a machine", [restless])


def test_the_table_is_written_between_its_markers(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{table.BEGIN}\nold\n{table.END}\nafter\n")
    table.write(page, "new")
    assert page.read_text() == f"before\n{table.BEGIN}\nnew\n{table.END}\nafter\n"
    page.write_text("no place")
    with pytest.raises(ValueError, match="no place for the table"):
        table.write(page, "new")


@pytest.mark.parametrize(("now", "code"), [(2.3, 0), (2.5, 1), (1.5, 1)])
def test_a_ratio_that_moved_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], now: float, code: int
) -> None:
    earlier = tmp_path / "earlier.json"
    earlier.write_text(json.dumps(table.raw("", {"tasks": 1}, [a_section(2.0)])))
    assert table.against(earlier, table.raw("", {"tasks": 1}, [a_section(now)])) == code
    assert ("MOVED" in capsys.readouterr().out) is bool(code)


def test_runs_of_other_sizes_do_not_compare(tmp_path: Path) -> None:
    earlier = tmp_path / "earlier.json"
    earlier.write_text(json.dumps(table.raw("", {"tasks": 1}, [a_section()])))
    assert table.against(earlier, table.raw("", {"tasks": 2}, [a_section()])) == 2


def test_the_quick_sizes_are_no_larger() -> None:
    full = dataclasses.asdict(Size())
    assert all(value <= full[name] for name, value in dataclasses.asdict(QUICK).items())


def test_a_peer_that_is_not_there_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "_in", tmp_path)
    with peers.at("chain", where=peers.Where("", 0)) as others:
        others.read()
    (beside, *_) = others.besides(lambda cost: cost.wall_s)
    assert beside.figure is None
    assert beside.missing == "not installed: `python -m bench peers --install DIR`"
    monkeypatch.setattr(peers, "_in", None)
    with peers.at("start") as others:
        assert others.besides(lambda cost: cost.wall_s) == ()


def test_a_peer_that_breaks_off_keeps_what_it_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "hyperqueue" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(
        "#!/bin/sh\necho hello\necho ready\nread _\necho '[2, 1]'\nread _\necho why >&2\n"
    )
    python.chmod(0o700)
    monkeypatch.setattr(peers, "_in", tmp_path)
    with peers.at("fan", where=peers.Where("", 0)) as others:
        others.read()
        others.read()
        others.read()
    (beside,) = others.besides(lambda cost: cost.wall_s)
    assert (beside.figure, beside.missing) == (figure([2.0]), "broke off: why")


def test_what_was_read_in_turn_is_held_against_its_neighbour() -> None:
    slow_then_fast = figure([4.0, 4.2, 2.0])
    assert slow_then_fast.over(figure([2.0, 2.1, 1.0])) == 2.0
    assert slow_then_fast.over(figure([2.0])) == 2.0
    assert slow_then_fast.over(figure([0.0])) is None


def test_a_ratio_of_a_budget_compares_only_where_the_machine_has_no_part_in_it() -> None:
    def run(unit: str, value: float) -> dict[str, Any]:
        row = Row("one", "a thing", unit, figure([value]), Budget(2.0))
        return table.raw("", {}, [Section("some", [row], 0.03, 0.03, 1.0)])

    assert [*table.changes(run("s", 1.0), run("s", 2.0))] == []
    assert [*table.changes(run("MiB", 1.0), run("MiB", 2.0))] == [("some.one × budget", 1.0)]


def test_a_run_of_the_agent_that_runs_nothing(tmp_path: Path) -> None:
    program = [sys.executable, "-m", "bench", "noop", "--tasks", "100", "--few", "1", "--no-peers"]
    done = subprocess.run(
        [*program, "--json", str(tmp_path / "raw.json")],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "raw.json").read_text())
    assert found["rows"]["noop.rate"]["figure"] > 0
    assert re.search(r"^\| no-op agent: 100 tasks", done.stdout, re.MULTILINE)
