"""`styx simulate`: fleets and workloads small enough to be worked out by hand."""

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from styx.cli import main
from styx.errors import InvalidSpec
from styx.file import read as files
from styx.simulate import form, report, run
from styx.simulate.run import Simulation
from tests.support.site import ROOT

ONE = {"name": "m", "count": 1, "cpus": 2, "memory": 4, "price_usd_per_hour": 3.6}


def simulated(*, agents: Any = (ONE,), seed: int = 0, **fields: Any) -> report.Report:
    """Run with a clock that counts its own readings: a report is the same on every machine."""
    plan = form.check({"agents": list(agents), **fields})
    simulation = Simulation(plan, seed=seed, clock=itertools.count().__next__)
    simulation.run()
    simulation.world.check()
    return report.of(simulation, seed)


def work(name: str = "w", **fields: Any) -> dict[str, Any]:
    return {"name": name, "duration": 10, **fields}


# --- worked out by hand ---------------------------------------------------------------------------


def test_four_tasks_on_two_cores() -> None:
    found = simulated(workloads=[work(jobs=4, resources={"cpus": 1, "memory": 1})])
    assert (found.tasks, found.ends, found.unfinished) == (4, {"succeeded": 4}, 0)
    assert found.makespan_s == 20
    assert found.workloads[0].waits == report.Waits(4, 0, 10, 10, 10)
    assert (found.cpus, found.memory, found.gpus) == (1.0, 0.5, None)
    assert found.cost_usd == pytest.approx(20 * 0.001)
    assert found.agents[0].agent_hours == pytest.approx(20 / 3_600)


def test_the_higher_priority_waits_less() -> None:
    slow, fast = work("slow", jobs=4), work("fast", jobs=2, priority="high")
    found = simulated(workloads=[slow, fast])
    waits = {one.priority: one.waits for one in found.priorities}
    assert list(waits) == ["high", "normal"], "highest first"
    assert waits["high"].max_s == 0
    assert (waits["normal"].p50_s, waits["normal"].max_s) == (10, 20)


def test_a_chain_and_a_fan_out_take_turns() -> None:
    chain = simulated(workloads=[work(shape="chain", width=3)])
    assert (chain.tasks, chain.makespan_s) == (3, 30)
    fan = simulated(workloads=[work(shape="fan_out", width=4)])
    assert (fan.tasks, fan.makespan_s) == (6, 40), "one, two and two, one"


def test_arrivals_in_bursts() -> None:
    arrival = {"start": 5, "burst": 2, "every": 100}
    found = simulated(workloads=[work(jobs=4, arrival=arrival)])
    assert found.makespan_s == 115
    assert found.cpus == pytest.approx(40 / 230)
    assert {one.queued for one in found.over_time} == {0}


def test_arrivals_at_random_come_at_their_rate() -> None:
    many = {**ONE, "count": 20, "cpus": 8}
    found = simulated(agents=[many], workloads=[work(jobs=300, arrival={"per_hour": 3600})])
    assert 230 < found.makespan_s < 380


def test_gpus_are_counted_and_taken() -> None:
    gpu = {**ONE, "name": "g", "gpus": "A100:4", "cpus": 8}
    wanted = {"cpus": 1, "gpus": "A100:2"}
    found = simulated(agents=[ONE, gpu], workloads=[work(jobs=3, resources=wanted)])
    assert found.makespan_s == 20
    assert [one.gpus for one in found.agents] == [None, 0.75]


def test_who_leaves_ends_what_it_runs_and_costs_no_longer() -> None:
    leaver = {**ONE, "name": "leaver", "leave": 15}
    found = simulated(agents=[leaver, {**ONE, "arrive": 30}], workloads=[work(jobs=6)])
    assert found.makespan_s == 40
    assert [one.agent_hours for one in found.agents] == pytest.approx([20 / 3_600, 10 / 3_600])


def test_rented_agents_come_for_the_queue_and_go_when_idle() -> None:
    rented = {**ONE, "count": 3, "rent": {"provision": 60, "idle": 30}}
    late = work("late", arrival={"start": 1000})
    found = simulated(agents=[rented], workloads=[work(jobs=4), late])
    assert found.agents[0].agents_most == 2, "four tasks fit two agents"
    assert found.workloads[0].waits.max_s == 60
    assert found.workloads[1].waits.max_s == 60, "all had gone meanwhile"
    assert found.agents[0].agent_hours == pytest.approx((2 * 40 + 10) / 3_600)


def test_a_dead_machine_is_noticed_late_and_its_tasks_run_elsewhere() -> None:
    doomed = {**ONE, "failing_every": 20, "repair": 50}
    found = simulated(agents=[doomed], workloads=[work(jobs=20, infra_retries=50)])
    assert found.agents[0].failures > 0
    assert found.tries.ends["lost"] > 0
    assert sum(found.ends.values()) == found.tasks == 20


def test_failures_are_tried_again_as_often_as_allowed() -> None:
    found = simulated(workloads=[work(jobs=2, failure_share=1, retries=2)])
    assert found.ends == {"failed": 2}
    assert (found.tries.placed, found.tries.retries) == (6, 4)
    assert found.tries.ends == {"failed": 6}
    assert found.workloads[0].waits.tasks == 2, "only first tries are counted"


def test_totals_add_up() -> None:
    found = simulated(
        agents=[{**ONE, "count": 5, "failing_every": "20m"}],
        workloads=[
            work("a", jobs=3, shape="array", width=20, failure_share=0.2, retries=1),
            work("c", jobs=5, shape="chain", width=4, failure_share=0.3),
        ],
        window=1,
    )
    assert found.tasks == 80 == sum(found.ends.values())
    assert found.ends["skipped"] > 0
    assert found.tries.placed == sum(found.tries.ends.values())
    assert [sum(one.ends.values()) + one.unfinished for one in found.workloads] == [60, 20]


def test_what_no_agent_is_left_for_ends_unfinished() -> None:
    found = simulated(agents=[{**ONE, "leave": 5}], workloads=[work(jobs=3)])
    assert (found.ends, found.unfinished) == ({"succeeded": 2}, 1)


def test_a_job_too_big_for_a_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "BULK_TASKS", 100)
    found = simulated(workloads=[work(shape="array", width=100)], agents=[{**ONE, "cpus": 50}])
    assert (found.ends, found.makespan_s) == ({"succeeded": 100}, 20)
    assert found.core.preparing_s > 0, "it was made beside the turns"


# --- repeatable -----------------------------------------------------------------------------------

MIXED = """\
window = 1
[[agents]]
name = "m"
count = 4
cpus = 4
memory = "8GB"
price_usd_per_hour = 1
failing_every = "1h"
[[workloads]]
name = "a"
jobs = 40
duration = {kind = "lognormal", median = "1m"}
arrival = {per_hour = 600}
failure_share = 0.1
retries = 1
[[workloads]]
name = "b"
jobs = 3
shape = "fan_out"
width = 9
project = "p"
duration = {kind = "uniform", min = 5, max = 50}
resources = {cpus = 2, memory = 2}
"""


def from_the_shell(path: Path, *words: str, hashes: str = "1") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "styx", "simulate", str(path), *words],
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": hashes},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_one_seed_is_one_result_whatever_the_order_of_hashes(tmp_path: Path) -> None:
    path = tmp_path / "plan.toml"
    path.write_text(MIXED)
    found: list[dict[str, Any]] = []
    for hashes in ("1", "2"):
        done = from_the_shell(path, "-o", "json", "--seed", "7", hashes=hashes)
        assert (done.returncode, done.stderr) == (0, "")
        found.append({k: v for k, v in json.loads(done.stdout).items() if k != "core"})
    assert found[0] == found[1]
    other = simulated(seed=8, **files.read(str(path)).content)
    assert other.makespan_s != found[0]["makespan_s"], "the seed counts"


# --- what is wrong with a file --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"agents": []}, "agents: missing: at least one group of agents"),
        ({"workloads": None}, "workloads: missing: at least one workload"),
        ({"agent": []}, "agent: no such key; did you mean 'agents'?"),
        ({"agents": [{**ONE, "cpu": 1}]}, "agents[0].cpu: no such key; did you mean 'cpus'?"),
        ({"agents": [{"name": "m", "count": 1}]}, "agents[0].cpus: missing: their cores"),
        ({"agents": [{**ONE, "memory": "lots"}]}, 'agents[0].memory: expected GiB as a number, or a size such as "16GB"'),
        ({"agents": [{**ONE, "count": 0}]}, "agents[0].count: expected a whole number from 1 to"),
        ({"agents": [ONE, ONE]}, "agents[1].name: the name 'm' is taken; names are unique"),
        ({"agents": [{**ONE, "arrive": 9, "leave": 9}]}, "agents[0].leave: expected a later time than `arrive`"),
        ({"agents": [{**ONE, "rent": {"min": 2}}]}, "agents[0].rent.min: expected at most `count`"),
        ({"workloads": [{"name": "w"}]}, "workloads[0].duration: missing: how long its tasks run"),
        ({"workloads": [work(width=2)]}, "workloads[0].shape: missing: with `width`, one of array, chain, fan_out"),
        ({"workloads": [work(shape="array")]}, "workloads[0].width: missing: how many tasks the array has"),
        ({"workloads": [work(shape="ring")]}, "workloads[0].shape: expected one of single, array, chain, fan_out, not 'ring'"),
        ({"workloads": [work(arrival={"burst": 2})]}, "workloads[0].arrival.every: missing: `burst` and `every` belong together"),
        ({"workloads": [work(arrival={"per_hour": 1, "burst": 2})]}, "workloads[0].arrival.per_hour: give either `per_hour`, or `burst` and `every`"),
        ({"workloads": [work(duration={"kind": "uniform", "min": 1})]}, "workloads[0].duration.max: missing: a uniform duration has min and max"),
        ({"workloads": [work(duration={"mean": 1})]}, "workloads[0].duration.kind: missing: one of constant,"),
        ({"workloads": [work(duration={"kind": "constant", "value": 1, "sigma": 1})]}, "workloads[0].duration.sigma: does not belong to a constant duration, which has value"),
        ({"workloads": [work(failure_share=2)]}, "workloads[0].failure_share: expected a number from 0 to 1, not 2"),
        ({"workloads": [work(resources={"cpus": 3})]}, "workloads[0].resources: no group of agents could run it: give one as much"),
    ],
)  # fmt: skip
def test_a_refusal_names_the_field_and_the_cure(change: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        form.check({"agents": [ONE], "workloads": [work()]} | change)
    assert caught.value.message.startswith(told)


def test_the_place_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(
        "agents:\n- {name: m, count: 1, cpus: 1}\nworkloads:\n- name: w\n  duration: soon\n"
    )
    done = CliRunner().invoke(main.styx, ["simulate", str(path)])
    assert isinstance(done.exception, InvalidSpec)
    assert done.exception.message.startswith(
        f"{path}:5:3: workloads[0].duration: expected seconds as a number, or a duration"
    )


def test_a_file_that_is_none_of_these(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text("- agents\n")
    done = CliRunner().invoke(main.styx, ["simulate", str(path)])
    assert isinstance(done.exception, InvalidSpec)
    assert done.exception.message == (
        f"{path}: expected a fleet and a workload: `agents` and `workloads`"
    )


# --- the command ----------------------------------------------------------------------------------


def test_the_page(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    plan = {"agents": [ONE], "workloads": [work(jobs=4, resources={"cpus": 1, "memory": 1})]}
    path.write_bytes(msgspec.json.encode(plan))
    done = CliRunner().invoke(main.styx, ["simulate", str(path)], standalone_mode=False)
    assert done.return_value == 0
    lines = done.stdout.splitlines()
    assert lines[0] == "4 tasks (4 succeeded) in 20s, $0.02"
    assert lines[1] == "4 tries, 0 retries; in use: cpus 100.0%, memory 50.0%, gpus –"
    assert lines[4].split() == ["normal", "4", "0ms", "10s", "10s", "10s"]
    assert lines[-1].endswith("µs for each placed task")


def test_tasks_that_never_end_are_told_and_are_a_no(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    plan = {"agents": [{**ONE, "leave": 5}], "workloads": [work(jobs=3)]}
    path.write_bytes(msgspec.json.encode(plan))
    done = CliRunner().invoke(main.styx, ["simulate", str(path)], standalone_mode=False)
    assert done.return_value == 1
    assert done.stderr == ("warning: 1 tasks never ended: no agent that could run them was left\n")


def test_the_shipped_example_is_sound_and_as_large_as_it_says() -> None:
    document = files.read(str(ROOT / "docs" / "examples" / "simulate.toml"))
    plan = form.check(document.content)
    assert sum(group.count for group in plan.agents) == 10_000
    assert sum(workload.tasks for workload in plan.workloads) == 1_000_000
