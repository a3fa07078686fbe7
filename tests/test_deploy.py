"""The dashboard, the alerts and the page about them speak only of measures that there are."""

import json
import re
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from styx.api import measures

ROOT: Final = Path(__file__).parent.parent
DASHBOARD: Final = ROOT / "deploy" / "grafana" / "styx.json"
RULES: Final = ROOT / "deploy" / "prometheus" / "styx.rules.yml"
NAMES: Final = {measure.name: measure for measure in measures.ALL}
PARTS: Final = {
    f"{name}_{part}"
    for name, measure in NAMES.items()
    if measure.kind == "histogram"
    for part in ("bucket", "sum", "count")
}
SHOWN: Final = (NAMES.keys() - {n for n, m in NAMES.items() if m.kind == "histogram"}) | PARTS
# Of the library's own, as promised on Linux.
PROCESS: Final = {"process_resident_memory_bytes", "process_cpu_seconds_total"}


def dashboard() -> list[str]:
    document = json.loads(DASHBOARD.read_text())
    return [target["expr"] for panel in document["panels"] for target in panel["targets"]]


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def named(expression: str) -> set[str]:
    return set(re.findall(r"\b(?:styx|process)_[a-z_]+", expression))


def wrong_labels(expression: str) -> set[str]:
    """What is selected or grouped by, and no measure of the expression has."""
    used = set(re.findall(r"[{,]\s*(\w+)\s*=", expression))
    for group in re.findall(r"\b(?:by|on) \(([^)]*)\)", expression):
        used |= {label.strip() for label in group.split(",")}
    known = {"le", "instance"}
    for name in named(expression):
        measure = NAMES.get(name) or NAMES.get(re.sub(r"_(bucket|sum|count)$", "", name))
        known |= set(measure.labels if measure else ())
    return used - known


EXPRESSIONS: Final = [*dashboard(), *(rule["expr"] for rule in rules())]


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_an_expression_names_what_there_is(expression: str) -> None:
    assert named(expression)
    assert named(expression) <= SHOWN | PROCESS
    assert wrong_labels(expression) == set()
    assert expression.count("(") == expression.count(")")


def test_a_wrong_name_or_label_would_be_seen() -> None:
    assert not named('sum(styx_task{state="x"})') <= SHOWN
    assert not named("styx_turn_seconds") <= SHOWN, "a histogram is asked for by its parts"
    assert wrong_labels('sum by (task) (styx_tasks{job="x"})') == {"task", "job"}


def test_every_measure_has_a_panel() -> None:
    named_there = set[str]().union(*map(named, dashboard()))
    whole = {name for name in NAMES if {name, f"{name}_bucket"} & named_there}
    assert NAMES.keys() - whole == {"styx_term"}


def test_every_alert_says_what_to_do() -> None:
    for rule in rules():
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}
        assert rule["annotations"].keys() == {"summary", "runbook"}
        assert all(text.endswith(".") for text in rule["annotations"].values())


def test_the_page_names_every_measure_and_no_other() -> None:
    page = (ROOT / "docs" / "metrics.md").read_text()
    assert set(re.findall(r"^\| `(styx_[a-z_]+)`", page, re.MULTILINE)) == NAMES.keys()
