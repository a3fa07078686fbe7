"""A bundle into a directory that may be there already: whole, or not at all, and by default over nothing."""

import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Final

from styx.core import bundle
from styx.core.bundle import Blob, Directory, Manifest
from styx.errors import Conflict, InvalidSpec
from styx.parcel import tree

NAMED: Final = 3  # of what is in the way


class Landing:
    """It is written beside, piece by piece, and moved when all of it has come.

    Raises, from every method: InvalidSpec, OSError; from the first, Conflict.
    """

    def __init__(self, top: Path, manifest: Manifest, *, force: bool) -> None:
        bundle.check(manifest)
        self._top = top
        self._manifest = manifest
        if not force:
            self._check_clear()
        top.mkdir(parents=True, exist_ok=True)
        self._new = top / f".styx-{secrets.token_hex(8)}"
        self._blobs = self._new.with_suffix(".blobs")
        self._blobs.mkdir(0o700)

    def batches(self) -> Iterator[list[str]]:
        """The blobs to be had, as many at a time as one request takes."""
        return bundle.batches(self._manifest.blobs())

    def write(self, blobs: Iterable[Blob]) -> None:
        for blob in blobs:
            (self._blobs / blob.sha256.hex()).write_bytes(blob.data)

    def finish(self) -> None:
        tree.unpack(str(self._new), self._manifest, self._read)
        for entry in self._manifest.entries:
            to = self._top / entry.path
            if isinstance(entry, Directory):
                to.mkdir(parents=True, exist_ok=True)
            else:
                to.parent.mkdir(parents=True, exist_ok=True)
                (self._new / entry.path).replace(to)

    def close(self) -> None:
        for path in (self._new, self._blobs):
            shutil.rmtree(path, ignore_errors=True)

    def _read(self, name: str, size: int) -> bytes:
        try:
            data = (self._blobs / name).read_bytes()
        except FileNotFoundError:
            raise InvalidSpec(
                f"the server has not all of it any more: {name[:16]}… is missing"
            ) from None
        if len(data) != size:
            raise InvalidSpec("the manifest's sizes are not those of its files")
        return data

    def _check_clear(self) -> None:
        paths = (entry.path for entry in self._manifest.entries if not isinstance(entry, Directory))
        there = list(islice((path for path in paths if os.path.lexists(self._top / path)), NAMED))
        if there:
            raise Conflict(
                f"{self._top} has {', '.join(there)} already", hint="--force writes over it"
            )
