"""Which files of the spool have grown: told by the kernel where it can, else asked from time to time."""

import asyncio
import ctypes
import errno
import os
import struct
import sys
from collections.abc import Callable, Iterable
from typing import Final

PAUSE_S: Final = (
    0.005  # between two readings: a flood of writes costs 200 wake-ups a second, no more
)
POLL_S: Final = 0.2  # where there is no inotify
_IN_MODIFY: Final = 0x2  # linux/inotify.h
_IN_Q_OVERFLOW: Final = 0x4000
_EVENT: Final = struct.Struct("iIII")  # wd, mask, cookie, length of the name that follows
_BUFFER_BYTES: Final = 1 << 16


class Watch:
    """Calls `on_growth` with the names of files that were written to; None: any of them may have been."""

    def __init__(self, directory: str, on_growth: Callable[[Iterable[str] | None], None]) -> None:
        self._directory = directory
        self._on_growth = on_growth

    async def run(self) -> None:
        file = _inotify(self._directory)
        if file is None:
            while True:
                await asyncio.sleep(POLL_S)
                self._on_growth(None)
        readable = asyncio.Event()
        loop = asyncio.get_running_loop()
        try:
            while True:
                readable.clear()
                loop.add_reader(file, readable.set)
                await readable.wait()
                loop.remove_reader(file)
                self._on_growth(_names(os.read(file, _BUFFER_BYTES)))
                await asyncio.sleep(PAUSE_S)
        finally:
            loop.remove_reader(file)
            os.close(file)


def _inotify(directory: str) -> int | None:
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None, use_errno=True)
    file = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    if file < 0 or libc.inotify_add_watch(file, os.fsencode(directory), _IN_MODIFY) < 0:
        if file >= 0:
            os.close(file)
        if ctypes.get_errno() in (errno.EMFILE, errno.ENOSPC, errno.ENOSYS):  # no more watches here
            return None
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), directory)
    return file


def _names(events: bytes) -> set[str] | None:
    names: set[str] = set()
    at = 0
    while at < len(events):
        _, mask, _, length = _EVENT.unpack_from(events, at)
        if mask & _IN_Q_OVERFLOW:
            return None
        at += _EVENT.size
        names.add(os.fsdecode(events[at : at + length].rstrip(b"\0")))
        at += length
    return names
