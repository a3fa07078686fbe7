"""Frames as this version's first agents and servers sent them: whatever changes, they are still read."""

from pathlib import Path

import msgspec
import pytest

from styx.wire import agent as wire

FRAMES = sorted((Path(__file__).parent / "golden").glob("*.bin"))


@pytest.mark.parametrize("path", FRAMES, ids=lambda path: path.stem)
def test_a_frame_of_an_earlier_version_reads_as_it_did(path: Path):
    from_agent = path.stem.startswith("agent")
    decode = wire.decode_from_agent if from_agent else wire.decode_from_server
    kind = wire.FromAgent if from_agent else wire.FromServer
    said = msgspec.json.decode(path.with_suffix(".json").read_bytes(), type=list[kind])
    assert decode(path.read_bytes()) == said
    assert said
