"""Write files below one directory, and never anywhere else, whatever their paths say.

A manifest has been looked through before it comes here. This looks again, one name at a time: every
directory is entered by its name in the one above, links are never followed, and what is there already is
never written to, be it the same name to a file system that knows no case.
"""

import os
from collections.abc import Callable
from typing import Final

from styx.core import bundle
from styx.core.bundle import Directory, File, Link, Manifest
from styx.errors import InvalidSpec

_ENTER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Tree:
    """Below `path`, which it makes. Raises, from every method: OSError; InvalidSpec, for a path that is none."""

    def __init__(self, path: str) -> None:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        os.mkdir(path, 0o700)
        self._root = os.open(path, _ENTER)
        self._chain: list[
            tuple[str, int]
        ] = []  # names and descriptors, downwards to the last directory

    def create(self, path: str, *, executable: bool) -> int:
        """A new file's descriptor, for writing."""
        *above, name = bundle.parts(path)
        return os.open(name, _CREATE, 0o755 if executable else 0o644, dir_fd=self._enter(above))

    def link(self, path: str, target: str) -> None:
        bundle.check_link(path, target)
        *above, name = bundle.parts(path)
        os.symlink(target, name, dir_fd=self._enter(above))

    def directory(self, path: str) -> None:
        self._enter(bundle.parts(path))

    def close(self) -> None:
        self._leave(0)
        os.close(self._root)

    def _enter(self, names: list[str]) -> int:
        """The directory of these names, made where it is not there."""
        depth = 0
        while depth < min(len(names), len(self._chain)) and self._chain[depth][0] == names[depth]:
            depth += 1
        self._leave(depth)
        for name in names[depth:]:
            above = self._chain[-1][1] if self._chain else self._root
            try:
                os.mkdir(name, 0o755, dir_fd=above)
            except FileExistsError:
                pass
            self._chain.append((name, os.open(name, _ENTER, dir_fd=above)))
        return self._chain[-1][1] if self._chain else self._root

    def _leave(self, depth: int) -> None:
        for _, descriptor in self._chain[depth:]:
            os.close(descriptor)
        del self._chain[depth:]


def unpack(path: str, manifest: Manifest, read: Callable[[str, int], bytes]) -> None:
    """A new directory of what the manifest names. `read` has the blobs.

    Raises: InvalidSpec, also for two paths that are one here; OSError; what `read` raises.
    """
    tree = Tree(path)
    try:
        for file in manifest.files():
            write_file(tree.create(file.path, executable=file.executable), file, read)
        # Last, so that nothing that is written could come across one.
        for entry in manifest.entries:
            if isinstance(entry, Link):
                tree.link(entry.path, entry.target)
            elif isinstance(entry, Directory):
                tree.directory(entry.path)
    except FileExistsError as error:  # to a file system that knows no case, say
        raise InvalidSpec(f"two of its files have one name here: {error.filename}") from error
    finally:
        tree.close()


def write_file(descriptor: int, file: File, read: Callable[[str, int], bytes]) -> None:
    """And close it."""
    try:
        for name, size in file.pieces():
            write_whole(descriptor, read(name, size))
    finally:
        os.close(descriptor)


def write_whole(file: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(file, rest) :]
