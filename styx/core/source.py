"""Where the files of a task come from, if not from who submits: a bucket, or a web address.

Among a task's `files` such a source is one text. The digest that a file must have is its fragment, as pip
writes it: `https://host/model.bin#sha256=…`.
"""

import re
from collections.abc import Mapping
from typing import Final, NamedTuple, cast
from urllib.parse import urlsplit

from styx.core import bundle, fields
from styx.core.units import Expected
from styx.errors import FieldError, InvalidSpec

BUCKETS: Final = ("s3", "gs", "az")
WEB: Final = ("https", "http")
EXPECTED: Final = (
    "s3://bucket/key, gs://…, az://… (with a / at the end all below it), or https://host/file"
)
_MARK: Final = "#sha256="
_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,221}")
_MAX_BYTES: Final = 4_096


class Source(NamedTuple):
    url: str
    sha256: str = ""

    @property
    def scheme(self) -> str:
        return self.url.partition("://")[0]


def is_source(text: str) -> bool:
    """Anything but a bundle's id, or a path of who submits."""
    return "://" in text


def is_bucket(text: str) -> bool:
    return text.partition("://")[0] in BUCKETS


def parse(text: str) -> Source:
    url, _, sha256 = text.partition(_MARK)
    return Source(url, sha256)


def read(value: object) -> str:
    """An address, or `{source, sha256}`. Raises: Expected."""
    sha256: object = ""
    if isinstance(value, dict):
        given = cast("dict[object, object]", value)
        if unknown := given.keys() - {"source", "sha256"}:
            raise Expected(f"`source` and `sha256`, without {min(map(str, unknown))!r},")
        value, sha256 = given.get("source"), given.get("sha256") or ""
    if not isinstance(value, str) or not value.isprintable() or len(value) > _MAX_BYTES:
        raise Expected(EXPECTED)
    found = parse(value)
    sha256 = sha256 or found.sha256
    _check(found.url)
    if not sha256:
        return found.url
    if not isinstance(sha256, str) or not bundle.is_id(sha256):
        raise Expected("a `sha256` of 64 hexadecimal digits, in small letters")
    if found.url.endswith("/"):
        raise Expected("a `sha256` of one file, not of all below a prefix")
    return f"{found.url}{_MARK}{sha256}"


def destination(to: str) -> str:
    """Where it goes, as it is kept. Raises: Expected."""
    anchor = to[0] if to.startswith(("/", "~/")) else ""
    inside = to[len(anchor) :].strip("/").removeprefix("./")
    if not anchor and inside in {"", "."}:
        return "."
    try:
        bundle.parts(inside)
    except InvalidSpec:
        raise Expected("a place in the work directory, or below / or ~/, as destination") from None
    head = {"": "", "/": "/", "~": "~/"}[anchor]
    return f"{head}{inside}{'/' * to.endswith('/')}"


def inside(files: Mapping[str, str]) -> dict[str, str]:
    """Those that go into the task's work directory."""
    return {to: what for to, what in files.items() if not to.startswith(("/", "~"))}


def files(value: object) -> dict[str, str]:
    """As the server takes them: who submits has sent what a file names."""
    if not isinstance(value, dict):
        raise Expected("an object of destinations")
    errors: list[FieldError] = []
    found: dict[str, str] = {}
    for place, what in cast("dict[object, object]", value).items():
        if place in fields.PLACES and isinstance(what, str) and bundle.is_id(what):
            found[cast("str", place)] = what
        elif isinstance(place, str) and (isinstance(what, dict) or "://" in str(what)):
            try:
                found[destination(fields.text(place))] = read(cast("object", what))
            except Expected as error:
                errors += fields.below(fields.short(place), cast("object", what), error)
        else:
            message = (
                "expected a bucket or web address, or `/` or `~` with a bundle's id: `styx submit` "
                "sends what a file names"
            )
            errors.append(FieldError(fields.short(place), message))
    if errors:
        raise fields.Wrong(errors)
    return found


def _check(url: str) -> None:
    """Raises: Expected."""
    try:
        parts = urlsplit(url)
        known = bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        raise Expected(EXPECTED) from None
    if parts.scheme in BUCKETS and _BUCKET.fullmatch(parts.netloc):
        return
    if parts.scheme not in WEB or not known or parts.fragment:
        raise Expected(EXPECTED)
    if "@" in parts.netloc:
        raise Expected("an address without a password, which everybody would see,")
    if parts.path.endswith("/") or not parts.path:
        raise Expected("the address of one file: the web has no list of those below another")
    if " " in url or not url.isascii():
        raise Expected("an address with its blanks and letters escaped (%20)")
