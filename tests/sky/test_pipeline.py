"""Files of several documents, which files are SkyPilot's, and what any file at all makes of the reader."""

import contextlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from styx.core import form
from styx.errors import InvalidSpec
from styx.file import read as files
from styx.file import yaml_text
from styx.file.document import Document
from styx.sky import pipeline, recognise, shape
from styx.sky.pipeline import Pipeline


def read(text: str, **env: str) -> Pipeline:
    return pipeline.read(yaml_text.parse("sky.yaml", text, old=True), env)


def body(text: str, **env: str) -> dict[str, Any]:
    made = read(text, **env).job().body
    form.check_job(made)
    return made


def names_and_needs(text: str) -> list[tuple[str, list[str]]]:
    return [(task["name"], task.get("needs", [])) for task in body(text)["tasks"]]


def test_a_pipeline_is_a_chain() -> None:
    text = "name: three\n---\nname: a\nrun: x\n---\nrun: y\n---\n---\nname: c\nrun: z\n"
    assert body(text)["name"] == "three"
    assert names_and_needs(text) == [("a", []), ("three-1", ["a"]), ("c", ["three-1"])]


def test_a_pipeline_may_say_so_or_have_no_name() -> None:
    assert names_and_needs("name: p\nexecution: serial\n---\nrun: x\n") == [("p", [])]
    assert names_and_needs("run: x\n---\nrun: y\n") == [("task-0", []), ("task-1", ["task-0"])]


def test_names_that_are_taken_are_numbered() -> None:
    text = "name: a\nrun: x\n---\nname: a\nrun: y\n---\nname: a-2\nrun: z\n"
    assert names_and_needs(text) == [("a", []), ("a-2", ["a"]), ("a-2-2", ["a-2"])]


def test_variables_from_outside_are_for_every_task() -> None:
    made = body("run: x\nenvs: {A: null}\n---\nrun: y\n", A="1")
    assert [task["env"] for task in made["tasks"]] == [{"A": "1"}, {"A": "1"}]


def test_a_group_has_no_needs_and_is_warned_of() -> None:
    text = "name: g\nexecution: parallel\n---\nname: a\nrun: x\n---\nname: b\nrun: y\n"
    made = body(text)
    assert names_and_needs(text) == [("a", []), ("b", [])]
    assert [task["env"] for task in made["tasks"]] == [{"SKYPILOT_JOBGROUP_NAME": "g"}] * 2
    assert [note.where for note in read(text).warnings] == ["sky.yaml:2:1: execution"]


@pytest.mark.parametrize("key", ["primary_tasks: [a]", "inter_connection: true"])
def test_what_a_group_cannot_be_without_is_refused(key: str) -> None:
    found = read(f"name: g\nexecution: parallel\n{key}\n---\nname: a\nrun: x\n")
    assert [note.where for note in found.refused] == [
        f"sky.yaml:3:1: {key.split(':', maxsplit=1)[0]}"
    ]


def test_what_a_group_can_be_without_is_warned_of() -> None:
    found = read("name: g\nexecution: parallel\ntermination_delay: 30s\n---\nname: a\nrun: x\n")
    assert [note.field for note in found.warnings] == ["termination_delay", "execution"]
    assert found.refused == []


def test_an_error_says_in_which_document() -> None:
    with pytest.raises(InvalidSpec) as caught:
        read("run: x\n---\nrun: y\nruns: z\n")
    assert caught.value.errors[0].path == "sky.yaml:4:1: runs"
    with pytest.raises(InvalidSpec, match=r"sky\.yaml:2:1: execution: expected one of serial"):
        read("name: x\nexecution: sideways\n---\nrun: y\n")


def test_what_the_server_refuses_of_a_later_document() -> None:
    job = read("run: x\n---\nrun: y\nresources: {labels: {'a b': x}}\n").job()
    with pytest.raises(InvalidSpec) as caught:
        job.check()
    assert caught.value.errors[0].path.startswith("sky.yaml:4:22: resources.labels.a b")


# --- whose file it is -------------------------------------------------------------------------------


def is_sky(text: str) -> bool:
    return recognise.is_sky(files.documents(files.Source("x.yaml", text)))


@pytest.mark.parametrize(
    "text",
    [
        "run: x\nenvs: {A: 1}\n", "run: x\nfile_mounts: {}\n",
        "run: x\nservice: {}\n", "run: x\nresources: {use_spot: true}\n",
        "run: x\nresources: {infra: aws}\n", "run: x\nresources: {any_of: [{infra: aws}]}\n",
        "run: x\nsecrets: {A: null}\n", "run: x\nresources: {accelerators: [A:1, B:2]}\n",
        "run: x\nresources: {accelerators: {A:1, B:1}}\n", "run: x\nresources: {accelerators: A:0.5}\n",
        "name: x\n---\nrun: x\n---\nrun: y\n",
    ],
)  # fmt: skip
def test_a_file_of_skypilot_is_known_by_its_words(text: str) -> None:
    assert is_sky(text)


@pytest.mark.parametrize(
    "text",
    [
        "run: x\nsetup: y\n",
        "run: x\n", "run: x\nresources: {accelerators: 'A100:8', cpus: 4}\nnum_nodes: 2\n",
        "run: x\nworkdir: .\n", "run: x\nsetup: y\nenv: {}\n", "tasks: {a: {run: x, setup: y}}\n",
        "command: x\nresources: {infra: aws}\n", "run: x\nresources: {gpus: A100, region: x, arch: arm64}\n",
        "- run: x\n", "words\n", "", "run: x\n--- words\n",
        "command: x\n---\nrun: x\n", "tasks: {}\n---\nrun: x\n",
    ],
)  # fmt: skip
def test_what_both_would_take_is_ours(text: str) -> None:
    assert not is_sky(text)


# --- whatever comes -----------------------------------------------------------------------------------

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
likely = st.sampled_from(
    ["x", "A100:8", "4+", 0, 1, True, [], {}, ["a"], {"a": None}, "docker:x", [None]]
)
resource_keys = st.sampled_from([*shape.RESOURCES, "x"])
candidates = st.dictionaries(resource_keys, likely | values, max_size=4)
resource_objects = candidates | st.fixed_dictionaries({"any_of": st.lists(candidates, max_size=3)})
contents = st.dictionaries(
    st.sampled_from([*shape.TASK, *shape.HEADER, "x"]),
    likely | values | resource_objects,
    max_size=6,
)


@settings(max_examples=400, deadline=None)
@given(found=st.lists(contents | values, min_size=1, max_size=3))
def test_any_documents_are_read_or_refused(found: list[Any]) -> None:
    documents = [
        Document("x.yaml", {"run": "x", **c} if isinstance(c, dict) else c, dict) for c in found
    ]
    assert recognise.is_sky(documents) in {True, False}
    with contextlib.suppress(InvalidSpec):
        made = pipeline.read(documents, {"A": "1"})
        made.body(later=True)
        made.job().check()
