"""Explain names the true reason."""

import pytest

from styx.core import event as ev
from styx.core.explain import hindrances
from styx.core.ids import AgentId
from styx.core.policy import Policy
from styx.core.spec import Need, Priority, Requirements
from tests.support.desk import GIB, Desk, a_capacity, a_task


def codes(d: Desk, task) -> list[str]:
    return [h.code for h in hindrances(d.world, task, d.now, d.policy)]


def said(d: Desk, task) -> str:
    return " / ".join(h.message for h in hindrances(d.world, task, d.now, d.policy))


def test_no_agent():
    d = Desk()
    (task,) = d.submit(a_task())
    assert codes(d, task) == ["no_agent"]


@pytest.mark.parametrize(
    ("wanted", "code", "words"),
    [
        (Requirements(cpus_milli=8_000), "too_few_cpus", "a1 has 2 cpus, the task wants 8"),
        (Requirements(gpus=1, gpu_model="h100"), "no_such_gpu", "a1 has no H100 (GPUs: nvidia t4)"),
        (Requirements(gpus=2), "too_few_gpus", "a1 has 1 × GPU, the task wants 2"),
        (
            Requirements(memory_bytes=9 * GIB),
            "too_little_memory",
            "a1 has 8 GiB, the task wants 9 GiB",
        ),
        (Requirements(disk_bytes=200 * GIB), "too_little_disk", "a1 has 100 GiB of disk"),
        (Requirements(arch="arm64"), "arch", "a1 is x86_64, the task wants arm64"),
        (Requirements(labels=(("a", "b"),)), "labels", "a1 does not carry the label a=b"),
        (
            Requirements(features=("files",)),
            "no_feature",
            "a1 is of a version that brings no files",
        ),
        (Requirements(features=("wings",)), "no_feature", "a1 does not know wings: upgrade it"),
    ],
)
def test_an_agent_that_could_never(wanted, code, words):
    d = Desk()
    d.join(capacity=a_capacity(2, gpus=["nvidia t4"]))
    (task,) = d.submit(a_task(requirements=wanted))
    assert codes(d, task) == [code]
    assert words in said(d, task)


def test_needs_unmet_names_them():
    d = Desk()
    d.join()
    first, second = d.submit(a_task("first"), a_task("second", needs=(Need("first"),)))
    assert codes(d, second) == ["needs_unmet"]
    assert said(d, second) == "waits for first, which is running"
    assert codes(d, first) == []


def test_draining_and_silent_agents():
    d = Desk()
    d.join()
    d.turn(ev.DrainRequested(AgentId("a1"), drain=True))
    (task,) = d.submit(a_task())
    assert codes(d, task) == ["agent_draining"]
    d.turn(ev.AgentSilent(AgentId("a1"), 1))
    assert codes(d, task) == ["agent_not_ready"]


def test_waiting_behind_higher_priority_names_the_first_of_them():
    d = Desk()
    d.join(capacity=a_capacity(1))
    d.submit(a_task("busy"))
    d.submit(a_task("vip", priority=Priority.HIGH, array_count=3))
    (low,) = d.submit(a_task("low"))
    assert codes(d, low) == ["behind_higher_priority", "busy"]
    assert "behind 3 of higher priority, first vip/0 (high)" in said(d, low)


def test_waiting_behind_older_tasks():
    d = Desk()
    d.join(capacity=a_capacity(1))
    d.submit(a_task("busy"))
    d.submit(a_task("older"))
    (task,) = d.submit(a_task("younger"))
    assert codes(d, task) == ["behind_older", "busy"]


def test_gang_incomplete_says_how_many_have_room():
    d = Desk()
    d.join("a1")
    (gang,) = d.submit(a_task("gang", num_nodes=3))
    assert codes(d, gang)[0] == "gang_incomplete"
    assert "needs 3 agents at once, 1 have room" in said(d, gang)


def test_backoff_says_how_long():
    d = Desk()
    d.join()
    (task,) = d.submit(a_task(retries=1))
    d.exit(task, 1)
    assert codes(d, task)[0] == "backoff"
    assert "after attempt 1" in said(d, task)


def test_reserved_for_one_that_waited_longer():
    d = Desk(Policy(reserve_after_s=10))
    d.join(capacity=a_capacity(4))
    d.submit(a_task("long", cpus=2))
    d.submit(a_task("big", cpus=3))
    d.wait(11)
    (small,) = d.submit(a_task("small", cpus=2))
    assert "reserved" in codes(d, small)


def test_a_submission_that_nothing_here_fits_is_accepted_with_a_warning():
    from styx.core.ids import JobId, TaskId
    from tests.support.desk import a_job

    d = Desk()
    d.join()
    event = ev.JobSubmitted(JobId("j"), (TaskId("t"),), a_job(a_task("huge", cpus=99)))
    (answer,) = d.turn(event).answers
    assert isinstance(answer, ev.Accepted)
    assert "huge" in answer.warnings[0]
