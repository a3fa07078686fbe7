"""The JSON Schema names what the check reads, and refers to nothing that is not there."""

import msgspec
import pytest

from styx.core import form, model
from styx.file import schema
from styx.file.job import NO_DEFAULT


def test_a_job_has_its_own_fields_and_those_of_a_task_that_may_be_defaults() -> None:
    shapes = schema.schema()["$defs"]
    names = ("TaskForm", "JobForm")
    task, job = (set(shapes[name]["properties"]) - {"$schema", "schedule"} for name in names)
    assert task == set(form.TASK)
    assert job == (task - NO_DEFAULT) | set(model.JobForm.__struct_fields__)
    assert shapes["JobForm"]["properties"]["labels"]["description"].startswith("Of the job")


def test_every_reference_resolves() -> None:
    whole = schema.schema()
    text = msgspec.json.encode(whole).decode()
    names = {part.split('"')[0] for part in text.split("#/$defs/")[1:]}
    assert {"TaskForm", "JobForm", "ResourcesForm", "Priority"} <= names <= set(whole["$defs"])


def test_every_field_is_described() -> None:
    shapes = schema.schema()["$defs"]
    bare = [
        f"{name}.{key}"
        for name, shape in shapes.items()
        for key, field in shape.get("properties", {}).items()
        if not field.get("description")
    ]
    assert bare == []


@pytest.mark.parametrize(
    "document",
    [
        {"run": "x", "needs": "a", "priority": "high", "resources": {"gpus": {"A100": 8}}},
        {"command": ["a", 1, True], "array": {"over": [1, "b"]}, "timeout": "1h"},
    ],
)
def test_what_the_check_takes_has_the_types_of_the_schema(document: dict[str, object]) -> None:
    """The schema is drawn from these structs; so what converts is what it allows."""
    form.check_job({"tasks": {"a": {"run": "y"}, "b": document}})
    msgspec.convert(document, model.TaskForm)
