"""`styx validate` and `styx schema`: verdicts without a server."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from styx.cli import main

GOOD = "name: good\ntasks: {a: {run: x}, b: {run: y, array: 3}}\n"
BAD = "run: x\nresources: {gpu: 1}\nretries: -1\n"


def styx(*words: str, stdin: str = "") -> Result:
    return CliRunner().invoke(main.styx, list(words), standalone_mode=False, input=stdin)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "files" / "deep").mkdir(parents=True)
    (tmp_path / "files" / "good.yaml").write_text(GOOD)
    (tmp_path / "files" / "deep" / "bad.yml").write_text(BAD)
    (tmp_path / "files" / "zoo.yaml").write_text("apiVersion: v1\nkind: Pod\n")
    (tmp_path / "files" / "notes.txt").write_text("no file of tasks")
    return tmp_path


def test_a_file_without_fault(folder: Path) -> None:
    done = styx("validate", "files/good.yaml")
    assert (done.return_value, done.stdout) == (0, "files/good.yaml: accepted: job good, 4 tasks\n")


def test_every_fault_with_its_place(folder: Path) -> None:
    done = styx("validate", "files/deep/bad.yml")
    assert done.return_value == 2
    assert done.stdout.splitlines() == [
        "files/deep/bad.yml:2:13: resources.gpu: error: no such key; did you mean 'gpus'?",
        "files/deep/bad.yml:3:1: retries: error: expected a whole number from 0 to 1,000, not -1",
    ]


def test_a_directory_as_a_table(folder: Path) -> None:
    done = styx("validate", "--table", "files")
    header, bad, good, other, counts = done.stdout.splitlines()
    assert header.split() == ["FILE", "VERDICT", "TASKS", "REASON"]
    assert bad.split()[:3] == ["files/deep/bad.yml", "refused", "–"]
    assert bad.endswith("2:13: resources.gpu: no such key; did you mean 'gpus'? (and 1 more)")
    assert good.split() == ["files/good.yaml", "accepted", "4"]
    assert other.split() == ["files/zoo.yaml", "other", "–"]
    assert counts == "1 accepted, 0 warned, 1 refused, 1 other"
    assert done.return_value == 2


def test_as_data(folder: Path) -> None:
    done = styx("validate", "-o", "json", "files")
    bad, good, _ = json.loads(done.stdout)
    assert good == {"file": "files/good.yaml", "verdict": "accepted", "job": "good", "tasks": 4}
    assert [error["path"] for error in bad["errors"]] == [
        "files/deep/bad.yml:2:13: resources.gpu",
        "files/deep/bad.yml:3:1: retries",
    ]


def test_a_file_of_skypilot_is_known_or_named_so(folder: Path) -> None:
    (folder / "sky.yaml").write_text("run: x\nenvs: {A: null}\nresources: {use_spot: true}\n")
    needed = styx("validate", "sky.yaml")
    assert needed.return_value == 0
    assert needed.stdout.startswith(
        "sky.yaml:2:8: envs.A: has no value: `--env A=…` gives it one (warning)"
    )
    refused = styx("submit", "sky.yaml")
    assert str(refused.exception) == "sky.yaml:2:8: envs.A: has no value: `--env A=…` gives it one"
    warned = styx("validate", "-e", "A=1", "sky.yaml").stdout.splitlines()
    assert warned[0].startswith("sky.yaml:3:13: resources.use_spot: nothing is rented")
    assert warned[1] == "sky.yaml (SkyPilot's): warned: job task, 1 task"
    assert styx("validate", "--sky", "files/zoo.yaml").return_value == 2


def test_a_relative_workdir_is_one_of_this_machine(folder: Path) -> None:
    assert styx("validate", "-", stdin="run: x\nworkdir: .\n").return_value == 0


def test_standard_input_and_variables() -> None:
    assert styx("validate", "-", stdin="run: x\n").stdout == "stdin: accepted: job x, 1 task\n"
    done = styx("validate", "-e", "A-B=1", "-", stdin="run: x\n")
    assert done.stdout.startswith("stdin:1:1: env.A-B: error: expected a variable's name")


def test_what_is_no_file_of_tasks(folder: Path) -> None:
    done = styx("validate", "nowhere.yaml")
    assert (done.return_value, done.stdout) == (
        2,
        "nowhere.yaml: error: No such file or directory\n",
    )


def test_what_is_no_yaml_at_all(folder: Path) -> None:
    (folder / "x.yaml").write_text("run: [\n")
    done = styx("validate", "x.yaml")
    assert done.stdout.startswith("x.yaml:2:1: error: not YAML: ")
    [verdict] = json.loads(styx("validate", "-o", "json", "x.yaml").stdout)
    assert (verdict["verdict"], verdict["errors"][0]["path"]) == ("refused", "x.yaml:2:1")


def test_the_schema_is_the_one_of_the_docs() -> None:
    shipped = Path(__file__).parents[2] / "docs" / "schema" / "task-file.json"
    assert json.loads(styx("schema").stdout) == json.loads(shipped.read_text())
