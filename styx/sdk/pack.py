"""A directory → a bundle: what is in it, as `core.bundle` has it, and where to read each blob.

Every file's blobs are remembered with its size, times and inode: whoever packs again reads only what has
changed.
"""

import hashlib
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from styx.core import bundle
from styx.core.bundle import BLOB_BYTES
from styx.errors import InvalidSpec
from styx.parcel import reading
from styx.parcel.reading import Place
from styx.sdk.ignore import NEVER, Ignore, Rules

RACY_NS: Final = 100_000_000  # a file changed so lately may change again without looking different
CACHES_KEPT: Final = 100  # of directories; the longest unused go
LARGEST: Final = 5  # entries named when there are too many
CURE: Final = "name it in .styxignore, or put a copy in its place"
TOLD_EVERY: Final = 500  # files, between two words of progress


class Seen(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A file's looks, and its blobs when it looked so."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    blobs: tuple[str, ...]

    def is_of(self, found: os.stat_result) -> bool:
        return (self.size, self.mtime_ns, self.ctime_ns, self.inode) == (
            found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino,
        )  # fmt: skip


class Packed(NamedTuple):
    id: str
    manifest: bytes
    places: dict[str, Place]  # by digest


class Source(NamedTuple):
    """A file, or a directory with all that is in it, and where in the bundle it goes: "" is the top. What is
    `tracked` by git is wanted, whatever `.gitignore` says.
    """

    path: Path
    to: str = ""
    tracked: bool = False


class Found(NamedTuple):
    """`link` is the target of a symbolic link; an empty directory has no `stat`."""

    file: str
    stat: os.stat_result | None = None
    link: str = ""


def pack(
    sources: list[Source],
    caches: Path,
    *,
    most_bytes: int,
    tell: Callable[[str], None] = lambda _: None,
) -> Packed:
    """Of two sources that bring the same path the later one counts.

    Raises: InvalidSpec, naming what cannot be sent, or the largest of too much.
    """
    found: dict[str, Found] = {}
    for source in sources:
        found |= _walk(source, tell)
    _bound(found, most_bytes)
    cache = Cache(caches, sources)
    places: dict[str, Place] = {}
    entries: list[bundle.Entry] = []
    for number, (path, what) in enumerate(sorted(found.items())):
        if number % TOLD_EVERY == 0:
            tell(f"reading files: {number:,} of {len(found):,}")
        entries.append(_entry(path, what, cache, places))
    manifest = bundle.Manifest(tuple(entries))
    if len(sources) > 1:  # what is a file in one may be a directory in another
        bundle.check(manifest)
    cache.save()
    data = bundle.encode(manifest)
    return Packed(bundle.id_of(data), data, places)


def _walk(source: Source, tell: Callable[[str], None]) -> dict[str, Found]:
    top = source.path.resolve()
    try:
        looks = top.stat()
    except OSError as error:
        raise InvalidSpec(f"{source.path}: {error.strerror}") from error
    if not stat.S_ISDIR(looks.st_mode):
        _refuse_special(str(source.path), looks.st_mode)
        return {source.to: Found(str(top), looks)}
    ignore = Ignore(top, tracked=source.tracked)
    found: dict[str, Found] = {}
    prefix = f"{source.to}/" if source.to else ""
    pending: list[tuple[str, Rules | None]] = [("", ignore.outside())]
    while pending:
        path, rules = pending.pop()
        directory = top / path
        try:
            with os.scandir(directory) as listing:
                entries = list(listing)
        except OSError as error:
            raise InvalidSpec(f"{directory}: {error.strerror}") from error
        rules = ignore.inside(directory, path, {entry.name for entry in entries}, rules)
        begun = len(found) + len(pending)
        for entry in entries:
            name = path + entry.name
            below = entry.is_dir(follow_symlinks=False)
            if entry.name == NEVER or (rules and rules.excludes(name, directory=below)):
                continue
            if below:
                pending.append((name + "/", rules))
            else:
                found[_named(prefix + name)] = _found(entry, name, top)
                if len(found) > bundle.MAX_ENTRIES:
                    raise _too_many(found)
                if len(found) % TOLD_EVERY == 0:
                    tell(f"looking for files: {len(found):,}")
        if path and len(found) + len(pending) == begun:
            found[_named(prefix + path[:-1])] = Found(str(directory))
    return found


def _found(entry: os.DirEntry[str], path: str, top: Path) -> Found:
    looks = entry.stat(follow_symlinks=False)
    if stat.S_ISLNK(looks.st_mode):
        return Found(entry.path, looks, reading.target(entry.path, path, str(top), cure=CURE))
    _refuse_special(entry.path, looks.st_mode)
    return Found(entry.path, looks)


def _refuse_special(file: str, mode: int) -> None:
    if not stat.S_ISREG(mode):
        kinds = {stat.S_IFSOCK: "a socket", stat.S_IFIFO: "a pipe"}
        what = kinds.get(stat.S_IFMT(mode), "a device")
        raise InvalidSpec(f"{file} is {what}, which cannot be sent", hint="name it in .styxignore")


def _named(path: str) -> str:
    try:
        path.encode()
    except UnicodeEncodeError:
        raise InvalidSpec(
            f"{path!r}: a name that is not UTF-8 cannot be sent", hint="name it in .styxignore"
        ) from None
    return path


def _bound(found: dict[str, Found], most_bytes: int) -> None:
    if len(found) > bundle.MAX_ENTRIES:
        raise _too_many(found)
    size = sum(_size(what) for what in found.values())
    if size > most_bytes:
        largest = sorted(found, key=lambda path: _size(found[path]), reverse=True)[:LARGEST]
        named = ", ".join(f"{path} ({_size(found[path]) / (1 << 20):,.1f} MiB)" for path in largest)
        raise InvalidSpec(
            f"{size / (1 << 20):,.1f} MiB are too much to send (files.max_bundle_bytes of the server "
            f"is {most_bytes / (1 << 20):,.1f} MiB); the largest: {named}",
            hint="name what is not needed in .styxignore, or have it on the agents' machines",
        )


def _too_many(found: dict[str, Found]) -> InvalidSpec:
    counts: dict[str, int] = {}
    for path in found:
        directory = path.rpartition("/")[0].partition("/")[0] or "."
        counts[directory] = counts.get(directory, 0) + 1
    fullest = sorted(counts, key=lambda name: counts[name], reverse=True)[:LARGEST]
    named = ", ".join(f"{name} ({counts[name]:,})" for name in fullest)
    return InvalidSpec(
        f"more than {bundle.MAX_ENTRIES:,} files are too many to send; most are in: {named}",
        hint="name what is not needed in .styxignore",
    )


def _size(what: Found) -> int:
    return what.stat.st_size if what.stat and not what.link else 0


def _entry(path: str, what: Found, cache: "Cache", places: dict[str, Place]) -> bundle.Entry:
    if what.link:
        return bundle.Link(path, what.link)
    if what.stat is None:
        return bundle.Directory(path)
    seen = cache.seen(path, what)
    for number, blob in enumerate(seen.blobs):
        offset = number * BLOB_BYTES
        places[blob] = Place(what.file, offset, min(BLOB_BYTES, seen.size - offset))
    return bundle.File(path, seen.size, seen.blobs, bool(what.stat.st_mode & stat.S_IXUSR))


class Cache:
    """What the files of these sources looked like when they were last read."""

    def __init__(self, directory: Path, sources: list[Source]) -> None:
        name = "\0".join(f"{source.path.resolve()}\0{source.to}" for source in sources)
        digest = hashlib.sha256(os.fsencode(name)).hexdigest()[:32]
        self._directory = directory
        self._path = directory / f"{digest}.msgpack"
        self._old = self._load()
        self._new: dict[str, Seen] = {}

    def seen(self, path: str, what: Found) -> Seen:
        """Raises: InvalidSpec, for a file that cannot be read."""
        known = self._old.get(path)
        assert what.stat is not None, "a directory has no content"
        if known is None or not known.is_of(what.stat):
            try:
                known, steady = _read(what.file)
            except OSError as error:
                raise InvalidSpec(f"{what.file}: {error.strerror}") from error
            if not steady:
                return known
        self._new[path] = known
        return known

    def save(self) -> None:
        """Unless there is nothing new. A cache that cannot be written is none."""
        if self._new == self._old:
            return
        new = self._path.with_suffix(f".{os.getpid()}")
        try:
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            new.write_bytes(msgspec.msgpack.encode(self._new))
            new.replace(self._path)
            kept = sorted(self._directory.iterdir(), key=lambda file: file.stat().st_mtime)
            for file in kept[:-CACHES_KEPT]:
                file.unlink(missing_ok=True)
        except OSError:
            return

    def _load(self) -> dict[str, Seen]:
        try:
            return msgspec.msgpack.decode(self._path.read_bytes(), type=dict[str, Seen])
        except (OSError, msgspec.MsgspecError):
            return {}


def _read(file: str) -> tuple[Seen, bool]:
    """What is in the file, and whether its looks will tell when it changes. Raises: OSError."""
    descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        before = os.fstat(descriptor)
        blobs: list[str] = []
        size = 0
        for piece in reading.pieces(descriptor):
            blobs.append(hashlib.sha256(piece).hexdigest())
            size += len(piece)
        after = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    seen = Seen(size, before.st_mtime_ns, before.st_ctime_ns, before.st_ino, tuple(blobs))
    changed_ns = max(before.st_mtime_ns, before.st_ctime_ns)
    return seen, seen.is_of(after) and time.time_ns() - changed_ns > RACY_NS
