"""How much of one kind may come from one source: rates, and connections that nobody has vouched for yet."""

import asyncio
import ipaddress
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import takewhile
from typing import Final

SOURCES: Final = 4_096  # remembered by a rate; beyond, the oldest begins anew
NEWCOMERS: Final = 256  # older ones, of all addresses together; beyond, the oldest goes
NEWCOMERS_OF_ONE: Final = 64  # of one address
# A burst of a thousand agents is let in while each says who it is: only who has had that long to do so
# makes room for others.
SETTLING_S: Final = 2.0
INTRODUCED_WITHIN_S: Final = 10.0  # a head and a credential fit into one packet


class Rates:
    """A bucket of `burst` for each source, refilled at `per_s`. A rate of 0 is no limit."""

    def __init__(self, per_s: float, burst: float, clock: Callable[[], float]) -> None:
        self._per_s = per_s
        self._burst = burst
        self._clock = clock
        self._levels: dict[str, tuple[float, float]] = {}

    def take(self, source: str) -> float:
        """Take one; return 0, or in how many seconds there will be one."""
        if not self._per_s:
            return 0.0
        now_s = self._clock()
        level, at_s = self._levels.pop(source, (self._burst, now_s))
        level = min(self._burst, level + (now_s - at_s) * self._per_s)
        allowed = level >= 1.0
        if len(self._levels) >= SOURCES:
            del self._levels[next(iter(self._levels))]
        self._levels[source] = (level - 1.0 if allowed else level, now_s)
        return 0.0 if allowed else (1.0 - level) / self._per_s


@dataclass(eq=False)
class Newcomer:
    """A connection on which nobody has said yet who they are."""

    address: str
    since_s: float
    hang_up: Callable[[], None]
    on_known: Callable[["Newcomer"], None]
    introduced: bool = False

    def known(self) -> None:
        """Somebody has been let in over it, or it has ended."""
        self.introduced = True
        self.on_known(self)


# Of the connection whose requests this task serves; the HTTP server's tasks inherit it.
newcomer: ContextVar[Newcomer | None] = ContextVar("newcomer", default=None)


class Newcomers:
    """Those of one server. A bound that is met costs the oldest its place: who is honest is gone from here
    within milliseconds.
    """

    def __init__(self) -> None:
        self._waiting: dict[Newcomer, asyncio.TimerHandle] = {}  # the oldest first

    def __len__(self) -> int:
        return len(self._waiting)

    def enter(self, address: str, hang_up: Callable[[], None]) -> Newcomer:
        loop = asyncio.get_running_loop()
        self._make_room(address, loop.time())
        entered = Newcomer(address, loop.time(), hang_up, self._leave)
        self._waiting[entered] = loop.call_later(INTRODUCED_WITHIN_S, self._send_away, entered)
        return entered

    def _make_room(self, address: str, now_s: float) -> None:
        settled = [*takewhile(lambda one: now_s - one.since_s > SETTLING_S, self._waiting)]
        of_address = [one for one in settled if one.address == address]
        excess = [*settled[: 1 - NEWCOMERS], *of_address[: 1 - NEWCOMERS_OF_ONE]]
        for one in dict.fromkeys(excess):
            self._send_away(one)

    def _leave(self, one: Newcomer) -> None:
        timer = self._waiting.pop(one, None)
        if timer is not None:
            timer.cancel()

    def _send_away(self, one: Newcomer) -> None:
        one.known()
        one.hang_up()


def network(address: str) -> str:
    """Whom an address stands for: of IPv6 everybody has a whole /64."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return address
    if parsed.ipv4_mapped:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((int(parsed), 64), strict=False).network_address)
