"""Files as bundles have them: links that lead nowhere else, and pieces by their digest."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from styx.core import bundle
from styx.core.bundle import BLOB_BYTES, Blob
from styx.errors import InvalidSpec


class Place(NamedTuple):
    """Where a blob can be read."""

    file: str
    offset: int
    length: int


def target(file: str, path: str, top: str, *, cure: str) -> str:
    """Where the link `file`, at `path` below `top`, leads, as a manifest may say it: as it stands, or else
    all the way. Raises: InvalidSpec.
    """
    stands = str(Path(file).readlink())
    try:
        bundle.check_link(path, stands)
    except InvalidSpec:
        real = os.path.realpath(file)
        if not is_below(real, top):
            message = f"{file} is a link to {stands}, which is not sent along"
            raise InvalidSpec(message, hint=cure) from None
        return os.path.relpath(real, Path(file).parent)
    return stands


def is_below(real: str, top: str) -> bool:
    """Of paths without links: whether it is `top`, or inside."""
    return real == top or real.startswith(f"{top.rstrip(os.sep)}{os.sep}")


def pieces(descriptor: int) -> Iterator[bytes]:
    """Of `BLOB_BYTES`, but for the last."""
    while piece := read_whole(descriptor, BLOB_BYTES):
        yield piece
        if len(piece) < BLOB_BYTES:
            return


def read_whole(descriptor: int, length: int) -> bytes:
    """So many bytes, or what is left of the file. Raises: OSError."""
    parts: list[bytes] = []
    while length and (part := os.read(descriptor, length)):
        parts.append(part)
        length -= len(part)
    return b"".join(parts) if len(parts) != 1 else parts[0]


def blob(name: str, place: Place) -> Blob | None:
    """None: it is not there any more, or not what it was."""
    try:
        descriptor = os.open(place.file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.lseek(descriptor, place.offset, os.SEEK_SET)
            data = read_whole(descriptor, place.length)
        finally:
            os.close(descriptor)
    except OSError:
        return None
    digest = hashlib.sha256(data).digest()
    return Blob(digest, data) if digest.hex() == name else None
