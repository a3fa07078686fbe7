"""When Python looks for garbage that counting references does not find: seldom.

Nearly all that a server makes is gone when its last reference goes, or lives for long. With Python's own
thresholds looking for the rest took a quarter of its CPU, and longer the more tasks it had in memory.
"""

import gc
from typing import Final

YOUNG: Final = 50_000  # objects made and still there, from one look at the youngest to the next
MIDDLE: Final = 20  # of those from one look at what outlived them to the next
OLD: Final = 50  # and so on


def look_not() -> None:
    """While nothing is made but what stays: modules, and the world as it is loaded."""
    gc.disable()


def look_seldom() -> None:
    """From now on, and never at what is there now."""
    gc.freeze()
    gc.set_threshold(YOUNG, MIDDLE, OLD)
    gc.enable()
