"""What an attempt has left → a bundle: the tree below one directory, and what paths and patterns name in another.

Links are kept as links, and lead nowhere else. What is no file (a socket, a pipe) holds nothing to bring back.
"""

import glob
import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from styx.agent.errand import Ended, Failed
from styx.core import bundle
from styx.core.bundle import BLOB_BYTES, Entry, Manifest
from styx.errors import InvalidSpec
from styx.parcel import reading
from styx.parcel.reading import Place

CURE: Final = "leave it out, or put a copy in its place"
_MAGIC: Final = frozenset("*?[")


class Gathered(NamedTuple):
    manifest: bytes
    places: dict[str, Place]  # by digest


def gather(left: str, cwd: str, patterns: Sequence[str]) -> Gathered:
    """`patterns` are of `cwd`; "" is all below `left`. Raises: Failed, InvalidSpec, OSError."""
    entries: dict[str, Entry] = {}
    places: dict[str, Place] = {}
    for pattern in patterns:
        top = os.path.realpath(cwd if pattern else left)
        for path in found(top, pattern) if pattern else [""]:
            for entry in _walk(top, path, places):
                entries[entry.path] = entry
                if len(entries) > bundle.MAX_ENTRIES:
                    raise Failed(Ended.REFUSED, f"more than {bundle.MAX_ENTRIES:,} files are left")
    manifest = Manifest(tuple(entry for _, entry in sorted(entries.items())))
    bundle.check(manifest)  # what is a file here may be a directory there
    return Gathered(bundle.encode(manifest), places)


def found(top: str, pattern: str) -> list[str]:
    """Paths below `top`, none of them through a link that leads out of it. Raises: Failed."""
    if not _MAGIC.isdisjoint(pattern):
        paths = sorted(glob.glob(pattern, root_dir=top, recursive=True, include_hidden=True))
    elif os.path.lexists(os.path.join(top, pattern)):
        paths = [pattern]
    else:
        raise Failed(Ended.REFUSED, f"there is no {pattern} in its work directory")
    return [
        path.rstrip(os.sep)
        for path in paths
        if reading.is_below(os.path.realpath(os.path.dirname(os.path.join(top, path))), top)
    ]


def _walk(top: str, path: str, places: dict[str, Place]) -> Iterator[Entry]:
    """The entry at `path`, or those below it. Raises: InvalidSpec, OSError."""
    pending = [path]
    while pending:
        path = pending.pop()
        file = os.path.join(top, path)
        mode = os.lstat(file).st_mode
        if stat.S_ISDIR(mode):
            names = os.listdir(file)
            pending += (os.path.join(path, name) for name in names)
            if path and not names:
                yield bundle.Directory(_named(path))
        elif stat.S_ISLNK(mode):
            target = reading.target(file, _named(path), top, cure=CURE)
            yield bundle.Link(path, target)
        elif stat.S_ISREG(mode):
            yield _file(file, _named(path), places)


def _file(file: str, path: str, places: dict[str, Place]) -> bundle.File:
    blobs: list[str] = []
    size = 0
    descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        executable = bool(os.fstat(descriptor).st_mode & stat.S_IXUSR)
        for piece in reading.pieces(descriptor):
            blob = hashlib.sha256(piece).hexdigest()
            places[blob] = Place(file, len(blobs) * BLOB_BYTES, len(piece))
            blobs.append(blob)
            size += len(piece)
    finally:
        os.close(descriptor)
    return bundle.File(path, size, tuple(blobs), executable)


def _named(path: str) -> str:
    try:
        path.encode()
    except UnicodeEncodeError:
        raise InvalidSpec(f"{path!r}: a name that is not UTF-8 cannot be sent") from None
    return path
