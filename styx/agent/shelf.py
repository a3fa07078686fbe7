"""Blobs that came with tasks, by their digest, for whoever wants them next."""

import hashlib
import os
from collections.abc import Iterator
from typing import Final

from styx.parcel.tree import write_whole

BLOBS: Final = "files"


class Blobs:
    """At most `most_bytes` of them, once it is trimmed. What a crash left half-written is noticed when it is
    read, so nothing is ever synced or renamed for it.
    """

    def __init__(self, home: str, most_bytes: int) -> None:
        self._directory = f"{home}/{BLOBS}"
        self._most_bytes = most_bytes
        os.makedirs(self._directory, mode=0o700, exist_ok=True)

    def has(self, name: str, size: int) -> bool:
        try:
            return os.stat(self._path(name)).st_size == size
        except OSError:
            return False

    def read(self, name: str) -> bytes | None:
        """None: it is not here, or not what it was, and then it goes."""
        path = self._path(name)
        try:
            with open(path, "rb", buffering=0) as file:
                data = file.read()
                os.utime(file.fileno())
        except FileNotFoundError:
            return None
        if hashlib.sha256(data).hexdigest() != name:
            os.unlink(path)
            return None
        return data

    def keep(self, name: str, data: bytes) -> None:
        """Raises: OSError."""
        path = self._path(name)
        try:
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            write_whole(file, data)
        finally:
            os.close(file)

    def trim(self) -> None:
        """Remove what was unused longest, while there is too much."""
        kept = sorted(self._all(), reverse=True)
        left = self._most_bytes
        for _, size, path in kept:
            left -= size
            if left < 0:
                os.unlink(path)

    def _all(self) -> Iterator[tuple[float, int, str]]:
        for shelf in os.scandir(self._directory):
            for entry in os.scandir(shelf.path):
                looks = entry.stat()
                # A file of a byte takes a block, too.
                yield looks.st_mtime, looks.st_blocks * 512, entry.path

    def _path(self, name: str) -> str:
        return f"{self._directory}/{name[:2]}/{name[2:]}"
