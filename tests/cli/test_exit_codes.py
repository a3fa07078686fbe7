"""The table of exit codes."""

from datetime import UTC, datetime
from typing import Any

import pytest

from styx import errors
from styx.cli import exits
from styx.sdk import failures
from styx.wire import http as wire

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def a_task(status: Any, **fields: Any) -> wire.TaskDetail:
    given: dict[str, Any] = {
        "id": "1", "job_id": "2", "name": "t", "status": status, "reason": "", "exit_code": None,
        "signal": None, "attempt": 1, "priority": "normal", "command": ["x"], "run": "",
        "resources": wire.ResourcesView(), "num_nodes": 1, "labels": {}, "needs": [],
        "array_index": None, "agent": "a", "created_at": NOW, "started_at": NOW,
        "finished_at": NOW, "duration_ms": 5,
    }  # fmt: skip
    return wire.TaskDetail(**given | fields)


@pytest.mark.parametrize(
    ("task", "code"),
    [
        (a_task("succeeded", exit_code=0), 0),
        (a_task("failed", exit_code=3, reason="exit_code"), 3),
        (a_task("failed", exit_code=255, reason="exit_code"), 255),
        (a_task("failed", signal=9, reason="signal"), 137),
        (a_task("failed", signal=9, reason="oom"), 137),
        (a_task("failed", signal=15, reason="timeout"), 124),
        (a_task("failed", exit_code=0, reason="timeout"), 124),
        (a_task("failed", reason="queue_timeout"), 124),
        (a_task("failed", reason="spawn_error", detail="command not found: 'x' does not …"), 127),
        (a_task("failed", reason="spawn_error", detail="cannot run 'x': not executable"), 126),
        (a_task("failed", reason="image", detail="no image: nosuch:1: …"), 126),
        (a_task("failed", reason="exit_status_lost"), 1),
        (a_task("failed", reason="poison"), 1),
        (a_task("cancelled", reason="cancelled"), 143),
        (a_task("cancelled", reason="cancelled", signal=15), 143),
        (a_task("cancelled", reason="cancelled", signal=9), 137),
        (a_task("cancelled", reason="cancelled", exit_code=0), 143),
        (a_task("cancelled", reason="cancelled", exit_code=7), 7),
        (a_task("skipped", reason="need_unmet"), 1),
        (a_task("lost", reason="agent_silent"), 1),
    ],
    ids=lambda value: f"{value.status} {value.reason}" if isinstance(value, wire.TaskView) else "",
)
def test_of_a_task(task: wire.TaskDetail, code: int) -> None:
    assert exits.of_task(task) == code


def test_of_several_the_highest() -> None:
    tasks = [a_task("failed", exit_code=code) for code in (1, 9, 4)]
    assert exits.of_tasks(tasks) == 9
    assert exits.of_tasks([]) == 0


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.InvalidSpec("x"), 2),
        (errors.NotFound("x"), 1),
        (errors.Conflict("x"), 1),
        (errors.Unauthenticated("x"), 1),
        (errors.Forbidden("x"), 1),
        (errors.LimitReached("x"), 1),
        (failures.Unreachable("u", "refused"), 125),
        (failures.ServerFailed("x", status=500), 125),
        (errors.SetupError("x"), 125),
        (failures.TaskFailed(a_task("failed", exit_code=3)), 3),
    ],
    ids=lambda value: type(value).__name__,
)
def test_of_an_error(error: errors.StyxError, code: int) -> None:
    assert exits.of_error(error) == code
