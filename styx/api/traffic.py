"""What the gate counts of the requests that pass. Plain numbers, with labels of a bounded kind only."""

from collections import Counter
from typing import Final

from styx.kit.tally import Spread

OTHER: Final = "other"  # no route of ours, or refused before it was known
FORWARDED: Final = "forwarded"  # to the leader, whose own counts name the route
ANSWER_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30)
METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"})


class Traffic:
    """`refused` counts by the code of the problem."""

    def __init__(self) -> None:
        self.open = 0  # requests and WebSockets
        self.requests: Counter[tuple[str, str, int]] = (
            Counter()
        )  # route, method, hundreds of status
        self.answer_s: dict[tuple[str, str], Spread] = {}  # to the first byte, by route and method
        self.refused: Counter[str] = Counter()

    def answered(self, route: str, method: str, status: int, took_s: float) -> None:
        method = method if method in METHODS else OTHER  # a client may call it anything
        self.requests[route, method, status // 100] += 1
        spread = self.answer_s.get((route, method))
        if spread is None:
            spread = self.answer_s[route, method] = Spread(ANSWER_S)
        spread.add(took_s)
