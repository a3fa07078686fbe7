"""What is brought back of a task, and who is given it."""

import pytest

from styx.core import form, output
from styx.core.feature import Feature
from styx.core.ids import JobId
from styx.core.spec import Input, Output, TaskSpec
from styx.errors import InvalidSpec


def of_task(value: object) -> tuple[Output, ...]:
    return form.check_alone({"command": "x", "outputs": value}).tasks[0].outputs


def job(**tasks: dict[str, object]) -> dict[str, TaskSpec]:
    document = {"tasks": {name: {"command": "x", **task} for name, task in tasks.items()}}
    return {spec.name: spec for spec in form.check_job(document).tasks}


def test_its_own_directory_always_counts():
    assert of_task(True) == (Output(),)
    assert of_task(False) == of_task([]) == ()
    assert of_task("./a/") == (Output(), Output("a"))
    assert of_task([{"path": "m", "to": "s3://b/p/"}]) == (Output(), Output("m", "s3://b/p/"))
    assert of_task([{"to": "s3://b/p/"}]) == (Output(to="s3://b/p/"),), "instead of the server"


def test_who_needs_it_is_given_it():
    specs = job(
        a={"outputs": True, "array": 3},
        b={"outputs": [{"to": "s3://b/"}]},
        c={"needs": ["a", "b"]},
    )
    assert specs["c"].inputs == (Input("a", "a"),), "what went into a bucket is there"
    assert specs["c"].requirements.features == (Feature.OUTPUTS,)
    assert specs["b"].requirements.features == (Feature.OUTPUTS, Feature.STORAGE)


def test_one_task_is_given_so_many_at_most():
    wide = {"command": "x", "outputs": True, "array": output.MAX_GIVEN + 1}
    with pytest.raises(InvalidSpec, match=r"tasks\.b\.needs: the outputs of 10,001 tasks"):
        form.check_job({"tasks": {"a": wide, "b": {"command": "x", "needs": ["a"]}}})


def test_tried_again_twice_it_keeps_its_place():
    """`a` was an array whose third element failed, and failed again."""
    spec = job(a={"outputs": True, "array": 3}, b={"needs": ["a"]})["b"]
    once = output.again(spec, JobId("j1"), [("a", Input("", "a-2", index=2))])
    assert once == (Input("a", "a-2", index=2), Input("a", "a", JobId("j1")))
    spec = TaskSpec("b", inputs=once)
    twice = output.again(spec, JobId("j2"), [("a-2", Input("", "a-2"))])
    assert twice == (
        Input("a", "a-2", index=2),
        Input("a", "a-2", JobId("j2"), index=2),
        Input("a", "a", JobId("j1")),
    )
