"""Bring bundles, and what is from afar, to where the tasks of a job want them: `python -m styx.agent.fetch`."""

import os
import secrets
import shutil
from collections.abc import Callable, Mapping
from typing import Final

from styx.agent import child, errand, remote
from styx.agent.errand import Ended, Failed, Outcome, Request, Target
from styx.agent.server import Server
from styx.agent.shelf import Blobs
from styx.agent.stream import DISK_RESERVE_BYTES
from styx.core import bundle, source
from styx.core.bundle import Directory, Link, Manifest
from styx.errors import InvalidSpec
from styx.kit.reach import Reach
from styx.parcel import tree

TRIES: Final = 3  # of blobs that have gone from the shelf, or never came


def fetch(request: Request) -> Outcome:
    """Once it is done all of it is there. Whoever comes second finds it."""
    server = Server(request)
    try:
        blobs = Blobs(request.home, request.cache_bytes)
        job = f"{request.home}/{errand.JOBS}/{request.target.job}"
        os.makedirs(job, mode=0o700, exist_ok=True)
        reach = Reach(request.allow_hosts)
        target, inside = request.target, request.target.inside
        if room := errand.room(request.home, target.job, target.bundle, inside):
            _make(server, blobs, target.bundle, room, inside, reach)
        for place, what in target.over:
            if place in inside:
                continue
            path, mark = os.path.expanduser(place), target.mark(request.home, place, what)
            if source.is_source(what):
                _lay_from_afar(what, path, mark, reach)
            else:
                _lay(server, blobs, what, path, mark)
        if target.inputs:
            _make_inputs(
                server, blobs, target, errand.inputs(request.home, target.job, target.inputs)
            )
        blobs.trim()
    except Failed as failed:
        return failed.outcome
    except InvalidSpec as error:
        return Outcome(Ended.REFUSED, error.message)
    except OSError as error:
        return Outcome(Ended.FULL, f"files cannot be written: {error.strerror}")
    finally:
        server.close()
    return Outcome(Ended.DONE)


def _make(
    server: Server, blobs: Blobs, id_: str, path: str, inside: Mapping[str, str], reach: Reach
) -> None:
    """A bundle, and over it what is from afar, as a directory: it is there whole or not at all."""
    if os.path.isdir(path):
        return
    new = f"{os.path.dirname(path)}/{errand.NEW}{secrets.token_hex(8)}"
    try:
        if id_:
            _open(server, blobs, id_, new)
        else:
            os.mkdir(new, 0o700)
        for to, what in sorted(inside.items()):
            remote.get(what, f"{new}/{to}", reach)
        _put(new, path)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _make_inputs(server: Server, blobs: Blobs, target: Target, path: str) -> None:
    """What those have left that a task needs, each below its name; whole or not at all."""
    if os.path.isdir(path):
        return
    new = f"{os.path.dirname(path)}/{errand.NEW}{secrets.token_hex(8)}"
    try:
        os.mkdir(new, 0o700)
        for given in server.inputs(target.job, target.inputs):
            names = [
                *bundle.parts(given.name),
                *([] if given.index is None else [str(given.index)]),
            ]
            _open(server, blobs, given.bundle, os.path.join(new, *names))
        _put(new, path)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _open(server: Server, blobs: Blobs, id_: str, path: str) -> None:
    """A bundle as a new directory."""
    manifest = _manifest(server, id_)
    _check_room(os.path.dirname(os.path.dirname(path)), blobs, manifest)
    _bring(server, blobs, manifest.blobs())
    tree.unpack(path, manifest, _reading(server, blobs))


def _lay(server: Server, blobs: Blobs, id_: str, top: str, mark: str) -> None:
    """A bundle over what is there: each file is put in its place whole, and nothing is removed.

    Where it goes is its user's wish, and by that user's rights: links on the way are followed.
    """
    if os.path.exists(mark):
        return
    manifest = _manifest(server, id_)
    _check_room(os.path.dirname(mark), blobs, manifest)
    _bring(server, blobs, manifest.blobs())
    read = _reading(server, blobs)
    for entry in manifest.entries:
        path = os.path.join(top, *bundle.parts(entry.path))
        try:
            _lay_one(entry, path, read)
        except OSError as error:
            ended = Ended.FULL if error.errno in errand.NO_ROOM else Ended.REFUSED
            raise Failed(ended, f"{path} cannot be written: {error.strerror}") from error
    _done(mark)


def _done(mark: str) -> None:
    os.close(os.open(mark, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))


def _lay_from_afar(what: str, path: str, mark: str, reach: Reach) -> None:
    """As a bundle is laid."""
    if not os.path.exists(mark):
        remote.get(what, path, reach)
        _done(mark)


def _lay_one(entry: bundle.Entry, path: str, read: Callable[[str, int], bytes]) -> None:
    if isinstance(entry, Directory):
        os.makedirs(path, exist_ok=True)
        return
    os.makedirs(os.path.dirname(path), exist_ok=True)
    new = f"{os.path.dirname(path)}/{errand.NEW}{secrets.token_hex(8)}"
    try:
        if isinstance(entry, Link):
            os.symlink(entry.target, new)
        else:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            file = os.open(new, flags, 0o755 if entry.executable else 0o644)
            tree.write_file(file, entry, read)
        os.replace(new, path)
    finally:
        if os.path.lexists(new):
            os.unlink(new)


def _manifest(server: Server, id_: str) -> Manifest:
    """Raises: Failed, InvalidSpec."""
    data = server.manifest(id_)
    if bundle.id_of(data) != id_:
        raise Failed(Ended.LATER, "the manifest arrived damaged")
    return bundle.decode(data)


def _check_room(home: str, blobs: Blobs, manifest: Manifest) -> None:
    """Raises: Failed."""
    lacking = sum(size for name, size in manifest.blobs().items() if not blobs.has(name, size))
    disk = os.statvfs(home)
    free = disk.f_bavail * disk.f_frsize
    if manifest.size + lacking + DISK_RESERVE_BYTES > free:
        raise Failed(
            Ended.FULL, f"{manifest.size:,} bytes of files, and {free:,} are free on the disk"
        )


def _bring(server: Server, blobs: Blobs, wanted: dict[str, int]) -> None:
    """Have all of them on the shelf. Raises: Failed."""
    for _ in range(TRIES):
        lacking = {name: size for name, size in wanted.items() if not blobs.has(name, size)}
        if not lacking:
            return
        for names in bundle.batches(lacking):
            for blob in server.blobs(names):
                blobs.keep(blob.sha256.hex(), blob.data)
    raise Failed(Ended.REFUSED, "the server does not have all of its files any more")


def _reading(server: Server, blobs: Blobs) -> Callable[[str, int], bytes]:
    """Of the shelf, or of the server if it is not there any more."""

    def read(name: str, size: int) -> bytes:
        for _ in range(TRIES):
            data = blobs.read(name)
            if data is not None and len(data) == size:
                return data
            if data is not None:
                raise Failed(Ended.REFUSED, "the manifest's sizes are not those of its files")
            _bring(server, blobs, {name: size})
        raise Failed(Ended.LATER, "what was brought does not stay on the disk")

    return read


def _put(new: str, path: str) -> None:
    """In its place, at once and whole; unless another has been as quick."""
    try:
        os.rename(new, path)
    except OSError:
        if not os.path.isdir(path):
            raise


if __name__ == "__main__":
    child.serve(Request, fetch)
