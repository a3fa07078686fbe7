"""The audit trail: what is told of which event, and a chain that shows what was done to it."""

import hashlib

from msgspec.structs import replace

from styx.core import event as ev
from styx.core.audit import BEGINNING, Link
from styx.core.ids import AgentId, JobId, TaskId
from styx.core.task import Reason
from tests.support.desk import Desk, a_capacity, a_job, a_task

A1 = AgentId("a1")


def told(*events: ev.Event, desk: Desk | None = None) -> list[tuple[str, str, str, str]]:
    entries = (desk or Desk()).turn(*events).audit
    return [(entry.actor, entry.action, entry.object, entry.detail) for entry in entries]


def test_a_submit_is_told_once_however_many_tasks_it_has_and_a_repeated_one_not_again():
    desk = Desk()
    ids = tuple(TaskId(f"t{number}") for number in range(3))
    spec = a_job(a_task("x"), a_task("y"), a_task("z"))
    asked = ev.JobSubmitted(JobId("j"), ids, spec, idem_key="k", actor="token:abc")
    again = replace(asked, job_id=JobId("j2"))
    assert told(asked, again, desk=desk) == [
        ("token:abc", "job.submit", "j", f"{spec.name}: 3 tasks")
    ]
    others = tuple(TaskId(f"u{number}") for number in range(3))
    once_more = replace(asked, job_id=JobId("j3"), task_ids=others, idem_key="", retry_of="j")
    assert told(once_more, desk=desk) == [
        ("token:abc", "job.retry", "j3", f"{spec.name}: 3 tasks, j again")
    ]


def test_wishes_are_told_with_who_had_them():
    desk = Desk()
    desk.join("a1")
    assert told(
        ev.CancelRequested((TaskId("t"),), actor="peer:root"),
        ev.CancelRequested((), JobId("j"), force=True, actor="peer:root"),
        ev.DrainRequested(A1, drain=True, actor="token:abc"),
        ev.DrainRequested(A1, drain=False, actor="token:abc"),
        ev.DrainRequested(AgentId("unknown"), drain=True),
        desk=desk,
    ) == [
        ("peer:root", "task.cancel", "t", ""),
        ("peer:root", "job.cancel", "j", "with force"),
        ("token:abc", "agent.drain", "a1", ""),
        ("token:abc", "agent.resume", "a1", ""),
    ]


def test_an_agent_is_told_when_it_joins_and_when_it_is_lost_and_not_when_it_comes_back():
    hello = ev.AgentConnected(A1, "one", "s1", "boot", "0", "10.0.0.1", a_capacity(), {})
    lost = ev.AgentLost(A1, Reason.AGENT_SILENT)
    joined = ("agent:a1", "agent.join", "a1", "one at 10.0.0.1")
    desk = Desk()
    assert told(hello, desk=desk) == [joined]
    assert told(hello, desk=desk) == []
    assert told(replace(hello, store_id="another disk"), desk=desk) == [joined]
    assert told(lost, desk=desk) == [("styx", "agent.lost", "a1", "agent_silent")]
    assert told(lost, desk=desk) == []
    assert told(hello, desk=desk) == [joined]


def test_a_link_shows_what_was_done_to_it():
    said = f"{BEGINNING} 1 {{}}"
    first = Link(1, BEGINNING, "{}", hashlib.sha256(said.encode()).hexdigest())
    assert first.holds
    assert not replace(first, text="[]").holds
    assert not replace(first, seq=2).holds
    assert not replace(first, prev=first.hash).holds
    second = Link(2, first.hash, "{}", "")
    assert second.follows(first)
    assert not replace(second, seq=3).follows(first)
    assert not replace(second, prev=BEGINNING).follows(first)
