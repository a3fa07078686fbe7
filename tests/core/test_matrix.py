"""The re-adoption matrix of the design (4.6): what the server knows × what the agent says it holds.

Every cell is named. `stop` and `forget` are what `sync_ok` tells the agent of that attempt.
"""

import itertools
from typing import NamedTuple

import pytest

from styx.core import event as ev
from styx.core.attempt import AttemptState, Exit
from styx.core.ids import AgentId, AttemptKey, TaskId
from styx.core.spec import Delivery
from styx.core.task import Reason
from tests.support.desk import Desk, a_task

A1 = AgentId("a1")
SERVER = ("unknown", "assigned", "accepted", "running", "stopping", "terminal")
AGENT = ("absent", "accepted", "running", "exited", "void")
HELD = {
    "accepted": (AttemptState.ACCEPTED, None),
    "running": (AttemptState.RUNNING, None),
    "exited": (AttemptState.SUCCEEDED, Exit(code=0)),
    "void": (AttemptState.REJECTED, Exit(reason=Reason.STALE_ASSIGN)),
}


class Cell(NamedTuple):
    attempt: str  # its state afterwards; empty: there is no row
    stop: bool = False
    forget: bool = False
    still_stopping: bool = False


MATRIX = {
    ("unknown", "absent"): Cell(""),
    ("unknown", "accepted"): Cell("", stop=True),
    ("unknown", "running"): Cell("", stop=True),
    ("unknown", "exited"): Cell("", forget=True),
    ("unknown", "void"): Cell("", forget=True),
    ("assigned", "absent"): Cell("assigned"),
    ("assigned", "accepted"): Cell("accepted"),
    ("assigned", "running"): Cell("running"),
    ("assigned", "exited"): Cell("succeeded"),
    ("assigned", "void"): Cell("rejected"),
    ("accepted", "absent"): Cell("lost"),
    ("accepted", "accepted"): Cell("accepted"),
    ("accepted", "running"): Cell("running"),
    ("accepted", "exited"): Cell("succeeded"),
    ("accepted", "void"): Cell("rejected"),
    ("running", "absent"): Cell("lost"),
    ("running", "accepted"): Cell("lost", stop=True),
    ("running", "running"): Cell("running"),
    ("running", "exited"): Cell("succeeded"),
    ("running", "void"): Cell("lost"),
    # Of a row that was running; the task is cancelled where the attempt is lost.
    ("stopping", "absent"): Cell("lost"),
    ("stopping", "accepted"): Cell("lost", stop=True),
    ("stopping", "running"): Cell("running", still_stopping=True),
    ("stopping", "exited"): Cell("succeeded"),
    ("stopping", "void"): Cell("lost"),
    ("terminal", "absent"): Cell("succeeded"),
    ("terminal", "accepted"): Cell("succeeded", stop=True),
    ("terminal", "running"): Cell("succeeded", stop=True),
    ("terminal", "exited"): Cell("succeeded", forget=True),
    ("terminal", "void"): Cell("succeeded", forget=True),
}


def known_as(server: str) -> tuple[Desk, AttemptKey]:
    d = Desk()
    d.join()
    if server == "unknown":
        return d, AttemptKey(TaskId("x"), 1, 0)
    # At most once, so that a lost attempt is not followed by another in the same turn.
    (task,) = d.submit(a_task(delivery=Delivery.AT_MOST_ONCE))
    key = d.live(task).key
    if server in {"accepted", "running", "stopping"}:
        d.turn(ev.AttemptAccepted(key, A1))
    if server in {"running", "stopping"}:
        d.turn(ev.AttemptStarted(key, A1))
    if server == "stopping":
        d.turn(ev.CancelRequested((task,)))
    if server == "terminal":
        d.exit(task, 0)
    return d, key


def test_every_cell_is_named():
    assert set(MATRIX) == set(itertools.product(SERVER, AGENT))


@pytest.mark.parametrize(("cell", "expected"), MATRIX.items(), ids=map("-".join, MATRIX))
def test_a_sync_does_what_its_cell_says(cell, expected):
    server, agent = cell
    d, key = known_as(server)
    held = () if agent == "absent" else (ev.Known(key, *HELD[agent]),)
    answer = d.turn(ev.AgentSynced(A1, d.connect("a1"), held)).answers[0]
    row = d.attempts.get(key)
    assert isinstance(answer, ev.SyncAnswer)
    assert (row.state if row else "") == expected.attempt
    assert answer.stop == ((key,) if expected.stop else ())
    assert answer.forget == ((key,) if expected.forget else ())
    assert (
        bool(key in d.world.attempts and d.world.attempts[key].stop_reason)
        == expected.still_stopping
    )
    if server == "stopping" and expected.attempt == "lost":
        assert (d.status(key.task_id), d.reason(key.task_id)) == ("cancelled", "lost_during_cancel")


@pytest.mark.parametrize("agent", ["exited", "void"])
def test_what_ends_late_after_its_attempt_was_lost_is_let_go_of_and_changes_nothing(agent):
    d, key = known_as("running")
    d.turn(ev.AgentLost(A1))
    assert key not in d.world.attempts
    held = ev.Known(key, *HELD[agent])
    answer = d.turn(ev.AgentSynced(A1, d.connect("a1"), (held,))).answers[0]
    assert answer == ev.SyncAnswer((key,), (), 0)
    assert d.attempts[key].state == "lost"
    assert d.attempts[key].exit is None, "its row has left the world: the late result is not kept"
