"""The judge finds each kind of broken promise when one is planted in the evidence of a clean run."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from tests.chaos.evidence import Evidence, Submit
from tests.chaos.oracle import PROMISES, judge

ENV = {"LINES": 2, "EVERY": 1, "NAP": "0", "CODE": 0, "FAILS": 0}
TASKS: dict[str, dict[str, Any]] = {
    "first": {"env": ENV, "infra_retries": 3, "exclusive": True},
    "second": {
        "env": ENV,
        "infra_retries": 3,
        "delivery": "at_most_once",
        "needs": [{"task": "first", "on": "success"}],
    },
}


def lines(key: str, stream: str) -> str:
    return "".join(f"{key} {stream} {i}\n" for i in range(2))


def attempt(n: int, status: str, **fields: Any) -> dict[str, Any]:
    code = 0 if status == "succeeded" else None
    given = {"n": n, "rank": 0, "status": status, "reason": "", "exit_code": code, "agent": "a1"}
    return given | {"logs_complete": True} | fields


def clean() -> Evidence:
    """Two tasks; the first was tried again because its supervisor was killed."""
    first: dict[str, Any] = {
        "id": "F",
        "name": "first",
        "status": "succeeded",
        "reason": "",
        "needs": [],
    }
    second: dict[str, Any] = {
        "id": "S",
        "name": "second",
        "status": "succeeded",
        "reason": "",
        "needs": ["F"],
    }
    first["attempts"] = [
        attempt(1, "failed", reason="exit_status_lost"),
        attempt(2, "succeeded"),
    ]
    second["attempts"] = [attempt(1, "succeeded")]
    keys = ("F.1.0", "F.2.0", "S.1.0")
    return Evidence(
        submits=[Submit("k", "/api/v1/jobs", {"tasks": TASKS}, "J", {"first": ["F"], "second": ["S"]})],
        jobs=["J"],
        tasks={"F": first, "S": second},
        output={key: (lines(key, "out"), lines(key, "err")) for key in keys},
        ledger=[
            mark
            for number, key in enumerate(keys)
            for mark in (f"start {key} 1 {number}.0", f"beat {key}", f"end {key} 0")
        ],
        cancelled=[],
        supervisor_kills=[("a1", 0.5)],
        orphans=[],
    )  # fmt: skip


def lose_a_submit(evidence: Evidence) -> None:
    del evidence.tasks["S"]


def submit_twice(evidence: Evidence) -> None:
    evidence.jobs.append("J2")


def leave_unfinished(evidence: Evidence) -> None:
    evidence.tasks["S"]["status"] = "running"


def start_twice(evidence: Evidence) -> None:
    evidence.ledger.insert(1, "start F.1.0 2 0.1")


def start_unasked(evidence: Evidence) -> None:
    evidence.ledger += ["start F.3.0 1 9.0", "end F.3.0 0"]


def finish_twice(evidence: Evidence) -> None:
    evidence.tasks["F"]["attempts"][0] = attempt(1, "succeeded")


def repeat_at_most_once(evidence: Evidence) -> None:
    evidence.tasks["S"]["attempts"].append(attempt(2, "lost", reason="agent_silent"))
    evidence.ledger.append("start S.2.0 1 9.0")


def overlap(evidence: Evidence) -> None:
    evidence.ledger.insert(5, "beat F.1.0")


def report_a_wrong_code(evidence: Evidence) -> None:
    evidence.tasks["S"] |= {"status": "failed", "reason": "exit_code"}
    evidence.tasks["S"]["attempts"] = [attempt(1, "failed", reason="exit_code", exit_code=3)]


def lose_an_exit_without_cause(evidence: Evidence) -> None:
    evidence.supervisor_kills = [("a2", 0.5)]


def cancel_unasked(evidence: Evidence) -> None:
    evidence.tasks["S"]["status"] = "cancelled"


def start_before_its_need(evidence: Evidence) -> None:
    evidence.ledger.insert(4, evidence.ledger.pop(6))


def drop_a_line(evidence: Evidence) -> None:
    out, err = evidence.output["S.1.0"]
    evidence.output["S.1.0"] = (out.splitlines(keepends=True)[0], err)


def repeat_a_line(evidence: Evidence) -> None:
    out, err = evidence.output["F.1.0"]
    evidence.output["F.1.0"] = (out, err + err.splitlines(keepends=True)[1])


def wait_for_logs(evidence: Evidence) -> None:
    evidence.tasks["S"]["attempts"][0]["logs_complete"] = False


def leave_an_orphan(evidence: Evidence) -> None:
    evidence.orphans.append("S.1.0: process 7")


def refuse(evidence: Evidence) -> None:
    evidence.refused.append("/api/v1/jobs: 500")


PLANTED: dict[Callable[[Evidence], None], str] = {
    lose_a_submit: "acknowledged submits lost",
    submit_twice: "submits made twice",
    leave_unfinished: "tasks not over",
    start_twice: "started twice in one attempt",
    start_unasked: "started without an attempt",
    finish_twice: "finished twice",
    repeat_at_most_once: "at-most-once started again",
    overlap: "exclusive attempts overlapping",
    report_a_wrong_code: "wrong exit codes",
    lose_an_exit_without_cause: "wrong exit codes",
    cancel_unasked: "wrong ends",
    start_before_its_need: "needs not kept",
    drop_a_line: "log lines wrong",
    repeat_a_line: "log lines wrong",
    wait_for_logs: "log lines wrong",
    leave_an_orphan: "orphan processes",
    refuse: "wrong answers of the API",
}


def test_a_clean_run_is_clean() -> None:
    verdict = judge(clean())
    assert verdict.clean, verdict.violations
    assert verdict.classes == {"complete": 2, "incomplete": 0, "missing": 0, "extra": 0}


@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__)
def test_what_is_planted_is_found(plant: Callable[[Evidence], None]) -> None:
    evidence = copy.deepcopy(clean())
    plant(evidence)
    assert judge(evidence).violations[PLANTED[plant]]


def test_every_promise_can_be_broken() -> None:
    assert set(PLANTED.values()) == set(PROMISES)


def test_a_run_that_never_was_is_missing() -> None:
    evidence = clean()
    evidence.ledger = evidence.ledger[:6]
    assert judge(evidence).classes["missing"] == 1
