"""What an agent must be able to do: from a document to the agent that is chosen."""

import msgspec
import pytest

from styx.core import form
from styx.core.feature import ALWAYS, Feature
from styx.core.match import why_never
from styx.errors import InvalidSpec
from tests.support.desk import Desk, a_capacity, a_task

BUNDLE = "0" * 64


def wanted(**fields: object):
    return form.check_alone({"command": "x", **fields}).tasks[0].requirements


def test_a_spec_knows_what_it_needs():
    assert wanted().features == ()
    assert wanted(bundle=BUNDLE).features == (Feature.FILES,)
    assert wanted(files={"~": BUNDLE}).features == (Feature.FILES,)
    assert wanted(image="a/b:1", bundle=BUNDLE).features == (Feature.FILES, Feature.IMAGE)


def test_what_no_container_could_see_is_refused():
    with pytest.raises(InvalidSpec, match="only the work directory and the home are seen"):
        wanted(image="a", files={"/": BUNDLE})


def test_an_engine_that_does_not_answer_is_told_from_none():
    d = Desk()
    silent = msgspec.structs.replace(a_capacity(2), features=(*ALWAYS, "docker_silent"))
    agents = [d.join("none", capacity=a_capacity(2)), d.join("silent", capacity=silent)]
    said = [why_never(wanted(image="a"), d.world.agents[agent]) for agent in agents]
    assert [why.message if why else "" for why in said] == [
        "has neither podman nor docker, or is of a version that runs no images",
        "has docker, but its daemon does not answer the agent's user",
    ]


def test_only_an_agent_that_can_is_given_it():
    d = Desk()
    d.join("old", capacity=a_capacity(8))
    (task,) = d.submit(a_task(requirements=wanted(bundle=BUNDLE)))
    assert not d.started
    new = d.join("new", capacity=msgspec.structs.replace(a_capacity(2), features=ALWAYS))
    assert [attempt.agent_id for attempt in d.world.attempts_of_task(task)] == [new]


def test_a_setup_is_not_for_an_agent_that_would_leave_it_out():
    assert wanted(setup="make").features == (Feature.SETUP,)
    assert Feature.SETUP not in ALWAYS
