"""Seeds whose machines run the real supervisor and journal, on a simulated kernel."""

from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

from tests.sim import trial
from tests.sim.kernel import close_below
from tests.sim.machine import Machine
from tests.sim.plan import draw

FOUND = (19, 23)  # a supervisor killed between claim and start: the claim was said to run


@pytest.fixture(autouse=True)
def _real(tmp_path: Path) -> Iterator[None]:
    with mock.patch.object(trial, "Machine", Machine), mock.patch.object(trial, "SHM", tmp_path):
        yield
    close_below(tmp_path)


@pytest.mark.parametrize("seed", FOUND)
def test_a_real_supervisor_killed_at_any_system_call_breaks_no_promise(seed: int) -> None:
    assert trial.run(draw(seed)).violation is None


def test_its_seed_decides_everything() -> None:
    assert trial.run(draw(19)).digest == trial.run(draw(19)).digest
