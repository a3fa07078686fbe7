"""A child that must not outlive its parent, however the parent ends."""

import ctypes
import os
import signal
import sys
from collections.abc import Callable
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
_libc: Final = ctypes.CDLL(None)


def die_with_me(sent: signal.Signals) -> Callable[[], None] | None:
    """What a child runs between fork and exec, to be sent a signal when the thread that made it ends.

    None where the kernel knows no such thing: there the child may be left behind by a kill -9.
    Source: prctl(2), PR_SET_PDEATHSIG.
    """
    if sys.platform != "linux":
        return None
    parent = os.getpid()

    def prepare() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, int(sent))
        if os.getppid() != parent:  # it ended before we asked to be told
            os._exit(1)

    return prepare
