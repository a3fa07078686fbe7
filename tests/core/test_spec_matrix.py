"""`matrix`: which combinations it makes, what it refuses, and that a short document makes no huge job."""

import json

import pytest

from styx.core import form
from styx.core.spec import TaskSpec
from styx.errors import InvalidSpec


def check_task(document: object) -> TaskSpec:
    return form.check_alone(document).tasks[0]


def elements(**axes: object) -> list[dict[str, str]]:
    spec = check_task({"command": "x", "matrix": axes})
    assert spec.matrix
    assert spec.array_count == len(spec.array_values)
    return [json.loads(value) for value in spec.array_values]


def refused(axes: object, **more: object) -> dict[str, str]:
    with pytest.raises(InvalidSpec) as caught:
        check_task({"command": "x", "matrix": axes, **more})
    return {error.path: error.message for error in caught.value.errors}


def test_every_combination_the_last_axis_first() -> None:
    assert elements(lr=[1e-4, "x"], seed="0..1") == [
        {"lr": "0.0001", "seed": "0"},
        {"lr": "0.0001", "seed": "1"},
        {"lr": "x", "seed": "0"},
        {"lr": "x", "seed": "1"},
    ]


def test_include_and_exclude() -> None:
    found = elements(
        a=[1, 2], b=[True, False], exclude=[{"a": 1, "b": True}], include=[{"a": 9, "b": 9}]
    )
    assert found == [
        {"a": "1", "b": "false"}, {"a": "2", "b": "true"}, {"a": "2", "b": "false"},
        {"a": "9", "b": "9"},
    ]  # fmt: skip


def test_combinations_one_by_one() -> None:
    rows = [{"a": 1, "b": 2}, {"b": 4, "a": 3}]
    assert elements(include=rows) == [{"a": "1", "b": "2"}, {"b": "4", "a": "3"}]


def test_an_element_is_read_as_it_was_written() -> None:
    spec = check_task({"command": "x", "matrix": {"a": ['"\n', "é"]}})
    assert [spec.variables(value) for value in spec.array_values] == [{"a": '"\n'}, {"a": "é"}]


@pytest.mark.parametrize(
    ("axes", "path"),
    [
        (7, "matrix"),
        ({}, "matrix"),
        ({"a": 7}, "matrix.a"),
        ({"a": []}, "matrix.a"),
        ({"a": "1..0"}, "matrix.a"),
        ({"a": "0..100000"}, "matrix.a"),
        ({"a": [[1]]}, "matrix.a[0]"),
        ({"a-b": [1]}, "matrix.a-b"),
        ({"a": [1], "include": [{"b": 1}]}, "matrix.include[0]"),
        ({"a": [1], "include": {"a": 1}}, "matrix.include"),
        ({"a": [1], "exclude": [{"b": 1}]}, "matrix.exclude[0]"),
        ({"a": [1], "exclude": [{}]}, "matrix.exclude[0]"),
        ({"a": [1], "exclude": [{"a": 1}]}, "matrix"),
        ({"a": [1], "exclude": [{"a": 1}] * 101}, "matrix.exclude"),
        ({"a": "0..999", "b": "0..999"}, "matrix"),
        ({"a": "0..9999", "b": ["x" * 30_000]}, "matrix"),
    ],
)
def test_what_is_no_matrix(axes: object, path: str) -> None:
    assert list(refused(axes)) == [path]


def test_a_matrix_is_an_array_already() -> None:
    assert refused({"a": [1]}, array=2) == {"matrix": "give either `array` or `matrix`, not both"}
