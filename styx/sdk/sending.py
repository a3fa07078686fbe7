"""Bring directories to the server: pack them, and send what it lacks.

A module of its own, which only those import who send something: the rules of `.gitignore` take longer to
import than the rest of a submit.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from styx.core import bundle
from styx.errors import InvalidSpec
from styx.parcel import reading
from styx.sdk import pack
from styx.sdk.client import Styx
from styx.sdk.pack import Packed, Source

ROUNDS: Final = 5  # files may change while they are sent, and blobs be collected


def send(
    styx: Styx,
    sources: Sequence[Source],
    caches: Path,
    *,
    tell: Callable[[str], None] = lambda _: None,
) -> str:
    """The id of a bundle of all the sources, once the server has it.

    `caches` is a directory of ours, where is remembered what has been read. `tell` hears of progress.
    Raises: InvalidSpec, and what the client raises.
    """
    most_bytes = styx.files().max_bundle_bytes
    for _ in range(ROUNDS):
        packed = pack.pack(list(sources), caches, most_bytes=most_bytes, tell=tell)
        if _sent(styx, packed, tell):
            return packed.id
    raise InvalidSpec(
        f"the files below {sources[0].path} change while they are sent",
        hint="wait until they do not, or name those that do in .styxignore",
    )


def identify(
    styx: Styx,
    sources: Sequence[Source],
    caches: Path,
    *,
    tell: Callable[[str], None] = lambda _: None,
) -> str:
    """The id that `send` would give; nothing is sent. Raises: as it."""
    most_bytes = styx.files().max_bundle_bytes
    return pack.pack(list(sources), caches, most_bytes=most_bytes, tell=tell).id


def _sent(styx: Styx, packed: Packed, tell: Callable[[str], None]) -> bool:
    """False: a file is another one by now."""
    for _ in range(ROUNDS):
        missing = styx.offer_bundle(packed.manifest).missing
        if not missing:
            return True
        sizes = {name: packed.places[name].length for name in missing}
        whole = sum(sizes.values())
        done = 0
        for names in bundle.batches(sizes):
            tell(f"sending files: {done / (1 << 20):.1f} of {whole / (1 << 20):.1f} MiB")
            blobs = [reading.blob(name, packed.places[name]) for name in names]
            if None in blobs:
                return False
            styx.send_blobs(bundle.encode_blobs([blob for blob in blobs if blob]))
            done += sum(sizes[name] for name in names)
    return False
