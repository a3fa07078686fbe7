"""What must outlive the supervisor: which attempts were claimed, and how they ended.

An append-only file of JSON lines. A line names an attempt and the fields that changed, so the state
of an attempt is simply the merge of its lines:

    {"k": key, "at": s, "gpus": [0]}   claimed at that moment; written before its process exists
    {"k": key, "pid": n}               its process
    {"k": key, "unkillable": true}     killed a minute ago, and not gone yet
    {"k": key, "exit": {…}}            how it ended (the fields of `core.attempt.Exit`)
    {"k": key, "void": why, "detail"}  a tombstone: never started, and never will be
    {"k": key, "forget": true}         the server has everything; the key stays known for a while
    {"boot": id}                       what follows happened in this boot of the machine
    {"lease": s}                       until when exclusive attempts may run

A plain write survives `kill -9` of anything; only a power cut needs the disk to be told.
"""

from __future__ import annotations

import errno
import json
import os

from styx.agent import home

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Final

RESERVE_BYTES: Final = 1 << 20  # some 5,000 records
COMPACT_AFTER_LINES: Final = 10_000  # a quarter of a second to read again, 2 MiB

FORGOTTEN_KEPT: Final = 4_096  # keys that may not start again; the oldest go: at most 1 MiB

encode: Final = json.JSONEncoder(separators=(",", ":")).encode


class Journal:
    """Owned by the one process that holds the home's lock. `attempts` is the state by key."""

    def __init__(self, directory: str, sync: Callable[[int], None] = os.fsync) -> None:
        self._sync = sync
        self._path = os.path.join(directory, home.JOURNAL)
        self._reserve = os.path.join(directory, home.RESERVE)
        self._pending: list[str] = []
        self._lines = 0
        self.boot = ""
        self.lease = 0.0
        self.attempts: dict[str, dict[str, Any]] = {}
        self.forgotten: dict[str, None] = {}  # oldest first
        self._load()
        self._compact()
        self._hold_reserve()

    def write(self, record: dict[str, Any], *, durable: bool = False) -> None:
        """Record now, after all that was recorded later; `durable` also against a power cut.

        Raises: OSError, with nothing recorded, when the disk is full.
        """
        self._append([*self._pending, encode(record)])
        self._pending.clear()
        if durable:
            self._sync(self._file)
        self._merge(record)

    def later(self, record: dict[str, Any]) -> str:
        """Record at the next `flush`: nothing may be told to anybody before. Returns the line."""
        line = encode(record)
        self._pending.append(line)
        self._merge(record)
        return line

    def flush(self) -> None:
        """Raises: OSError, with all still pending, when the disk is full."""
        if self._pending:
            self._append(self._pending)
            self._pending.clear()
            if self._lines > COMPACT_AFTER_LINES + 4 * (len(self.attempts) + len(self.forgotten)):
                self._compact()

    def _append(self, lines: list[str]) -> None:
        data = ("\n".join(lines) + "\n").encode()
        try:
            self._write_whole(data)
        except OSError:
            if not os.path.exists(self._reserve):
                raise
            os.unlink(self._reserve)
            self._write_whole(data)
        self._lines += len(lines)

    def _write_whole(self, data: bytes) -> None:
        written = os.write(self._file, data)
        if written < len(data):
            # A torn line would swallow the one that follows it.
            os.ftruncate(self._file, os.fstat(self._file).st_size - written)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _load(self) -> None:
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        with open(self._path, "rb") as file:
            content = file.read()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):  # the tail of a write that a crash cut short: it never happened
            os.ftruncate(self._file, whole)
        for line in content[:whole].splitlines():
            try:
                record = json.loads(line)
            except ValueError:  # a damaged disk; the lines around it still stand
                continue
            if isinstance(record, dict):
                self._merge(record)  # pyright: ignore[reportUnknownArgumentType]: any JSON object

    def _merge(self, record: dict[str, Any]) -> None:
        key = record.get("k")
        if key is None:
            self.boot = record.get("boot", self.boot)
            self.lease = record.get("lease", self.lease)
        elif record.get("forget"):
            self.attempts.pop(key, None)
            self.forgotten[key] = None
            if len(self.forgotten) > FORGOTTEN_KEPT:
                del self.forgotten[next(iter(self.forgotten))]
        else:
            self.attempts.setdefault(key, {}).update(record)

    def _compact(self) -> None:
        """Write what still counts to a new file and put it in the old one's place."""
        new = self._path + ".new"
        lines = [
            encode({"boot": self.boot, "lease": self.lease}),
            *(encode({"k": key, "forget": True}) for key in self.forgotten),
            *map(encode, self.attempts.values()),
        ]
        self._lines = len(lines)
        try:
            with open(new, "wb", opener=_private) as writer:
                writer.write(("\n".join(lines) + "\n").encode())
                writer.flush()
                self._sync(writer.fileno())
            file = os.open(new, os.O_RDWR | os.O_APPEND)
            os.rename(new, self._path)
        except OSError:  # no room for a copy: the long file says the same
            return
        os.close(self._file)
        self._file = file
        self._sync_name()

    def _sync_name(self) -> None:
        """Else a power cut may bring the old file back, without the durable claims made since."""
        try:
            directory = os.open(os.path.dirname(self._path), os.O_RDONLY | os.O_DIRECTORY)
        except OSError:  # no descriptor is left
            return
        try:
            self._sync(directory)
        except OSError:  # a file system that knows no such thing
            pass
        finally:
            os.close(directory)

    def _hold_reserve(self) -> None:
        if os.path.exists(self._reserve):
            return
        try:
            with open(self._reserve, "wb", opener=_private) as file:
                file.write(bytes(RESERVE_BYTES))
        except OSError:
            if os.path.exists(self._reserve):
                os.unlink(self._reserve)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
