"""What an agent must be able to do: from a document to the agent that is chosen."""

import msgspec

from styx.core import form
from styx.core.feature import ALWAYS, Feature
from tests.support.desk import Desk, a_capacity, a_task

BUNDLE = "0" * 64


def wanted(**fields: object):
    return form.check_alone({"command": "x", **fields}).tasks[0].requirements


def test_a_spec_knows_what_it_needs():
    assert wanted().features == ()
    assert wanted(bundle=BUNDLE).features == (Feature.FILES,)
    assert wanted(files={"~": BUNDLE}).features == (Feature.FILES,)


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
