"""One file from afar, streamed beside its place and put there whole. What breaks off goes on where it was."""

import hashlib
import os
import secrets
import time
from collections.abc import Callable, Iterator
from typing import BinaryIO, Final, NamedTuple, TypeVar

from styx.agent import errand
from styx.agent.errand import Ended, Failed
from styx.kit.backoff import Backoff
from styx.parcel.tree import write_whole

PIECE_BYTES: Final = 1 << 20
DISK_RESERVE_BYTES: Final = 64 << 20
TRIES: Final = 8  # one after another that bring nothing
RETRY_BASE_S: Final = 0.5
RETRY_CAP_S: Final = 15.0

T = TypeVar("T")


class Away(Exception):
    """Not now: asking again may help."""


class Opened(NamedTuple):
    at: int  # where in the file it begins
    pieces: Iterator[bytes]  # raises: Away
    size: int | None  # of the whole file, if it is told
    tag: str  # names this very content; "" is not told


class Item(NamedTuple):
    """A file to be had. `name` is its path below the destination."""

    name: str
    url: str
    open: Callable[[int, str], Opened]  # from a byte on, of what a tag names
    alone: bool = False  # one file was asked for, which may be given another name


def save(item: Item, path: str, sha256: str) -> None:
    """Raises: Failed."""
    new = f"{os.path.dirname(path)}/{errand.NEW}{secrets.token_hex(8)}"
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        try:
            with open(new, "xb", buffering=0) as file:
                found = _bring(item, file)
            if sha256 and found != sha256:
                raise Failed(Ended.REFUSED, f"{item.url} has the SHA-256 {found}, not {sha256}")
            os.replace(new, path)
        finally:
            if os.path.lexists(new):
                os.unlink(new)
    except OSError as error:
        ended = Ended.FULL if error.errno in errand.NO_ROOM else Ended.REFUSED
        raise Failed(ended, f"{path} cannot be written: {error.strerror}") from error


def patiently(url: str, ask: Callable[[], T]) -> T:
    """What is worth another try gets some. Raises: Failed."""
    backoff = Backoff(base_s=RETRY_BASE_S, cap_s=RETRY_CAP_S)
    for _ in range(TRIES - 1):
        try:
            return ask()
        except Away:
            time.sleep(backoff.next_s())
    try:
        return ask()
    except Away as away:
        raise _given_up(url, away) from away


def _given_up(url: str, away: Away) -> Failed:
    return Failed(Ended.REFUSED, f"{url}: {away} ({TRIES} tries)")


def _bring(item: Item, file: BinaryIO) -> str:
    """Its SHA-256."""
    backoff = Backoff(base_s=RETRY_BASE_S, cap_s=RETRY_CAP_S)
    digest, done, tag, failures = hashlib.sha256(), 0, "", 0
    while True:
        before = done
        try:
            opened = item.open(done, tag)
            if opened.at != done:
                digest, done = hashlib.sha256(), 0
                file.seek(0)
                file.truncate()
            tag = opened.tag
            _check_room(file, item, (opened.size or 0) - done)
            for piece in opened.pieces:
                write_whole(file.fileno(), piece)
                digest.update(piece)
                done += len(piece)
            if opened.size in {None, done}:
                return digest.hexdigest()
            away = Away(f"it broke off after {done:,} of {opened.size:,} bytes")
        except Away as error:
            away = error
        failures = failures + 1 if done <= before else 1
        if failures == TRIES:
            raise _given_up(item.url, away)
        time.sleep(backoff.next_s())


def _check_room(file: BinaryIO, item: Item, lacking: int) -> None:
    disk = os.fstatvfs(file.fileno())
    free = disk.f_bavail * disk.f_frsize
    if lacking + DISK_RESERVE_BYTES > free:
        raise Failed(
            Ended.FULL, f"{item.url} has {lacking:,} more bytes, and {free:,} are free on the disk"
        )
