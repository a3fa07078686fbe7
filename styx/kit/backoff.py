"""How long to wait before trying again: full jitter, so that many who failed at once do not return at once.

Source: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
"""

import random as _random
from collections.abc import Callable
from typing import Final

_DOUBLINGS_MAX: Final = 30  # 2**30 of any base is beyond every cap; keeps the power finite


class Backoff:
    """Waits for one series of tries: uniform between 0 and `base_s` doubled each time, up to `cap_s`."""

    def __init__(
        self, *, base_s: float, cap_s: float, random: Callable[[], float] = _random.random
    ) -> None:
        self._base_s = base_s
        self._cap_s = cap_s
        self._random = random
        self._tries = 0

    def next_s(self) -> float:
        """The wait before the next try."""
        ceiling_s = min(self._cap_s, self._base_s * 2.0 ** min(self._tries, _DOUBLINGS_MAX))
        self._tries += 1
        return ceiling_s * self._random()

    def reset(self) -> None:
        """The last try worked: start small again."""
        self._tries = 0
