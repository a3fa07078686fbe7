"""From a file's document to a job: defaults, variables from outside, and where an error stands."""

import pytest

from styx.core import fields
from styx.core.schedule import Schedule
from styx.core.spec import JobSpec
from styx.errors import InvalidSpec
from styx.file import job, read


def of(text: str, name: str = "job.yaml", **env: str) -> job.Job:
    return job.of(
        read.only(read.documents(read.Source(name, text)), expected="", example=""), env=env
    )


def spec(text: str, name: str = "job.yaml", **env: str) -> JobSpec:
    return of(text, name, **env).check()


def refusals(text: str, name: str = "job.yaml") -> list[str]:
    with pytest.raises(InvalidSpec) as caught:
        spec(text, name)
    return [f"{error.path}: {error.message}" for error in caught.value.errors]


def test_one_task_is_a_job_of_one() -> None:
    checked = spec("name: x\nrun: y\nenv: {A: 1}\n")
    assert (checked.name, [task.name for task in checked.tasks]) == ("x", ["x"])
    assert checked.tasks[0].env == {"A": "1"}


DEFAULTS = """\
name: two
labels: {team: x}
run: make
retries: 2
env: {A: 1, B: 1}
resources: {cpus: 2, memory: 1}
tasks:
  a: {env: {B: 2}, resources: {cpus: 4}, retries: 0}
  b: {command: [echo, hi], env: null}
  c:
"""


def test_what_stands_beside_tasks_is_a_default_of_each() -> None:
    a, b, c = spec(DEFAULTS).tasks
    assert (a.script, a.env, a.retries) == ("make", {"A": "1", "B": "2"}, 0)
    assert (a.requirements.cpus_milli, a.requirements.memory_bytes) == (4_000, 1 << 30)
    assert (b.argv, b.script, b.env) == (("echo", "hi"), "", {"A": "1", "B": "1"})
    assert (c.script, c.retries, c.requirements.cpus_milli) == ("make", 2, 2_000)
    assert a.labels == {}, "labels beside `tasks` are the job's"


def test_defaults_of_a_list_of_tasks() -> None:
    tasks = spec("command: echo\nargs: [x]\ntasks: [{name: a}, {run: y}, {args: [z]}]\n").tasks
    assert [(task.argv, task.script) for task in tasks] == [
        (("echo", "x"), ""), ((), "y"), (("echo", "z"), "")
    ]  # fmt: skip


def test_an_array_of_its_own_takes_the_place_of_a_default_matrix() -> None:
    a, b = spec("run: x\nmatrix: {i: 0..2}\ntasks: {a: , b: {array: 2}}\n").tasks
    assert (a.matrix, a.width, b.matrix, b.width) == (True, 3, False, 2)


def test_the_document_is_not_changed() -> None:
    made = of("env: {A: 1}\ntasks: {a: {run: x, env: {B: 1}}}\n", C="3")
    assert made.find("")[0].content == {
        "env": {"A": 1},
        "tasks": {"a": {"run": "x", "env": {"B": 1}}},
    }
    assert made.check().tasks[0].env == {"A": "1", "B": "1", "C": "3"}


def test_a_file_may_name_its_schema() -> None:
    assert spec('{"$schema": "task-file.json", "run": "x"}', "job.json").tasks[0].script == "x"
    assert spec('{"$schema": "task-file.json", "tasks": [{"run": "x"}]}', "job.json").width == 1


def test_variables_from_outside_win() -> None:
    assert spec("run: x\nenv: {A: 1}\n", A="2").tasks[0].env == {"A": "2"}
    assert spec("tasks: [{run: x}]\n", A="2").tasks[0].env == {"A": "2"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("run: x\nresources: {gpu: 1}\n", "2:13: resources.gpu: no such key; did you mean 'gpus'?"),
        ("tasks:\n  a: {run: x, needs: [b]}\n",
         "2:23: tasks.a.needs[0]: no task of this job is called 'b'"),
        ("tasks:\n - run: x\n   retries: -1\n",
         "3:4: tasks[0].retries: expected a whole number from 0 to 1,000, not -1"),
        ("tasks: {a: {}}\n",
         "1:9: tasks.a.command: missing: a program (with `args`), or a shell script in `run`"),
        ("tasks: 7\n", "1:1: tasks: expected a list of tasks, not 7"),
        ("tasks: {a: 7}\n", "1:9: tasks.a: expected an object with fields, not 7"),
        ("retries: -1\ntasks: {a: {run: x}, b: {run: y}}\n",
         "1:1: retries: expected a whole number from 0 to 1,000, not -1"),
        ("resources: {gpu: 1}\ntasks: {a.b: {run: x}}\n",
         "1:13: resources.gpu: no such key; did you mean 'gpus'?"),
        ("needs: [a]\ntasks: {a: {run: x}}\n",
         "1:1: needs: belongs to one task: every other key beside `tasks` is for all"),
        ("retrys: 1\ntasks: {a: {run: x}}\n", "1:1: retrys: no such key; did you mean 'retries'?"),
        ("region: x\ntasks: {a: {run: x}}\n",
         "1:1: region: " + fields.later("region")),
    ],
)  # fmt: skip
def test_where_an_error_stands(text: str, message: str) -> None:
    assert refusals(text) == [f"job.yaml:{message}"]


def test_errors_of_toml_and_json_have_places_too() -> None:
    toml = "[tasks.a]\nrun = 'x'\n[tasks.a.resources]\ngpu = 1\n"
    assert refusals(toml, "job.toml")[0].startswith("job.toml:4:1: tasks.a.resources.gpu: ")
    json = '{"tasks": {"a": {"run": "x",\n  "retrys": 1}}}'
    assert refusals(json, "job.json")[0].startswith("job.json:2:3: tasks.a.retrys: ")


def test_a_schedule_stands_at_the_top_of_either_kind_of_file() -> None:
    lone = of("name: x\nrun: make\nschedule: '@daily'\n")
    many = of("name: x\nschedule: {cron: '@daily'}\ntasks: {a: {run: make}}\n")
    for found in (lone, many):
        assert found.is_scheduled
        assert found.check().name == "x"
        assert found.schedule == Schedule("@daily")
        now = found.at_once("2026-12-01T12:00:00Z")
        assert not now.is_scheduled
        assert now.check().name == "x"
        assert now.check().tasks[0].env == {"STYX_SCHEDULED_AT": "2026-12-01T12:00:00Z"}
    none = of("name: x\nrun: make\nschedule: null\n")
    assert not none.is_scheduled
    assert none.at_once("2026-12-01T12:00:00Z").check().tasks[0].env == {}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: x\nrun: y\nschedule: {cron: '@daily', timezone: M}\n", "3:28: schedule.timezone"),
        ("run: y\nschedule: '@daily'\n", "1:1: name: missing"),
        ("name: x\ntasks:\n  a:\n    run: y\n    schedule: '@daily'\n", "5:5: tasks.a.schedule"),
    ],
)
def test_what_is_wrong_with_a_schedule_is_told_with_its_place(text: str, said: str) -> None:
    assert [told for told in refusals(text) if told.startswith(f"job.yaml:{said}")], refusals(text)
