"""What the link makes of the journal's lines."""

from pathlib import Path

from styx.agent.roster import Roster, parse_key
from styx.core.attempt import AttemptState
from styx.wire import agent as wire

KEY = parse_key("00000000-0000-7000-8000-000000000001.1.0")


def test_a_claim_alone_is_not_said_to_run(tmp_path: Path) -> None:
    """Its supervisor may have died between claim and start; found by the simulator."""
    roster = Roster(str(tmp_path), {})
    entry = roster.add(KEY)
    roster.apply(entry, {"k": str(KEY), "at": 1.0, "gpus": []})
    assert entry.state is AttemptState.ACCEPTED
    assert entry.event() == wire.EvAccepted(KEY)
    assert (roster.live, roster.running) == (1, 0)
    roster.apply(entry, {"k": str(KEY), "pid": 7})
    assert entry.state is AttemptState.RUNNING
    assert (roster.live, roster.running) == (1, 1)
