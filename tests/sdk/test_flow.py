"""`@task` and `@job`: what they draw, and that it runs in a process as it would on machines."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from styx import job, task
from styx.core import form
from styx.file import job as file_job
from styx.file import yaml_text
from styx.sdk import values
from tests.sdk import pipeline as example
from tests.support.site import ROOT

FILE = """\
name: pipeline
labels: {team: x}
tasks:
  prepare:
    command: [python3, -m, styx.sdk.call, "tests.sdk.pipeline:prepare", '{"args":[3]}']
    resources: {cpus: 0.5}
  train:
    command: [python3, -m, styx.sdk.call, "tests.sdk.pipeline:train",
      '{"args":[null],"kwargs":{"seed":1},"results":[{"at":["args",0],"task":"prepare"}],"each":true}']
    array: {over: [1e-4, 3e-4]}
    needs: [prepare]
    resources: {cpus: 0.5}
    retries: 1
  train-2:
    command: [python3, -m, styx.sdk.call, "tests.sdk.pipeline:train",
      '{"args":[0.5,null],"results":[{"at":["args",1],"task":"prepare"}]}']
    needs: [prepare]
    resources: {cpus: 1}
    retries: 1
  best:
    command: [python3, -m, styx.sdk.call, "tests.sdk.pipeline:best",
      '{"args":[null],"kwargs":{"more":null},"results":[{"at":["args",0],"task":"train","width":2},{"at":["kwargs","more"],"task":"train-2"}]}']
    needs: [train, train-2]
  summary:
    command: [python3, -m, styx.sdk.call, "tests.sdk.pipeline:tell",
      '{"args":[null,null,null],"results":[{"at":["args",0],"task":"best","part":["loss"]},{"at":["args",1],"task":"train","width":2,"part":[1,"lr"]},{"at":["args",2],"task":"best","part":["where"]}]}']
    needs: [best, train, {task: prepare, on: done}]
"""  # fmt: skip


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def test_a_job_is_the_same_as_its_file() -> None:
    written = file_job.of(yaml_text.parse("job.yaml", FILE)[0])
    drawn = example.pipeline.document()
    assert form.check_job(drawn) == written.check()
    assert json.loads(json.dumps(drawn)) == drawn


class Machines:
    """Runs the tasks of a document as agents would: a process each, results from directory to directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def run(self, document: dict[str, Any]) -> None:
        for spec in form.check_job(document).tasks:
            if spec.array_count is None:
                self._process(spec, self.directory / spec.name, {})
            for index, value in enumerate(spec.array_values):
                self._process(
                    spec, self.directory / spec.name / str(index), {"STYX_ARRAY_VALUE": value}
                )

    def result(self, name: str) -> Any:
        return json.loads((self.directory / name / "result.json").read_text())

    def _process(self, spec: Any, output: Path, env: dict[str, str]) -> None:
        output.mkdir(parents=True)
        ours = {"STYX_INPUT_DIR": str(self.directory), "STYX_OUTPUT_DIR": str(output)}
        subprocess.run(
            [sys.executable, *spec.argv[1:]],
            env=os.environ | {"PYTHONPATH": str(ROOT)} | ours | env,
            cwd=ROOT,
            check=True,
        )


def test_it_runs_here_as_it_does_on_machines(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    summary, chosen = example.pipeline.local(5)
    assert chosen == example.Run(0.0001, 1.0005, Path("/models/1"))
    assert capfd.readouterr().out == "preparing 5\n"

    machines = Machines(tmp_path)
    machines.run(example.pipeline.document(rows=5))
    assert machines.result("best") == {"lr": 0.0001, "loss": 1.0005, "where": "/models/1"}
    told = machines.result("summary")
    assert repr(told) == repr(summary)
    assert told["worst"] == 3e-4
    assert math.isnan(told["none"])
    assert told["limit"] == math.inf
    assert capfd.readouterr().out == "preparing 5\n", "a task's output is its own"


def test_a_task_is_a_function_outside_of_a_job() -> None:
    assert example.prepare(2) == example.prepare.local(2) == [0, 1]
    assert [run.lr for run in example.train.map([1, 2], [3])] == [1, 2]
    assert example.tell.after(object()).function is example.tell.function
    assert example.prepare.__name__ == "prepare"
    assert example.pipeline(1)[1].loss == 0.5


@task
def number(value: int = 1) -> int:
    return value


@task
def add(left: int, right: int = 0) -> int:
    return left + right


@job
def inner(value: int) -> int:
    return add(number(value), 1)


def test_a_job_in_a_job_adds_its_tasks() -> None:
    @job(on_failure="continue")
    def outer() -> dict[str, list[int]]:
        return {"both": [inner(1), inner(2)]}

    assert outer.local() == {"both": [2, 3]}
    drawn = outer.document()
    assert [*drawn["tasks"]] == ["number", "add", "number-2", "add-2"]
    assert (drawn["name"], drawn["on_failure"]) == ("outer", "continue")


def test_what_is_called_locally_is_not_drawn() -> None:
    @task
    def twice(value: int) -> int:
        return add(value, value)

    @job
    def drawn() -> int:
        return number(twice.local(2) + inner.local(1))

    assert drawn.local() == 6


def test_results_go_anywhere_in_an_argument() -> None:
    @task
    def total(parts: dict[str, list[int]]) -> int:
        return sum(parts["all"])

    @job
    def drawn() -> int:
        return total({"all": (number(1), 5, number(2))})

    assert drawn.local() == 8


def test_a_list_that_a_task_changes_is_its_own() -> None:
    @task
    def grow(_: int, items: list[int]) -> int:
        items.append(0)
        return len(items)

    @job
    def drawn() -> list[int]:
        return grow.map([1, 2], [1])

    assert drawn.local() == [2, 2]


@pytest.mark.parametrize(("policy", "ran"), [("skip_descendants", "d"), ("continue", "abd")])
def test_what_waits_for_a_failure_is_skipped(policy: Any, ran: str) -> None:
    seen: list[str] = []

    @task
    def note(word: str) -> None:
        seen.append(word)

    @job(on_failure=policy)
    def drawn() -> None:
        good = number()
        cure = note.after(good, on="failure")("cure")
        also = note.after(cure)("a")
        note.after(also)("b")
        note.after(cure, on="done")("d")

    drawn.local()
    assert "".join(seen) == ran


def test_the_result_of_what_was_skipped() -> None:
    @job(on_failure="continue")
    def drawn() -> int:
        return add(number.after(number(), on="failure")())

    with pytest.raises(LookupError, match="no result of 'number-2': it was skipped"):
        drawn.local()


# --- what is wrong ------------------------------------------------------------------------------------


def test_a_result_has_no_value_yet() -> None:
    messages: list[str] = []

    def trying(what: Any) -> None:
        with pytest.raises(
            TypeError, match="has no value before the job runs: pass it on"
        ) as caught:
            what()
        messages.append(str(caught.value))

    @job
    def drawn() -> None:
        result: Any = number(1)
        trying(lambda: bool(result))
        trying(lambda: result == 1)
        trying(lambda: result != 1)
        trying(lambda: list(result.rows))
        trying(lambda: f"{result['a']}")
        trying(lambda: result.split(","))
        trying(lambda: number.map(result))
        with pytest.raises(
            TypeError, match="what number maps over is no JSON: a value of type Result"
        ):
            number.map([result])
        assert not hasattr(result, "_private")

    drawn.document()
    assert messages[3].startswith("<result of number>['rows'] ")


def test_a_wrong_call_is_told_where_it_is_written() -> None:
    @job
    def drawn() -> None:
        with pytest.raises(TypeError, match="missing a required argument: 'left'"):
            add()  # pyright: ignore[reportCallIssue]: the point of the test
        with pytest.raises(TypeError, match="unexpected keyword argument 'middle'"):
            add.map([1], middle=2)  # pyright: ignore[reportCallIssue]: the same
        with pytest.raises(TypeError, match="number maps over nothing"):
            number.map([])
        with pytest.raises(TypeError, match="after takes what tasks of the job returned, not 3"):
            number.after(3)
        number()

    drawn.document()


def test_a_result_of_another_job() -> None:
    kept: list[Any] = []

    @job
    def first() -> None:
        kept.append(number())

    @job
    def second() -> None:
        number()
        add(kept[0])

    first.document()
    with pytest.raises(TypeError, match="<result of number> is of another job"):
        second.document()


def test_what_is_no_json() -> None:
    @task
    def open_file() -> object:
        return object()

    @job
    def drawn(value: object) -> None:
        number(value)  # pyright: ignore[reportArgumentType]: the point of the test

    @job
    def other() -> object:
        return open_file()

    with pytest.raises(TypeError, match="an argument of number is no JSON: a value of type object"):
        drawn.document(object())
    with pytest.raises(TypeError, match=r"what .*open_file returns is no JSON"):
        other.local()
    with pytest.raises(TypeError, match=r"bytes; at most 1,048,576: write it to a file"):
        values.encode("x" * (2 << 20), "it")
    with pytest.raises(TypeError, match="number: value: Expected `int`, got `str`"):
        drawn.local("one")


def test_a_function_that_no_agent_could_import() -> None:
    @task
    def inside() -> None: ...

    @job
    def drawn() -> None:
        inside()

    with pytest.raises(TypeError, match=r"inside is no function of a module"):
        drawn.document()


@pytest.mark.parametrize("shell", [(), ("-c",)])
def test_a_function_of_no_file(shell: tuple[str, ...], tmp_path: Path) -> None:
    """As in a notebook, or in a program that runs what it was given."""
    text = (
        "from styx import job, task\n@task\ndef f(): ...\n@job\ndef g(): f()\n"
        "g.local()\ntry: g.document()\nexcept TypeError as error: print(error)"
    )
    runs = tmp_path / "runs.py"
    runs.write_text(f"exec(compile({text!r}, 'typed', 'exec'))")
    command = [sys.executable, *shell, text if shell else runs]
    done = subprocess.run(
        command,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "f is written in no file: a task has to be imported by its agent\n"


def test_words_and_functions_are_checked_at_once() -> None:
    with pytest.raises(TypeError, match="no such field: 'gpu'; did you mean 'gpus'"):
        task(gpu=1)(len)  # pyright: ignore[reportCallIssue]: the point of the test
    with pytest.raises(TypeError, match="no such field: 'array'"):
        task(array=1)(len)  # pyright: ignore[reportCallIssue]: the same
    with pytest.raises(TypeError, match="no such field: 'nmae'; did you mean 'name'"):
        job(nmae="x")(len)  # pyright: ignore[reportCallIssue]: the same

    async def later() -> None: ...

    with pytest.raises(TypeError, match="later is async"):
        task(later)

    with pytest.raises(TypeError, match="later is async"):
        job(later)

    @job
    def nothing() -> None: ...

    with pytest.raises(TypeError, match="nothing calls no task"):
        nothing.document()


# --- on the agent's side ------------------------------------------------------------------------------


def called(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("STYX_")}
    return subprocess.run(
        [sys.executable, "-m", "styx.sdk.call", *words],
        env=kept | {"PYTHONPATH": str(ROOT)} | env,
        capture_output=True,
        text=True,
        check=False,
    )


def test_without_directories_a_result_goes_nowhere() -> None:
    done = called("tests.sdk.pipeline:prepare", '{"args":[2]}')
    assert (done.returncode, done.stdout) == (0, "preparing 2\n")


@pytest.mark.parametrize(
    ("directory", "why"), [("", "has set no STYX_INPUT_DIR"), ("/nowhere", "json is missing")]
)
def test_a_result_that_is_not_there(directory: str, why: str) -> None:
    taken = '{"args":[null],"results":[{"at":["args",0],"task":"x"}]}'
    done = called("tests.sdk.pipeline:prepare", taken, STYX_INPUT_DIR=directory)
    assert done.returncode == 1
    assert "LookupError: no result of 'x': " in done.stderr
    assert why in done.stderr


def test_one_of_a_gang_speaks_for_all(tmp_path: Path) -> None:
    for rank in ("1", "0"):
        called(
            "tests.sdk.pipeline:prepare", f'{{"args":[{rank}]}}',
            STYX_OUTPUT_DIR=str(tmp_path), STYX_NODE_RANK=rank,
        )  # fmt: skip
    assert (tmp_path / "result.json").read_text() == "[]"


def test_an_exit_code_is_the_function_s() -> None:
    assert called("tests.sdk.pipeline:fail", "{}").returncode == 7


def test_a_call_imports_no_client() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import sys, styx.sdk.call; from styx import job; print(*sys.modules)"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    loaded = set(done.stdout.split())
    assert "styx.sdk.flow" in loaded
    assert (
        loaded & {"asyncio", "http.client", "ssl", "h11", "styx.sdk.client", "styx.config"} == set()
    )
