"""What a user may write: every field, every refusal with its exact path, and no input that breaks it."""

import math

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from styx.core import fields, form, model, resources, spec, units
from styx.core.spec import Need, On, Requirements
from styx.errors import InvalidSpec

GIB = 1 << 30


def refused(check, document) -> dict[str, str]:
    with pytest.raises(InvalidSpec) as caught:
        check(document)
    return {error.path: error.message for error in caught.value.errors}


def check_task(document: object) -> spec.TaskSpec:
    return form.check_alone(document).tasks[0]


def task(**given):
    return check_task({"command": "true", **given})


# --- one task ---------------------------------------------------------------------------------------


def test_the_smallest_task():
    assert check_task({"command": "true"}) == spec.TaskSpec(name="true", argv=("true",))


def test_the_task_of_the_first_curl():
    document = {"name": "test", "command": "echo", "args": ["Hello"]}
    assert check_task(document) == spec.TaskSpec(name="test", argv=("echo", "Hello"))


def test_every_field():
    checked = check_task(
        {
            "name": "train.v1",
            "run": "set -e\n./train",
            "env": {"A": "x", "B": 1, "C": 1.5, "D": True},
            "resources": {
                "cpus": "4+",
                "memory": "16GB",
                "gpus": "A100:8",
                "disk": 100,
                "arch": "arm64",
                "labels": {"zone": "b", "rack": 7},
            },
            "num_nodes": 2,
            "priority": "high",
            "retries": 1,
            "infra_retries": 0,
            "retry_on": [75, 1, 75],
            "timeout": "1h30m",
            "queue_timeout": 90,
            "grace": "5s",
            "delivery": "at_most_once",
            "exclusive": True,
            "array": {"over": ["x", 1, False]},
            "workdir": "/srv",
            "labels": {"team": "vision"},
        }
    )
    assert checked == spec.TaskSpec(
        name="train.v1",
        script="set -e\n./train",
        env={"A": "x", "B": "1", "C": "1.5", "D": "true"},
        requirements=Requirements(
            cpus_milli=4_000,
            memory_bytes=16_000_000_000,
            disk_bytes=100 * GIB,
            gpus=8,
            gpu_model="a100",
            arch="aarch64",
            labels=(("rack", "7"), ("zone", "b")),
        ),
        num_nodes=2,
        priority=spec.Priority.HIGH,
        retries=1,
        infra_retries=0,
        retry_on=(1, 75),
        timeout_s=5_400.0,
        queue_timeout_s=90.0,
        grace_s=5.0,
        delivery=spec.Delivery.AT_MOST_ONCE,
        exclusive=True,
        array_count=3,
        array_values=("x", "1", "false"),
        workdir="/srv",
        labels={"team": "vision"},
    )


def test_the_models_document_exactly_the_fields_that_are_read():
    assert set(model.TaskForm.__struct_fields__) == set(form.TASK)
    assert set(model.OnForm.__struct_fields__) == {ending.value for ending in spec.Ending}
    assert set(model.ResourcesForm.__struct_fields__) == set(resources.FIELDS)
    assert not set(fields.LATER) & (set(form.TASK) | set(resources.FIELDS))


def test_alternatives_are_laid_over_what_stands_beside_them():
    wanted = task(
        resources={
            "cpus": 4,
            "gpus": "A100:1",
            "labels": {"zone": "a"},
            "any_of": [{}, {"gpus": ["H100:2", "A100:1"], "labels": {"rack": 7}}, {"cpus": "4"}],
        }
    ).requirements
    a100 = Requirements(cpus_milli=4_000, gpus=1, gpu_model="a100", labels=(("zone", "a"),))
    both = (("rack", "7"), ("zone", "a"))
    other = msgspec.structs.replace(a100, gpus=2, gpu_model="h100", labels=both)
    third = msgspec.structs.replace(a100, labels=both)
    assert wanted == msgspec.structs.replace(a100, any_of=(a100, other, third))
    listed = task(resources={"gpus": ["A100:2", "H100"]}).requirements
    assert [(each.gpus, each.gpu_model) for each in listed.any_of] == [(2, "a100"), (1, "h100")]
    assert task(resources={"ordered": [{"gpus": 1}, {"gpus": "1"}]}).requirements.any_of == ()
    needy = task(image="x", resources={"ordered": [{"cpus": 2}, {"cpus": 1}]}).requirements
    assert needy.ordered
    assert [each.features for each in needy.any_of] == [("image",)] * 2


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ({"any_of": [{}, {"gpus": "A100:x"}]}, "any_of[1].gpus"),
        ({"any_of": [{"any_of": [{}]}]}, "any_of[0].any_of"),
        ({"any_of": [{}], "ordered": [{}]}, "ordered"),
        ({"ordered": []}, "ordered"),
        ({"gpus": ["A100", -1]}, "gpus[1]"),
        ({"any_of": [{"cpus": n} for n in range(1, 18)]}, "any_of"),
        (
            {"gpus": [f"A:{n}" for n in range(1, 6)], "any_of": [{"cpus": n} for n in range(1, 5)]},
            "",
        ),
    ],
)
def test_alternatives_that_are_wrong(given, path):
    found = refused(check_task, {"command": "true", "resources": given})
    assert list(found) == [f"resources.{path}".rstrip(".")]


def test_a_directory_of_the_agent_or_a_bundle():
    assert task(workdir="~/x").workdir == "~/x"
    assert task(workdir="~").workdir == "~"
    assert task(bundle="0" * 64).bundle == "0" * 64


def test_null_is_not_given():
    assert task(name=None, timeout=None, needs=None, resources=None) == task()


@pytest.mark.parametrize(
    ("document", "name"),
    [
        ({"command": "/usr/bin/python3"}, "python3"),
        ({"command": "./a b/"}, "a-b"),
        ({"command": "/"}, "task"),
        ({"command": "ünïcode"}, "n-code"),
        ({"command": "x" * 400}, "x" * 128),
        ({"run": "\n  ./train.sh --lr 1\n"}, "train.sh"),
        ({"command": ["echo", "hi"]}, "echo"),
    ],
)
def test_the_default_name_comes_from_the_command(document, name):
    assert check_task(document).name == name


@pytest.mark.parametrize(
    ("value", "milli"), [(1, 1_000), (0.5, 500), ("4", 4_000), ("4+", 4_000), ("0.25", 250)]
)
def test_cpus(value, milli):
    assert task(resources={"cpus": value}).requirements.cpus_milli == milli


@pytest.mark.parametrize(
    ("value", "size"),
    [
        (16, 16 * GIB),
        (0.5, GIB // 2),
        ("16", 16 * GIB),
        ("16+", 16 * GIB),
        ("16GB", 16 * 10**9),
        ("16gb+", 16 * 10**9),
        ("16 GiB", 16 * GIB),
        ("16G", 16 * GIB),
        ("512MiB", 512 << 20),
        ("512MB", 512 * 10**6),
        ("1.5TiB", 3 << 39),
        ("4096B", 4096),
    ],
)
def test_memory(value, size):
    assert task(resources={"memory": value}).requirements.memory_bytes == size


@pytest.mark.parametrize(
    ("value", "number", "model"),
    [
        (8, 8, ""),
        ("8", 8, ""),
        ("A100", 1, "a100"),
        ("A100:8", 8, "a100"),
        ({"A100": 8}, 8, "a100"),
        ({"A100-80GB": "2"}, 2, "a100-80gb"),
        ("T4:0", 0, ""),
        (["H100:2", "A100:2"], 2, "a100|h100"),
        ({"H100": 1, "A100": 1}, 1, "a100|h100"),
        (0, 0, ""),
    ],
)
@pytest.mark.parametrize("key", ["gpus", "accelerators"])
def test_gpus(key, value, number, model):
    wanted = task(resources={key: value}).requirements
    assert (wanted.gpus, wanted.gpu_model) == (number, model)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(90, 90.0), (0.5, 0.5), ("90", 90.0), ("90m", 5_400.0), ("1h30m", 5_400.0), ("2d", 172_800.0)],
)
def test_timeout(value, seconds):
    assert task(timeout=value).timeout_s == seconds


@pytest.mark.parametrize(
    ("value", "count", "values"),
    [
        (100, 100, ()),
        ({"count": 3}, 3, ()),
        ({"over": [0.1, "b"]}, 2, ("0.1", "b")),
    ],
)
def test_array(value, count, values):
    checked = task(array=value)
    assert (checked.array_count, checked.array_values, checked.width) == (count, values, count)


# --- refusals of one task: the exact path, and what would be right -----------------------------------

WRONG_TASKS = {
    "unknown field": ({"nmae": "x"}, "nmae", "did you mean 'name'?"),
    "unknown resource": ({"resources": {"gpu": 1}}, "resources.gpu", "did you mean 'gpus'?"),
    "a name with a blank": ({"name": "my task"}, "name", "letters, digits"),
    "an empty name": ({"name": ""}, "name", "letters, digits"),
    "a path as name": ({"name": "../x"}, "name", "letters, digits"),
    "a long name": ({"name": "x" * 129}, "name", "letters, digits"),
    "a number as name": ({"name": 7}, "name", "not 7"),
    "an empty command": ({"command": ""}, "command", "the program"),
    "an empty argv": ({"command": []}, "command", "the program"),
    "a NUL in the command": ({"command": "a\0b"}, "command", "NUL"),
    "a NUL in an argument": ({"args": ["a", "b\0"]}, "args[1]", "NUL"),
    "args as text": ({"args": "Hello"}, "args", "a list of words"),
    "an object as argument": ({"args": [{}]}, "args[0]", "not an object"),
    "arguments too big": ({"args": ["x" * (128 << 10)]}, "args", "128 KiB"),
    "both command and run": ({"run": "true"}, "run", "not both"),
    "env as list": ({"env": ["A=1"]}, "env", "an object"),
    "env with a bad name": ({"env": {"1A": "x"}}, "env.1A", "a variable's name"),
    "env with a list": ({"env": {"A": [1]}}, "env.A", "not a list"),
    "env with a NUL": ({"env": {"A": "\0"}}, "env.A", "NUL"),
    "env too big": ({"env": {"A": "x" * (128 << 10)}}, "env", "128 KiB"),
    "resources as text": ({"resources": "big"}, "resources", "an object with fields"),
    "no cpus": ({"resources": {"cpus": 0}}, "resources.cpus", "a number of cores"),
    "negative cpus": ({"resources": {"cpus": -1}}, "resources.cpus", "not -1"),
    "cpus as word": ({"resources": {"cpus": "many"}}, "resources.cpus", "not 'many'"),
    "cpus as boolean": ({"resources": {"cpus": True}}, "resources.cpus", "not true"),
    "a bad unit": ({"resources": {"memory": "16 GHz"}}, "resources.memory", '"16GB"'),
    "negative memory": ({"resources": {"memory": -1}}, "resources.memory", '"16GB"'),
    "half a GPU": ({"resources": {"gpus": 0.5}}, "resources.gpus", "a whole number"),
    "two GPU models": (
        {"resources": {"gpus": {"A100": 1, "H100": 2}}},
        "resources.gpus",
        "the same number",
    ),
    "no number of GPUs": ({"resources": {"gpus": "A100:"}}, "resources.gpus", '"A100:8"'),
    "GPUs twice": (
        {"resources": {"gpus": 1, "accelerators": 1}},
        "resources.accelerators",
        "one of them",
    ),
    "a strange arch": ({"resources": {"arch": "z80"}}, "resources.arch", "x86_64"),
    "no nodes": ({"num_nodes": 0}, "num_nodes", "from 1 to 1,000"),
    "too many nodes": ({"num_nodes": 1_001}, "num_nodes", "from 1 to 1,000"),
    "nodes as text": ({"num_nodes": "2"}, "num_nodes", "a whole number"),
    "an unknown priority": ({"priority": "urgent"}, "priority", "low, normal, high, critical"),
    "needs alone": ({"needs": ["other"]}, "needs[0]", "'other' is unknown"),
    "a need without a task": ({"needs": [{"on": "done"}]}, "needs[0].task", "missing"),
    "an unknown edge": ({"needs": [{"task": "a", "on": "end"}]}, "needs[0].on", "success, done"),
    "negative retries": ({"retries": -1}, "retries", "from 0 to 1,000"),
    "retry on success": ({"retry_on": [0]}, "retry_on[0]", "from 1 to 255"),
    "no time": ({"timeout": 0}, "timeout", "more than 0"),
    "negative time": ({"timeout": "-5m"}, "timeout", '"90m"'),
    "a bad duration": ({"timeout": "1h3x"}, "timeout", "not '1h3x'"),
    "an empty duration": ({"timeout": ""}, "timeout", '"90m"'),
    "for ever": ({"timeout": 10**400}, "timeout", "a huge number"),
    "infinite": ({"timeout": math.inf}, "timeout", '"90m"'),
    "an unknown delivery": ({"delivery": "exactly_once"}, "delivery", "at_least_once"),
    "exclusive as text": ({"exclusive": "yes"}, "exclusive", "true or false"),
    "an empty array": ({"array": 0}, "array", "from 1 to 1,000,000"),
    "an array too big": ({"array": 1_000_001}, "array", "from 1 to 1,000,000"),
    "an array over nothing": ({"array": {"over": []}}, "array.over", "1 to 1,000,000"),
    "an array of two kinds": ({"array": {"count": 1, "over": [1]}}, "array", "exactly one"),
    "an array element": ({"array": {"over": [1, [2]]}}, "array.over[1]", "not a list"),
    "a relative workdir": ({"workdir": "."}, "workdir", "absolute directory"),
    "a workdir of another user": ({"workdir": "~root"}, "workdir", "below ~"),
    "no bundle's id": ({"bundle": "A" * 64}, "bundle", "64 hexadecimal digits"),
    "workdir and bundle": ({"workdir": "/x", "bundle": "0" * 64}, "bundle", "not both"),
    "outputs of another directory": (
        {"outputs": ["../x"]},
        "outputs[0]",
        "below the work directory",
    ),
    "outputs to the web": ({"outputs": [{"to": "https://x/y"}]}, "outputs[0].to", "s3://"),
    "a bad label": ({"labels": {"a b": "x"}}, "labels.a b", "a label"),
    "a long label": ({"labels": {"a": "x" * 257}}, "labels.a", "256 bytes"),
    "too many labels": ({"labels": {f"l{i}": i for i in range(65)}}, "labels", "64 labels"),
}


@pytest.mark.parametrize("case", WRONG_TASKS)
def test_a_wrong_task_is_told_where_and_what_would_be_right(case):
    given, path, words = WRONG_TASKS[case]
    errors = refused(check_task, {"command": "true", **given})
    assert list(errors) == [path]
    assert words in errors[path]


@pytest.mark.parametrize("key", fields.LATER)
@pytest.mark.parametrize("place", ["", "resources."])
def test_what_comes_later_says_so(key, place):
    document = {"command": "true", **({"resources": {key: "x"}} if place else {key: "x"})}
    errors = refused(check_task, document)
    assert list(errors) == [place + key]
    assert "comes with a later version of Styx; until then" in errors[place + key]


@pytest.mark.parametrize("document", [None, 1, "x", True, [], ["x"], 1.5])
def test_a_task_is_an_object(document):
    assert "an object with fields" in refused(check_task, document)[""]


def test_nothing_to_run():
    assert "missing" in refused(check_task, {})["command"]
    assert "missing" in refused(check_task, {"args": ["x"]})["command"]
    assert "belong to `command`" in refused(check_task, {"run": "x", "args": ["y"]})["args"]
    assert "a shell script" in refused(check_task, {"run": " \n"})["run"]


def test_all_errors_at_once():
    errors = refused(
        check_task,
        {"nmae": 1, "resources": {"cpus": "x", "gpu": 1}, "env": {"1": 1, "A": []}, "timeout": {}},
    )
    assert set(errors) == {
        "nmae",
        "resources.cpus",
        "resources.gpu",
        "env.1",
        "env.A",
        "timeout",
        "command",
    }


def test_an_endless_list_of_errors_is_cut():
    document = {"tasks": {f"t{i}": {"x": 1} for i in range(10_000)}}
    assert len(refused(form.check_job, document)) == form.MAX_ERRORS


# --- jobs -------------------------------------------------------------------------------------------


def job(**tasks):
    return {"tasks": {name: {"command": "true", **given} for name, given in tasks.items()}}


def test_a_job_of_the_contract():
    checked = form.check_job(
        {
            "name": "train",
            "tasks": {
                "fetch": {"run": "./fetch.sh", "resources": {"cpus": 2}},
                "train": {"run": "./train.sh", "needs": ["fetch"], "retries": 2},
                "report": {"run": "./report.sh", "needs": [{"task": "train", "on": "done"}]},
            },
            "on_failure": "fail_fast",
            "labels": {"team": "x"},
        }
    )
    assert [t.name for t in checked.tasks] == ["fetch", "train", "report"]
    assert [t.needs for t in checked.tasks] == [(), (Need("fetch"),), (Need("train", On.DONE),)]
    assert checked.on_failure is spec.OnFailure.FAIL_FAST
    assert (checked.name, checked.labels, checked.width) == ("train", {"team": "x"}, 3)


def test_a_list_of_tasks_is_a_job_too():
    listed = [{"name": "a", "command": "x"}, {"name": "b", "command": "y", "needs": "a"}]
    assert form.check_job({"tasks": listed}).tasks == form.check_batch(listed).tasks


def test_the_nameless_of_a_list_are_numbered():
    listed = [{"command": "echo"}, {"command": "/bin/echo"}, {"name": "echo-2", "command": "x"}]
    assert [t.name for t in form.check_batch(listed).tasks] == ["echo", "echo-3", "echo-2"]


def test_a_need_given_twice_is_one_edge():
    checked = form.check_job(job(a={}, b={"needs": ["a", "a", {"task": "a", "on": "success"}]}))
    assert checked.tasks[1].needs == (Need("a"),)


WRONG_JOBS = {
    "no tasks": ({}, "tasks", "missing"),
    "null tasks": ({"tasks": None}, "tasks", "missing"),
    "an empty job": ({"tasks": {}}, "tasks", "at least one"),
    "tasks as text": ({"tasks": "x"}, "tasks", "a list of tasks"),
    "an unknown key": ({"task": {}, **job(a={})}, "task", "did you mean 'tasks'?"),
    "a bad key": ({"tasks": {"a b": {"command": "x"}}}, "tasks.a b", "letters, digits"),
    "another name": (job(a={"name": "b"}), "tasks.a.name", "its key 'a'"),
    "a bad field": (job(a={"resources": {"gpu": 1}}), "tasks.a.resources.gpu", "'gpus'"),
    "a bad field in a list": (
        {"tasks": [{"command": "x"}, {"command": "x", "resources": {"cpus": []}}]},
        "tasks[1].resources.cpus",
        "a number of cores",
    ),
    "a task that is none": ({"tasks": {"a": 1}}, "tasks.a", "an object with fields"),
    "a duplicate name": (
        {"tasks": [{"name": "a", "command": "x"}, {"name": "a", "command": "y"}]},
        "tasks[1].name",
        "taken by task [0]",
    ),
    "an unknown need": (
        job(fetch={}, train={"needs": ["fetsch"]}),
        "tasks.train.needs[0]",
        "did you mean 'fetch'?",
    ),
    "a need of itself": (job(a={"needs": ["a"]}), "tasks.a.needs[0]", "wait for itself"),
    "a cycle of two": (job(a={"needs": ["b"]}, b={"needs": ["a"]}), "tasks.a.needs", "a → b → a"),
    "a cycle behind a tail": (
        job(z={}, a={"needs": ["z", "c"]}, b={"needs": ["a"]}, c={"needs": ["b"]}),
        "tasks.a.needs",
        "a → b → c → a",
    ),
    "too many tasks": (
        job(a={"array": 1_000_000}, b={}),
        "tasks",
        "1,000,001 tasks; a job has at most 1,000,000",
    ),
    "too many edges": (
        job(a={"array": 1_001}, b={"array": 1_000, "needs": ["a"]}),
        "tasks",
        "1,001,000 edges",
    ),
    "an unknown policy": ({**job(a={}), "on_failure": "stop"}, "on_failure", "fail_fast"),
}


@pytest.mark.parametrize("case", WRONG_JOBS)
def test_a_wrong_job_is_told_where_and_what_would_be_right(case):
    document, path, words = WRONG_JOBS[case]
    errors = refused(form.check_job, document)
    assert list(errors) == [path]
    assert words in errors[path]


def test_a_batch_names_its_element():
    assert list(refused(form.check_batch, [{"command": "x"}, {}])) == ["[1].command"]
    assert "at least one" in refused(form.check_batch, [])[""]


def test_a_long_cycle_is_shortened():
    ring = {f"t{i}": {"needs": [f"t{(i - 1) % 5_000}"]} for i in range(5_000)}
    errors = refused(form.check_job, job(**ring))
    assert errors["tasks.t0.needs"].startswith("the tasks wait for each other: t0 → t1 → ")
    assert len(errors["tasks.t0.needs"]) < 300


def test_a_deep_chain_written_backwards():
    chain = {f"t{i}": {"needs": [f"t{i + 1}"]} for i in range(20_000)}
    assert form.check_job(job(**chain, t20000={})).width == 20_001


# --- any input --------------------------------------------------------------------------------------

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
task_keys = st.sampled_from([*form.TASK, *fields.LATER, "nonsense"])
likely_values = st.sampled_from(
    [
        1,
        0,
        -1,
        10**30,
        "1",
        "4+",
        "16GB",
        "1h30m",
        "A100:8",
        {"A100": 1},
        ["a"],
        [{"task": "a"}],
        "a",
    ]
)
wishes = st.dictionaries(st.sampled_from([*resources.FIELDS, "x"]), likely_values | json_values)
task_documents = st.dictionaries(task_keys, likely_values | json_values | wishes, max_size=8)
names = st.sampled_from(["a", "b", "c", "d e"]) | st.text(max_size=3)


def outcome(reader, document):
    """What the reader returns, or the error that it may raise; any other error is a bug."""
    try:
        return reader(document), None
    except (InvalidSpec, units.Expected) as error:
        return None, error


def assert_tells(error: InvalidSpec) -> None:
    assert error.errors
    assert all(isinstance(e.path, str) and e.message for e in error.errors)
    msgspec.json.encode(error.errors)


@settings(max_examples=40, deadline=None)
@given(document=task_documents | json_values)
def test_no_task_raises_anything_but_invalid_spec(document):
    checked, error = outcome(check_task, document)
    if error:
        assert_tells(error)
    else:
        assert fields.NAME.fullmatch(checked.name)
        assert bool(checked.argv) != bool(checked.script)
        assert msgspec.json.decode(msgspec.json.encode(checked), type=spec.TaskSpec) == checked


@settings(max_examples=40, deadline=None)
@given(
    tasks=st.dictionaries(
        names,
        st.fixed_dictionaries({"command": st.just("x")}, optional={"needs": st.lists(names)}),
        min_size=1,
    )
    | json_values
)
def test_no_job_raises_anything_but_invalid_spec_and_what_passes_is_a_dag(tasks):
    checked, error = outcome(form.check_job, {"tasks": tasks})
    if error:
        assert_tells(error)
        return
    left = {t.name: {n.task for n in t.needs} for t in checked.tasks}
    while left:
        free = [name for name, waits in left.items() if not waits]
        assert free, "a cycle passed"
        left = {n: w - set(free) for n, w in left.items() if n not in free}


@settings(max_examples=35, deadline=None)
@given(value=json_values)
@pytest.mark.parametrize(
    "reader", [units.cpus_milli, units.size_bytes, units.seconds, units.gpus, units.arch]
)
def test_no_unit_raises_anything_but_what_it_expected(reader, value):
    read, expected = outcome(reader, value)
    assert read is not None or str(expected)
