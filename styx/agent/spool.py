"""Reading what tasks wrote, and letting go of what the server has.

A task appends to two files of the spool by itself; here they are only read. What the server has
stored is freed by punching holes, so a spool stays small while its file keeps growing; a hole that
the server has not got is a gap, and is found again as such by any later process.
"""

import ctypes
import os
import sys
import zlib
from collections.abc import Iterable
from typing import Final

from styx.agent.redact import Veil
from styx.core.ids import AttemptKey
from styx.wire import agent as wire

OUT: Final = 1
ERR: Final = 2
ALIGN_BYTES: Final = 1 << 16  # a multiple of every usual block: punching a part of one writes zeros
BLOCK_BYTES: Final = 512  # of `st_blocks`, whatever the disk's own blocks are
SLACK: Final = 8  # a part of a cap: so much more than need be is dropped, for company
FREE_FROM_BYTES: Final = 1 << 20  # less is not worth a system call: it goes with the file
_KEEP_SIZE_PUNCH_HOLE: Final = 1 | 2  # linux/falloc.h
_libc: Final = ctypes.CDLL(None)

Message = wire.Log | wire.Gap


class Stream:
    """One stream of one attempt: `sent` is where the next byte to send lies, `acked` what the server
    has, `final` the length once the attempt is over.
    """

    __slots__ = (
        "_freed",
        "_holed",
        "acked",
        "final",
        "key",
        "name",
        "number",
        "path",
        "sent",
        "veil",
    )

    def __init__(self, key: AttemptKey, number: int, path: str, *, found: bool) -> None:
        """`found`: written under an earlier link, which may have dropped bytes."""
        self.key = key
        self.number = number
        self.path = path
        self.name = path.rpartition("/")[2]
        self.sent = 0
        self.acked = 0
        self.final: int | None = None
        self.veil: Veil | None = None  # over what is sent
        self._freed = 0
        self._holed = found

    def restart(self, offset: int) -> None:
        """A new session begins, and its server has everything before `offset`."""
        self.sent = self.acked = offset
        if offset < self._freed:  # it had more once, and has lost it
            self._holed = True

    def written_earlier(self) -> None:
        """Under another link, which may have dropped bytes."""
        self._holed = True

    def length(self) -> int:
        if self.final is not None:
            return self.final
        try:
            return os.stat(self.path).st_size
        except FileNotFoundError:
            return 0

    def read(self, limit: int) -> tuple[list[Message], bool]:
        """The next bytes to send, about `limit` at most, and whether there are more."""
        try:
            file = os.open(self.path, os.O_RDONLY)
        except FileNotFoundError:
            return self._gone(), False
        try:
            end = os.fstat(file).st_size if self.final is None else self.final
            messages: list[Message] = []
            while limit > 0 and self.sent < end:
                if self.veil and limit < wire.MAX_LOG_BYTES and self.sent + limit < end:
                    break  # a value may be as long as that
                message = self._next(file, min(end, self.sent + limit), end)
                if message is None:
                    return messages, False  # until it grows
                messages.append(message)
                limit -= len(message.data) if isinstance(message, wire.Log) else 0
            return messages, self.sent < end
        finally:
            os.close(file)

    def acknowledge(self, offset: int) -> None:
        """The server has everything before `offset`; give the disk its blocks back."""
        self.acked = offset
        if offset - self._freed >= FREE_FROM_BYTES:
            end = offset // ALIGN_BYTES * ALIGN_BYTES
            _punch(self.path, self._freed, end)
            self._freed = end

    def kept_bytes(self) -> int:
        """How much of the disk it takes that the server has not acknowledged."""
        try:
            found = os.stat(self.path)
        except FileNotFoundError:
            return 0
        # By its blocks: what a former link freed or dropped is no longer there.
        return max(0, min(found.st_size - self.acked, found.st_blocks * BLOCK_BYTES))

    def drop(self, size: int) -> int:
        """Let go of the oldest unsent bytes, about so many; returns of how many."""
        try:
            file = os.open(self.path, os.O_RDONLY)
        except FileNotFoundError:
            return 0
        try:
            first = os.lseek(file, -(-self.sent // ALIGN_BYTES) * ALIGN_BYTES, os.SEEK_DATA)
        except OSError:  # ENXIO: there is nothing
            return 0
        finally:
            os.close(file)
        first = -(-first // ALIGN_BYTES) * ALIGN_BYTES
        last = min(first + size, self.length()) // ALIGN_BYTES * ALIGN_BYTES
        if last <= first or not _punch(self.path, first, last):
            return 0
        self._holed = True
        return last - first

    def _next(self, file: int, stop: int, end: int) -> Message | None:
        """None: what there is may be the beginning of what is masked."""
        start = self.sent
        data_at = self._data_at(file, end) if self._holed else start
        if data_at > start:
            self.sent = data_at
            return wire.Gap(self.key, self.number, start, data_at, "spool_cap")
        size = min(stop - start, wire.MAX_LOG_BYTES)
        read = min(size + self.veil.reach, end - start) if self.veil else size
        data = os.pread(file, read, start)
        more = self.final is None or start + len(data) < end
        if self._holed:  # a hole may begin inside what was read
            hole_at = self._hole_at(file, start + len(data))
            more = more and hole_at == start + len(data)
            data = data[: hole_at - start]
        if not data:  # cut short by hand: the attempt would never be complete
            self.sent = end
            return wire.Gap(self.key, self.number, start, end, "lost")
        if self.veil:
            data = self.veil.masked(data, size, more=more)
            if not data:
                return None
        self.sent += len(data)
        return wire.Log(self.key, self.number, start, data, zlib.crc32(data))

    def _data_at(self, file: int, end: int) -> int:
        try:
            return min(os.lseek(file, self.sent, os.SEEK_DATA), end)
        except OSError:  # ENXIO: nothing but a hole from here on
            return end

    def _hole_at(self, file: int, end: int) -> int:
        return min(os.lseek(file, self.sent, os.SEEK_HOLE), end)

    def _gone(self) -> list[Message]:
        end = self.final or 0
        if self.sent >= end:
            return []
        start, self.sent = self.sent, end
        return [wire.Gap(self.key, self.number, start, end, "lost")]


class Spool:
    """Which streams may have something to send. What waits for the server is bounded twice: by
    `attempt_cap_bytes` for both streams of one attempt, by `cap_bytes` for all of them together.
    """

    def __init__(self, attempt_cap_bytes: int, cap_bytes: int) -> None:
        self._attempt_cap_bytes = attempt_cap_bytes
        self._cap_bytes = cap_bytes
        self._by_name: dict[str, Stream] = {}
        self._dirty: dict[Stream, None] = {}

    def __bool__(self) -> bool:
        return bool(self._dirty)

    def add(self, streams: Iterable[Stream]) -> None:
        for stream in streams:
            self._by_name[stream.name] = stream

    def remove(self, streams: Iterable[Stream]) -> None:
        for stream in streams:
            self._by_name.pop(stream.name, None)
            self._dirty.pop(stream, None)

    def take_all(self, streams: Iterable[Stream], limit: int) -> list[Message] | None:
        """All that is unsent of an ended attempt, if it is no more than `limit`."""
        messages: list[Message] = []
        unsent = sum(max(0, stream.length() - stream.sent) for stream in streams)
        if unsent > limit:
            return None
        for stream in streams:
            if stream.sent < stream.length():
                messages += stream.read(limit)[0]
            self._dirty.pop(stream, None)
        return messages

    def touch(self, names: Iterable[str] | None) -> None:
        """These files have grown; None: any may have."""
        for name in self._by_name if names is None else names:
            if (stream := self._by_name.get(name)) and stream.sent != stream.final:
                self._dirty[stream] = None

    def mark(self, streams: Iterable[Stream]) -> None:
        """These have something left to send."""
        self._dirty |= dict.fromkeys(streams)

    def take(self, limit: int) -> list[Message]:
        """The next log bytes, about `limit` at most, a fair share of each stream in turn."""
        messages: list[Message] = []
        while limit > 0 and self._dirty:
            stream = next(iter(self._dirty))
            del self._dirty[stream]
            got, more = stream.read(min(limit, wire.MAX_LOG_BYTES))
            if more:
                self._dirty[stream] = None
                if not got:
                    break  # it wants more room than is left
            messages += got
            limit -= size(got)
        return messages

    def shorten(self) -> None:
        """Keep what waits for the server within its caps, at the cost of the largest."""
        by_attempt: dict[AttemptKey, dict[Stream, int]] = {}
        for stream in self._dirty:
            by_attempt.setdefault(stream.key, {})[stream] = stream.kept_bytes()
        every: dict[Stream, int] = {}
        for kept in by_attempt.values():
            if sum(kept.values()) > self._attempt_cap_bytes:
                _shed(kept, sum(kept.values()) - self._attempt_cap_bytes // 2, share=1)
            every |= kept
        if (total := sum(every.values())) > self._cap_bytes:
            _shed(every, total - self._cap_bytes + self._cap_bytes // SLACK, share=2)


def _shed(kept: dict[Stream, int], excess: int, *, share: int) -> None:
    """Drop so many bytes, of each stream no more than a part, beginning with those that keep most."""
    for stream in sorted(kept, key=kept.__getitem__, reverse=True):
        if excess <= 0:
            return
        dropped = stream.drop(min(excess, kept[stream] // share))
        kept[stream] -= dropped
        excess -= dropped


def size(messages: Iterable[Message]) -> int:
    """How many bytes of a stream these stand for."""
    return sum(
        len(message.data) if isinstance(message, wire.Log) else message.end - message.start
        for message in messages
    )


def _punch(path: str, start: int, end: int) -> bool:
    """Give back the blocks of a part of a file. False where the system or its disk cannot."""
    if sys.platform != "linux":
        return False
    try:
        file = os.open(path, os.O_WRONLY)
    except OSError:
        return False
    try:
        length = ctypes.c_int64(end - start)
        return _libc.fallocate(file, _KEEP_SIZE_PUNCH_HOLE, ctypes.c_int64(start), length) == 0
    finally:
        os.close(file)
