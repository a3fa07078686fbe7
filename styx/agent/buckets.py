"""Buckets, by the library `obstore`: imported only by `styx.agent.remote`, where it is needed and there."""

import os
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import obstore
from obstore import exceptions as said
from obstore.store import ObjectStore, from_url

from styx.agent import stream
from styx.agent.errand import Ended, Failed
from styx.agent.stream import PIECE_BYTES, Away, Item, Opened
from styx.core import bundle

PART_BYTES: Final = (
    16 << 20
)  # of a large file that is sent: 10,000 of them are the most a store takes
PARTS_AT_A_TIME: Final = 4
# What the clouds' libraries ask when the environment holds no credentials.
_ASKED_FOR_CREDENTIALS: Final = ("169.254.169.254", "metadata", "Account must be specified")
_SETTINGS: Final = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_SKIP_SIGNATURE=true for a public bucket",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS",
    "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}


def put(path: str, url: str) -> None:
    """A file, or all files below a directory, into a bucket: below `url` if that ends in `/`. What is large
    goes in parts; what links lead to elsewhere stays there. Raises: Failed.
    """
    store, key = _store(url)
    top = Path(path).resolve()
    if top.is_dir():
        prefix = key.rstrip("/")
        files = (file for file in sorted(top.rglob("*")) if _is_inside(file, top))
        named = (
            (file, f"{prefix}/{file.relative_to(top).as_posix()}".lstrip("/")) for file in files
        )
    else:
        named = iter([(top, key + top.name if not key or key.endswith("/") else key)])
    for file, name in named:
        _put(store, file, name, url)


def _is_inside(file: Path, top: Path) -> bool:
    return file.is_file() and file.resolve().is_relative_to(top)


def items(url: str) -> list[Item]:
    """The object of this name, or all below the prefix. Raises: Failed."""
    store, key = _store(url)
    try:
        if key and not key.endswith("/"):
            stream.patiently(url, lambda: _asking(url, lambda: obstore.head(store, key)))
            return [_object(store, key, key.rpartition("/")[2], url, alone=True)]
    except FileNotFoundError:
        pass  # it may be a prefix
    prefix = key.rstrip("/")
    try:
        keys = stream.patiently(url, lambda: _asking(url, lambda: _listed(store, prefix, url)))
    except FileNotFoundError as error:
        raise Failed(Ended.REFUSED, f"{url}: there is no such bucket") from error
    if not keys:
        raise Failed(Ended.REFUSED, f"{url}: nothing is there")
    return [_object(store, one, one[len(prefix) :].lstrip("/"), url) for one in keys]


def _put(store: ObjectStore, file: Path, key: str, url: str) -> None:
    def send() -> None:
        obstore.put(store, key, file, chunk_size=PART_BYTES, max_concurrency=PARTS_AT_A_TIME)

    try:
        stream.patiently(url, lambda: _asking(url, send))
    except FileNotFoundError as error:
        raise Failed(Ended.REFUSED, f"{url}: there is no such bucket") from error


def _listed(store: ObjectStore, prefix: str, url: str) -> list[str]:
    keys: list[str] = []
    listing: Any = obstore.list(store, prefix or None)  # pyright: ignore[reportUnknownMemberType]: of Arrow
    for page in listing:
        keys += [meta["path"] for meta in page if meta["path"] != prefix]
        if len(keys) > bundle.MAX_ENTRIES:
            raise Failed(Ended.REFUSED, f"{url} has more than {bundle.MAX_ENTRIES:,} objects")
    return keys


def _object(store: ObjectStore, key: str, name: str, url: str, *, alone: bool = False) -> Item:
    def open_(at: int, tag: str) -> Opened:
        options: Any = {"range": {"offset": at}, "if_match": tag} if at and tag else {}
        try:
            found = _asking(url, lambda: obstore.get(store, key, options=options))
        except FileNotFoundError as error:
            raise Failed(Ended.REFUSED, f"{url}: {key} has gone") from error
        meta = found.meta
        begin = at if options else 0
        return Opened(begin, _pieces(url, found), meta["size"], meta["e_tag"] or "")

    bucket = "/".join(url.split("/", 3)[:3])
    return Item(name, f"{bucket}/{key}", open_, alone=alone)


def _pieces(url: str, found: Any) -> Iterator[bytes]:
    pieces = iter(found.stream(min_chunk_size=PIECE_BYTES))
    while (piece := _asking(url, lambda: next(pieces, None))) is not None:
        yield piece


def _store(url: str) -> tuple[ObjectStore, str]:
    """And the key in it, as it was written."""
    scheme, _, rest = url.partition("://")
    bucket, _, key = rest.partition("/")
    # Its operator has set it, so it is trusted.
    plain = os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://")
    settings: Any = {
        "client_options": {"allow_http": plain and scheme == "s3"},
        "retry_config": {"max_retries": 3, "retry_timeout": timedelta(seconds=30)},
    }
    return _asking(url, lambda: from_url(f"{scheme}://{bucket}", **settings)), key


def _asking(url: str, ask: Callable[[], Any]) -> Any:
    """What the library raises, in our words. Raises: Failed, Away, FileNotFoundError."""
    try:
        return ask()
    except (said.PermissionDeniedError, said.UnauthenticatedError) as error:
        raise Failed(
            Ended.REFUSED, f"{url}: the agent's credentials do not allow it: {_first(error)}"
        ) from error
    except said.InvalidPathError as error:
        raise Failed(Ended.REFUSED, f"{url}: a key that is no path: {_first(error)}") from error
    except FileNotFoundError:
        raise
    except said.PreconditionError as error:
        raise Failed(Ended.REFUSED, f"{url} has changed while it was fetched") from error
    except said.BaseError as error:
        if " 404 Not Found" in str(error):  # of a bucket that is listed
            raise FileNotFoundError(url) from error
        if any(word in str(error) for word in _ASKED_FOR_CREDENTIALS):
            wanted = _SETTINGS[url.partition("://")[0]]
            cure = f"set {wanted}, in the agent's environment"
            raise Failed(Ended.REFUSED, f"{url}: the agent has no credentials: {cure}") from error
        raise Away(_first(error)) from error


def _first(error: Exception) -> str:
    return str(error).partition("\n")[0][:300]
