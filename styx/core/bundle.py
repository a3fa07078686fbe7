"""A directory as it is sent: a *bundle*.

Its manifest names every file, and of each the *blobs* that it is made of, by their SHA-256: pieces of
`BLOB_BYTES`, the last one shorter. So only what a server or an agent lacks has to travel, a large file goes
piece by piece, and nothing larger than a piece is ever in memory. The manifest's own SHA-256 is the
bundle's id.

A manifest is another's word until `decode` has looked through it; who writes files looks again (`parts`).
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Final, NamedTuple

import msgspec
from msgspec import Meta

from styx.errors import InvalidSpec

BLOB_BYTES: Final = 1 << 20
MAX_ENTRIES: Final = 100_000
MAX_MANIFEST_BYTES: Final = 32 << 20
MAX_BATCH_BYTES: Final = 8 << 20  # of blobs in one request or answer, as they are on the line
MAX_BATCH_BLOBS: Final = 10_000
BATCH_BYTES: Final = 4 << 20  # what a client puts into one: at 100 kB/s it still takes no minute
BLOBS_TYPE: Final = "application/vnd.styx.blobs"  # msgpack: [[sha256, data], …]
MAX_PATH_BYTES: Final = 4_000
MAX_NAME_BYTES: Final = 255

_ID: Final = re.compile(r"[0-9a-f]{64}")
_DEEPEST: Final = 200  # directories below one another

Digest = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]


class File(msgspec.Struct, frozen=True, array_like=True, tag="f", gc=False):
    path: str
    size: Annotated[int, Meta(ge=0, le=1 << 50)]
    blobs: tuple[Digest, ...] = ()
    executable: bool = False

    def pieces(self) -> Iterator[tuple[str, int]]:
        """Each blob, and how long it is."""
        left = self.size
        for blob in self.blobs:
            yield blob, min(BLOB_BYTES, left)
            left -= BLOB_BYTES


class Link(msgspec.Struct, frozen=True, array_like=True, tag="l", gc=False):
    """Symbolic; `target` is relative, and nothing outside of the bundle."""

    path: str
    target: str


class Directory(msgspec.Struct, frozen=True, array_like=True, tag="d", gc=False):
    """An empty one: the others are there because of what is in them."""

    path: str


Entry = File | Link | Directory


class Manifest(msgspec.Struct, frozen=True):
    """Sorted by path."""

    entries: tuple[Entry, ...]
    version: Annotated[int, Meta(ge=1, le=1)] = 1

    def files(self) -> Iterator[File]:
        return (entry for entry in self.entries if isinstance(entry, File))

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files())

    def blobs(self) -> dict[str, int]:
        """Each once, and how long it is."""
        return {blob: size for file in self.files() for blob, size in file.pieces()}


class Blob(NamedTuple):
    sha256: bytes
    data: bytes


_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder(Manifest)
_pack: Final = msgspec.msgpack.Encoder()
_unpack: Final = msgspec.msgpack.Decoder(list[Blob])


def encode(manifest: Manifest) -> bytes:
    return _encoder.encode(manifest)


def id_of(manifest: bytes) -> str:
    return hashlib.sha256(manifest).hexdigest()


def is_id(text: str) -> bool:
    return _ID.fullmatch(text) is not None


def decode(data: bytes) -> Manifest:
    """Raises: InvalidSpec, for what is no manifest, or could write outside of its directory."""
    try:
        manifest = _decoder.decode(data)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise InvalidSpec(f"not a manifest: {str(error)[:200]}") from error
    check(manifest)
    return manifest


def check(manifest: Manifest) -> None:
    """Raises: InvalidSpec."""
    if len(manifest.entries) > MAX_ENTRIES:
        raise InvalidSpec(f"{len(manifest.entries):,} files; a bundle has at most {MAX_ENTRIES:,}")
    leaves: set[str] = set()
    above: set[str] = set()  # directories known to be no leaf
    before = ""
    for entry in manifest.entries:
        path = entry.path
        parts(path)
        if path <= before:
            raise InvalidSpec(f"{path!r}: a manifest is sorted, and names each path once")
        before = path
        leaves.add(path)
        parent = path.rpartition("/")[0]
        while parent and parent not in above:
            if parent in leaves:
                raise InvalidSpec(f"{path!r}: {parent!r} is no directory")
            above.add(parent)
            parent = parent.rpartition("/")[0]
        if isinstance(entry, Link):
            check_link(path, entry.target)
        elif isinstance(entry, File) and len(entry.blobs) != -(-entry.size // BLOB_BYTES):
            raise InvalidSpec(f"{path!r}: {len(entry.blobs)} blobs do not make {entry.size} bytes")


def parts(path: str) -> list[str]:
    """The names that a path leads through, all downwards. Raises: InvalidSpec."""
    names = path.split("/")
    if len(path) > MAX_PATH_BYTES or len(names) > _DEEPEST:
        raise InvalidSpec(f"{path[:100]!r}…: the path is too long")
    for name in names:
        if name in {"", ".", ".."} or "\0" in name:
            raise InvalidSpec(f"{path!r}: not a path below its own directory")
        if len(name) > MAX_NAME_BYTES // 4 and len(_utf8(name)) > MAX_NAME_BYTES:
            raise InvalidSpec(f"{path[:100]!r}…: a name is too long")
    return names


def check_link(path: str, target: str) -> None:
    """Upwards first, then downwards: so it stays inside even if other links are on its way, which
    `a/../b` would not. Raises: InvalidSpec.
    """
    ups = 0
    names = target.split("/")
    while ups < len(names) and names[ups] == "..":
        ups += 1
    if target.startswith("/") or ups > path.count("/"):
        raise InvalidSpec(f"{path!r}: a link to {target!r}, which is outside")
    if names[ups:] and names[ups:] != ["."]:
        parts("/".join(names[ups:]))
    elif not ups and target != ".":
        raise InvalidSpec(f"{path!r}: a link to {target!r}")


def batches(sizes: Mapping[str, int]) -> Iterator[list[str]]:
    """Blobs of these sizes, as many at a time as go into one request."""
    names: list[str] = []
    left = BATCH_BYTES
    for name, size in sizes.items():
        if names and (size > left or len(names) == MAX_BATCH_BLOBS):
            yield names
            names, left = [], BATCH_BYTES
        names.append(name)
        left -= size
    if names:
        yield names


def encode_blobs(blobs: list[Blob]) -> bytes:
    return _pack.encode(blobs)


def decode_blobs(data: bytes) -> list[Blob]:
    """Each is what its name says. Raises: InvalidSpec."""
    try:
        blobs = _unpack.decode(data)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise InvalidSpec(f"not blobs: {str(error)[:200]}") from error
    for blob in blobs:
        if len(blob.data) > BLOB_BYTES:
            raise InvalidSpec(f"a blob has at most {BLOB_BYTES:,} bytes")
        if hashlib.sha256(blob.data).digest() != blob.sha256:
            raise InvalidSpec(f"the blob {blob.sha256.hex()[:16]} arrived damaged")
    return blobs


def _utf8(name: str) -> bytes:
    """Raises: InvalidSpec."""
    try:
        return name.encode()
    except UnicodeEncodeError:
        raise InvalidSpec(f"{name[:100]!r}: not a name in Unicode") from None
