"""The readable specification: each file of `scenarios/` is a script and what it leads to.

`STYX_GOLDEN=write pytest tests/core/test_scenarios.py` writes what happens now; read the diff.
"""

import os
from pathlib import Path

import pytest

from tests.support.scenario import play

SCENARIOS = sorted(Path(__file__).with_name("scenarios").glob("*.txt"))


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda p: p.stem)
def test_scenario(path: Path):
    text = path.read_text()
    played = play(text)
    if os.environ.get("STYX_GOLDEN") == "write":
        path.write_text(played)
    assert played == text


def test_there_are_scenarios_and_a_wrong_transcript_is_noticed():
    assert len(SCENARIOS) >= 8
    script = "> agent a1\n    agent a1: gone\n"
    assert play(script) != script
