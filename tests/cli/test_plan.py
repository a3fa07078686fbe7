"""`--plan`: prices and places before anything runs."""

import json
from pathlib import Path

from tests.support.site import Site

SWEEP = """\
name: sweep
tasks:
  train: {run: "true", array: 4, resources: {cpus: 1}}
  huge: {run: "true", resources: {cpus: 1000}}
  report: {run: "true", needs: [train, {task: huge, on: done}]}
"""


def test_a_file_of_tasks(site: Site, tmp_path: Path) -> None:
    (tmp_path / "sweep.yaml").write_text(SWEEP)
    before = site.cli("jobs", "-o", "name").stdout
    done = site.cli("submit", str(tmp_path / "sweep.yaml"), "--plan")
    assert (done.returncode, site.cli("jobs", "-o", "name").stdout) == (0, before)
    head, train, huge, report = done.stdout.decode().splitlines()
    assert head.split() == ["TASK", "NOW", "RESOURCES", "WHERE", "PRICE", "NOTE"]
    assert train.split()[:7] == ["train", "2/4", "1", "cpu", "solo", "×2", "–"]
    assert train.endswith("solo is busy: 0 of 2 cpus free")
    assert huge.endswith("solo has 2 cpus, the task wants 1000")
    assert report.endswith("after train, huge (done)")
    said = "6 tasks: 2 start now, 3 wait for room, 1 waits for others · $0.00/h\n"
    assert done.stderr.decode() == said


def test_as_data(site: Site, tmp_path: Path) -> None:
    (tmp_path / "sweep.yaml").write_text(SWEEP)
    done = site.cli("submit", str(tmp_path / "sweep.yaml"), "--plan", "-o", "json")
    plan = json.loads(done.stdout)
    assert [task["starting"] for task in plan["tasks"]] == [2, 0, 0]
    assert plan["tasks"][0]["agents"][0]["name"] == "solo"


def test_one_command(site: Site, tmp_path: Path) -> None:
    path = tmp_path / "ran"
    done = site.cli("run", "--plan", "--cpus", "2", "touch", str(path))
    assert done.stdout.decode().splitlines()[1].split() == [
        *("touch", "1/1", "2", "cpu", "solo", "–")
    ]
    assert done.stderr == b"1 task: 1 starts now \xc2\xb7 $0.00/h\n"
    assert not path.exists()


def test_a_file_given_to_run(site: Site, tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text(f"name: one\nrun: touch {tmp_path}/ran\n")
    done = site.cli("run", "--plan", str(tmp_path / "one.yaml"))
    assert done.stdout.decode().splitlines()[1].split()[:2] == ["one", "1/1"]
    assert not (tmp_path / "ran").exists()


def test_a_mistake_is_told_with_its_place(site: Site, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("tasks:\n  a: {run: x, needs: [b]}\n")
    done = site.cli("submit", "--plan", str(tmp_path / "bad.yaml"))
    assert done.returncode == 2
    assert f"error: {tmp_path}/bad.yaml:2:23: tasks.a.needs[0]" in done.stderr.decode()
