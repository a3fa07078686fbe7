"""Append-only files that all attempts share: a small output must not cost a file of its own.

A leader writes to files of its own term only, each of which it has made itself: one that was deposed and
does not know it yet cannot touch a byte of its successor's, in the same directory or elsewhere. What was
written and never recorded in the database (a crash lay between) is garbage that nobody reads.
"""

import contextlib
import os
import threading
from pathlib import Path
from typing import Final, NamedTuple

from styx.errors import StoreUnavailable

_sync: Final = getattr(os, "fdatasync", os.fsync)  # macOS has only the stronger one


TERM_SHIFT: Final = (
    24  # a segment's number is its term, and in the lower bits its place in the term
)


class Place(NamedTuple):
    segment: int
    position: int


class Segments:
    """Blocking; for a thread. One writer, any number of readers."""

    def __init__(self, directory: Path, segment_bytes: int, term: int) -> None:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._directory = directory
        self._segment_bytes = segment_bytes
        self._writing = threading.Lock()
        self._closed = False
        self._file = -1
        self._number = term << TERM_SHIFT
        self._position = segment_bytes  # of the next byte; this much means a new segment

    def append(self, blobs: list[bytes]) -> list[Place]:
        """Return where each of them durably is. Raises: StoreUnavailable."""
        with self._writing:
            try:
                if self._closed:
                    raise StoreUnavailable("these logs are closed")
                if self._position >= self._segment_bytes:
                    self._next()
                places: list[Place] = []
                for blob in blobs:
                    places.append(Place(self._number, self._position))
                    self._write(blob)
                _sync(self._file)
            except OSError as error:
                # Whatever has been written is garbage, and so would be what follows a failed sync.
                self._position = self._segment_bytes
                raise StoreUnavailable(f"logs cannot be written: {error}") from error
        return places

    def has(self, segment: int) -> bool:
        """Whether the file is here: another server may have it on its own disk."""
        return self._path(segment).exists()

    def read(self, place: Place, length: int) -> bytes:
        """Raises: StoreUnavailable, when the file has not what the database says."""
        try:
            file = os.open(self._path(place.segment), os.O_RDONLY)
            try:
                data = os.pread(file, length, place.position)
            finally:
                os.close(file)
        except OSError as error:
            raise StoreUnavailable(f"logs cannot be read: {error}") from error
        if len(data) < length:
            raise StoreUnavailable(f"{self._path(place.segment)} is shorter than it was")
        return data

    def close(self) -> None:
        with self._writing:
            self._closed = True
            self._let_go()

    def _next(self) -> None:
        """Begin the next segment that nobody has begun."""
        self._let_go()
        while self._file < 0:
            self._number += 1
            with contextlib.suppress(FileExistsError):
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
                self._file = os.open(self._path(self._number), flags, 0o600)
        self._position = 0
        directory = os.open(self._directory, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def _let_go(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _write(self, blob: bytes) -> None:
        rest = memoryview(blob)
        while rest:
            written = os.pwrite(self._file, rest, self._position)
            self._position += written
            rest = rest[written:]

    def _path(self, number: int) -> Path:
        return self._directory / f"{number:08d}.log"
