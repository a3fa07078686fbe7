"""How often an agent beats: a server of many asks each for fewer heartbeats, as Nomad's does.

So what idle agents cost stays bounded, and what is paid for it is that silence is noticed later. A connection
that is closed is noticed at once in any case.
"""

import math
from typing import Final

from styx.wire.agent import HEARTBEAT_S

BEATS_PER_S: Final = (
    50.0  # of all agents together, while none need beat less often than `EVERY_MAX` allows
)
EVERY_MAX: Final = (
    4  # a lease is then 20 s old at most: an assignment is stale after three times as much
)
BEATS_IN_LEASE: Final = 6  # so many at least before silence means loss


def every(agents: int, lost_after_s: float) -> int:
    """The periods from one heartbeat of an agent to the next, of so many agents."""
    wanted = math.ceil(agents / (BEATS_PER_S * HEARTBEAT_S))
    most = min(EVERY_MAX, int(lost_after_s / (BEATS_IN_LEASE * HEARTBEAT_S)))
    return max(1, min(wanted, most))
