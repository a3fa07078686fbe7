"""Files that are sent with tasks: a manifest comes first, then the blobs that are not here yet."""

import asyncio
from collections.abc import Collection
from typing import Any, Final, NamedTuple

import msgspec
from litestar import Response

from styx.api import problems, route
from styx.api.backend import Backend
from styx.api.route import Call, reply
from styx.core import bundle
from styx.errors import InvalidSpec, LimitReached, NotFound
from styx.store.files import GRACE_S
from styx.wire import parcel

OFFERED: Final = 16  # some 10 MiB each, at most
OFFERED_S: Final = GRACE_S / 2
HELLO: Final = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
EXAMPLE: Final = {"entries": [["f", "hello.txt", 5, [HELLO]]], "version": 1}
_wanted: Final = msgspec.json.Decoder(parcel.BlobsWanted)


class Offered(NamedTuple):
    """A bundle that comes again, once what is missing has been sent: `blobs` are what to look for then."""

    size: int
    blobs: Collection[str]
    until_s: float  # what was here stays so long, whatever is collected


class Files:
    def __init__(self, backend: Backend) -> None:
        self._files = backend.files
        self._offered: dict[str, Offered] = {}  # by id, the oldest first

    @route.get("/api/v1/files", "getFiles", parcel.FilesView)
    async def room(self, call: Call) -> Response[bytes]:
        """How much may be sent with tasks, and how much is here."""
        del call
        files = self._files
        total = await files.total_bytes()
        return reply(parcel.FilesView(files.max_bundle_bytes, files.max_total_bytes, total))

    @route.post(
        "/api/v1/bundles", "offerBundle", parcel.BundleView, body=bundle.Manifest, example=EXAMPLE,
        refuses=(InvalidSpec, LimitReached),
    )  # fmt: skip
    async def offer(self, call: Call) -> Response[bytes]:
        """Say what a directory holds, and hear what is missing.

        The body is a manifest: `["f", path, size, [sha256 of each MiB], executable]` for a file,
        `["l", path, target]` for a link, `["d", path]` for an empty directory, sorted by path. Its SHA-256,
        as it was sent, is the bundle's id. Send what is missing to `/api/v1/blobs`, and the same manifest
        again: once nothing is missing, the bundle is kept, and tasks may name it.
        """
        body = await call.body()
        id_ = bundle.id_of(body)
        now_s = asyncio.get_running_loop().time()
        offered = self._offered.pop(id_, None)
        if offered is None or now_s > offered.until_s:
            offered = Offered(*await asyncio.to_thread(_read, body), now_s + OFFERED_S)
        missing = await self._files.offer(id_, body, offered.size, offered.blobs)
        if missing:
            self._offered[id_] = offered._replace(blobs=missing)
            if len(self._offered) > OFFERED:
                del self._offered[next(iter(self._offered))]
        return reply(parcel.BundleView(id_, missing))

    @route.get(
        "/api/v1/bundles/{id}", "getBundle", bundle.Manifest, refuses=(NotFound,), exact=True
    )
    async def get(self, call: Call) -> Response[bytes]:
        """A manifest, as it was sent."""
        id_: str = call.path_params["id"]
        manifest = await self._files.manifest(id_) if bundle.is_id(id_) else None
        if manifest is None:
            raise NotFound(f"there is no bundle {id_[:64]}", hint="send its directory again")
        return Response(manifest, media_type=route.JSON)

    @route.post(
        "/api/v1/blobs", "sendBlobs", parcel.BlobsKept, body=bytes, body_type=bundle.BLOBS_TYPE,
        refuses=(InvalidSpec, LimitReached),
    )  # fmt: skip
    async def send(self, call: Call) -> Response[bytes]:
        """Send blobs, many at once.

        In msgpack: an array of `[sha256, data]`, both binary. Each is checked.
        """
        blobs = await asyncio.to_thread(bundle.decode_blobs, await call.body())
        if len(blobs) > bundle.MAX_BATCH_BLOBS:
            raise InvalidSpec(f"at most {bundle.MAX_BATCH_BLOBS:,} blobs at once")
        if blobs:
            await self._files.keep(blobs)
        return reply(parcel.BlobsKept(len(blobs)))

    @route.post(
        "/api/v1/blobs/fetch", "fetchBlobs", bytes, body=parcel.BlobsWanted,
        example={"blobs": [HELLO]}, media_types=(bundle.BLOBS_TYPE,),
        refuses=(InvalidSpec,),
    )  # fmt: skip
    async def fetch(self, call: Call) -> Response[bytes]:
        """Those of these blobs that are here, as they are sent.

        Together they are as large as what one request may send, at most.
        """
        names = _names(await call.body())
        blobs = await self._files.blobs(names, bundle.MAX_BATCH_BYTES)
        if blobs is None:
            raise InvalidSpec(
                f"these blobs are more than {bundle.MAX_BATCH_BYTES:,} bytes",
                hint="ask for some at a time",
            )
        answer: Any = await asyncio.to_thread(bundle.encode_blobs, blobs)
        return Response(answer, media_type=bundle.BLOBS_TYPE)


def _read(body: bytes) -> tuple[int, Collection[str]]:
    """Raises: InvalidSpec."""
    manifest = bundle.decode(body)
    return manifest.size, manifest.blobs()


def _names(body: bytes) -> list[str]:
    """Raises: HttpRefusal, InvalidSpec."""
    try:
        names = _wanted.decode(body).blobs
    except msgspec.MsgspecError as error:
        raise problems.HttpRefusal(f"the body is no list of blobs: {error}") from error
    if len(names) > bundle.MAX_BATCH_BLOBS or not all(map(bundle.is_id, names)):
        raise InvalidSpec(f"at most {bundle.MAX_BATCH_BLOBS:,} blobs, each by its SHA-256 in hex")
    return names
