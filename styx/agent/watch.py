"""Which files of the spool have grown: told by the kernel where it can, else asked from time to time."""

import asyncio
import ctypes
import os
import struct
import sys
from collections.abc import Callable, Iterable
from typing import Final

PAUSE_S: Final = 0.02  # between two readings: a flood of writes costs 50 wake-ups a second, no more
POLL_S: Final = 0.2  # where there is no inotify
_IN_MODIFY: Final = 0x2  # linux/inotify.h
_IN_Q_OVERFLOW: Final = 0x4000
_EVENT: Final = struct.Struct("iIII")  # wd, mask, cookie, length of the name that follows
_BUFFER_BYTES: Final = 1 << 16
_libc: Final = ctypes.CDLL(None)


class Watch:
    """Calls `on_growth` with the names of files that were written to; None: any of them may have been.

    It watches while somebody wants it to. A task so short that nobody follows it wakes nobody.
    """

    def __init__(self, directory: str, on_growth: Callable[[Iterable[str] | None], None]) -> None:
        self._directory = directory
        self._on_growth = on_growth
        self._wanted = asyncio.Event()

    def want(self, wanted: bool) -> None:
        if wanted:
            self._wanted.set()
        else:
            self._wanted.clear()

    async def run(self) -> None:
        file = _inotify()
        try:
            while True:
                await self._wanted.wait()
                await asyncio.sleep(PAUSE_S)
                if not self._wanted.is_set():
                    continue
                # One descriptor for good: to close it makes the kernel wait for 10 ms.
                watch = -1 if file is None else _add_watch(file, self._directory)
                self._on_growth(None)  # what was written before
                if file is None or watch < 0:
                    await self._poll()
                else:
                    await self._follow(file)
                    _libc.inotify_rm_watch(file, watch)
        finally:
            if file is not None:
                os.close(file)

    async def _poll(self) -> None:
        while self._wanted.is_set():
            await asyncio.sleep(POLL_S)
            self._on_growth(None)

    async def _follow(self, file: int) -> None:
        readable = asyncio.Event()
        loop = asyncio.get_running_loop()
        while self._wanted.is_set():
            readable.clear()
            loop.add_reader(file, readable.set)
            try:
                await readable.wait()
            finally:
                loop.remove_reader(file)
            names = _names(os.read(file, _BUFFER_BYTES))
            if names != set():
                self._on_growth(names)
            await asyncio.sleep(PAUSE_S)


def _inotify() -> int | None:
    if sys.platform != "linux":
        return None
    file = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    return None if file < 0 else file  # EMFILE: this user has too many of them


def _add_watch(file: int, directory: str) -> int:
    """The watch, or -1 when this user has too many of them (ENOSPC)."""
    return _libc.inotify_add_watch(file, os.fsencode(directory), _IN_MODIFY)


def _names(events: bytes) -> set[str] | None:
    names: set[str] = set()
    at = 0
    while at < len(events):
        _, mask, _, length = _EVENT.unpack_from(events, at)
        if mask & _IN_Q_OVERFLOW:
            return None
        at += _EVENT.size
        if mask & _IN_MODIFY:  # not IN_IGNORED, the end of a watch
            names.add(os.fsdecode(events[at : at + length].rstrip(b"\0")))
        at += length
    return names
