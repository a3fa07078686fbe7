"""One slot, many who want it: the order, and the true reason of every wait."""

import random
from pathlib import Path

import pytest

from tests.support.site import Site, until

PRIORITIES = ("critical", "high", "normal", "low")


@pytest.fixture
def busy(with_solo: Site, tmp_path: Path):
    """The one slot is taken until the test lets go of it by calling what it is given."""
    gate = tmp_path / "gate"
    holder = with_solo.submit(name="holder", run=f"until [ -e {gate} ]; do sleep 0.02; done")
    until(lambda: with_solo.status(holder) == "running", "the slot is taken")
    yield gate.touch
    gate.touch()
    with_solo.finished(holder)


def test_no_agent(lone: Site) -> None:
    """Stands first: nobody has asked for an agent yet."""
    assert lone.agents == {}
    task_id = lone.submit(command="true")
    assert codes(lone, task_id) == {"no_agent"}
    assert lone.status(task_id) == "queued"
    lone.agent("solo", cpus=1)
    assert lone.finished(task_id)["status"] == "succeeded"


def test_priority_then_age(with_solo: Site, busy, tmp_path: Path) -> None:
    wanted = [priority for priority in PRIORITIES for _ in range(25)]
    random.Random(11).shuffle(wanted)
    tasks = [
        {
            "name": f"n{number}",
            "run": f"echo {PRIORITIES.index(priority)} {number} >> {tmp_path}/order",
            "priority": priority,
        }
        for number, priority in enumerate(wanted)
    ]
    ids = [answer["task_id"] for answer in with_solo.post("/api/v1/tasks", tasks)]
    busy()
    for task_id in ids:
        assert with_solo.finished(task_id)["status"] == "succeeded"
    order = [
        tuple(map(int, line.split())) for line in (tmp_path / "order").read_text().splitlines()
    ]
    assert len(order) == 100
    assert order == sorted(order)


def test_too_few_cpus(with_solo: Site) -> None:
    check(with_solo, "too_few_cpus", "solo has 1 cpus, the task wants 8", resources={"cpus": 8})


def test_no_such_gpu(with_solo: Site) -> None:
    check(with_solo, "no_such_gpu", "H100", resources={"gpus": "H100:8"})


def test_gang_incomplete(with_solo: Site) -> None:
    check(with_solo, "gang_incomplete", "needs 3 agents at once", num_nodes=3)


def test_needs_unmet(with_solo: Site, busy) -> None:
    _, ids = with_solo.job({"a": {"command": "true"}, "b": {"command": "true", "needs": ["a"]}})
    assert codes(with_solo, ids["b"]) == {"needs_unmet"}
    assert with_solo.status(ids["b"]) == "blocked"
    busy()
    assert with_solo.finished(ids["b"])["status"] == "succeeded"


def test_busy_and_behind_a_higher_priority(with_solo: Site, busy) -> None:
    first = with_solo.submit(name="first", command="true", priority="high")
    second = with_solo.submit(name="second", command="true")
    third = with_solo.submit(name="third", command="true")
    assert codes(with_solo, first) == {"busy"}
    assert codes(with_solo, second) == {"busy", "behind_higher_priority"}
    reasons = with_solo.get(f"/api/v1/tasks/{third}/explain")["hindrances"]
    (behind,) = [reason for reason in reasons if reason["code"].startswith("behind")]
    assert (behind["subject"], behind["id"]) == ("first", first)
    busy()
    for task_id in (first, second, third):
        assert with_solo.finished(task_id)["status"] == "succeeded"


def test_draining(with_solo: Site) -> None:
    agent_id = with_solo.get("/api/v1/agents")[0]["id"]
    with_solo.post(f"/api/v1/agents/{agent_id}/drain")
    task_id = with_solo.submit(command="true")
    assert "agent_draining" in codes(with_solo, task_id)
    with_solo.post(f"/api/v1/agents/{agent_id}/resume")
    assert with_solo.finished(task_id)["status"] == "succeeded"


def test_explain_on_the_command_line(with_solo: Site) -> None:
    task_id = with_solo.submit(name="huge", command="true", resources={"cpus": 99})
    said = with_solo.cli("explain", "huge")
    assert said.returncode == 0, said.stderr
    assert b"99" in said.stdout
    with_solo.post(f"/api/v1/tasks/{task_id}/cancel")


def codes(site: Site, task_id: str) -> set[str]:
    return {reason["code"] for reason in site.get(f"/api/v1/tasks/{task_id}/explain")["hindrances"]}


def check(site: Site, code: str, words: str, **spec) -> None:
    """The reason is given in words too, and the task can be cancelled."""
    task_id = site.submit(command="true", **spec)
    reasons = site.get(f"/api/v1/tasks/{task_id}/explain")["hindrances"]
    assert code in [reason["code"] for reason in reasons]
    assert any(words in reason["message"] for reason in reasons), reasons
    site.post(f"/api/v1/tasks/{task_id}/cancel")
    assert site.status(task_id) == "cancelled"
