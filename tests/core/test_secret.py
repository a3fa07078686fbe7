"""`secrets` in a task: names are read, and what is no name is refused without being shown."""

from typing import Any

import pytest

from styx.core import form
from styx.core.feature import Feature
from styx.core.spec import TaskSpec
from styx.errors import InvalidSpec


def spec_of(**task: Any) -> TaskSpec:
    return form.check_alone({"run": "true", **task}).tasks[0]


@pytest.mark.parametrize(
    ("given", "read"),
    [
        (["A", "B"], {"A": "A", "B": "B"}),
        ({"HF_TOKEN": "hf-prod"}, {"HF_TOKEN": "hf-prod"}),
        ([], {}),
    ],
)
def test_a_list_is_of_variables_and_a_mapping_names_them(given: object, read: object) -> None:
    assert spec_of(secrets=given).secrets == read


def test_only_an_agent_that_takes_secrets_gets_it() -> None:
    assert spec_of(secrets=["A"]).requirements.features == (Feature.SECRETS,)
    assert spec_of().requirements.features == ()


def test_the_name_counts_for_the_cache() -> None:
    keys = {spec_of(cache=True, secrets=given).cache_key for given in ([], ["A"], {"A": "B"})}
    assert len(keys) == 3
    of_one_job = [{"A": f"~{digit * 36}"} for digit in "12"]
    assert len({spec_of(cache=True, secrets=given).cache_key for given in of_one_job}) == 1


@pytest.mark.parametrize(
    ("task", "path"),
    [
        ({"secrets": {"A": "hunter2 hunter2"}}, "secrets.A"),
        ({"secrets": ["hf-hunter2"]}, "secrets[0]"),
        ({"secrets": {"A": {"value": "hunter2"}}}, "secrets.A"),
        ({"secrets": ["A"], "env": {"A": "hunter2"}}, "secrets.A"),
    ],
)
def test_what_is_no_name_is_refused_and_not_shown(task: dict[str, Any], path: str) -> None:
    with pytest.raises(InvalidSpec) as error:
        spec_of(**task)
    assert [wrong.path for wrong in error.value.errors] == [path]
    assert "hunter2" not in str(error.value)
