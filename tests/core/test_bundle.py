"""Manifests: what is one, and every way in which one could write outside of its directory."""

import hashlib

import msgspec
import pytest

from styx.core import bundle
from styx.core.bundle import BLOB_BYTES, Blob, Directory, File, Link, Manifest
from styx.errors import InvalidSpec

A, B = "a" * 64, "b" * 64


def manifest(*entries: bundle.Entry) -> bytes:
    return bundle.encode(Manifest(entries))


def refused(*entries: bundle.Entry) -> str:
    with pytest.raises(InvalidSpec) as caught:
        bundle.decode(manifest(*entries))
    return caught.value.message


def test_a_manifest_is_read_as_it_was_written() -> None:
    large = File("b/large", BLOB_BYTES + 1, (A, B), executable=True)
    given = (File("a", 0), large, Directory("c"), Link("d/e", "../a"), Link("d/f", "e"))
    data = manifest(*given)
    read = bundle.decode(data)
    assert read.entries == given
    assert read.size == BLOB_BYTES + 1
    assert read.blobs() == {A: BLOB_BYTES, B: 1}
    assert bundle.id_of(data) == hashlib.sha256(data).hexdigest()


HOSTILE_PATHS = [
    "", "/", "/etc/passwd", "..", "../x", "a/../b", "a/..", "./a", "a/.", "a//b", "a/", ".", "a\0b",
    "../" * 20 + "etc/passwd", "a/" * 300 + "b", "x" * 256, "é" * 128, "a/" + "y" * 5_000,
]  # fmt: skip


@pytest.mark.parametrize("path", HOSTILE_PATHS)
def test_a_path_leads_downwards(path: str) -> None:
    for entry in (File(path, 0), Link(path, "x"), Directory(path)):
        assert refused(entry)
    with pytest.raises(InvalidSpec):
        bundle.parts(path)


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("l", "/etc"), ("l", ".."), ("l", "../x"), ("a/l", "../.."), ("a/l", "../../x"), ("l", ""),
        ("l", "a/../../x"), ("l", "a/../b"), ("l", "./a"), ("l", "a//b"), ("l", "a/"), ("l", "x\0y"),
        ("a/l", "../b/../../x"), ("a/l", "/"),
    ],
)  # fmt: skip
def test_a_link_stays_inside(path: str, target: str) -> None:
    assert refused(Link(path, target))


@pytest.mark.parametrize(
    ("path", "target"), [("l", "a"), ("l", "."), ("a/l", ".."), ("a/l", "../b/c"), ("a/b/l", "../..")]
)  # fmt: skip
def test_a_link_within_is_one(path: str, target: str) -> None:
    assert bundle.decode(manifest(Link(path, target))).entries == (Link(path, target),)


def test_nothing_is_written_through_a_link_or_a_file() -> None:
    assert "is no directory" in refused(Link("a", "b"), File("a/x", 0))
    assert "is no directory" in refused(File("a", 0), File("a-b", 0), File("a/x/y", 0))
    assert "is no directory" in refused(Directory("a"), Link("a/x", "y"))


def test_each_path_once_and_in_order() -> None:
    assert "sorted" in refused(File("a", 0), File("a", 0))
    assert "sorted" in refused(File("b", 0), File("a", 0))


def test_blobs_make_the_size() -> None:
    assert "blobs do not make" in refused(File("a", 1))
    assert "blobs do not make" in refused(File("a", 0, (A,)))
    assert "blobs do not make" in refused(File("a", BLOB_BYTES, (A, B)))


def test_too_many_entries() -> None:
    many = [File(f"{i:06}", 0) for i in range(bundle.MAX_ENTRIES + 1)]
    assert "at most 100,000" in refused(*many)
    assert bundle.decode(manifest(*many[1:]))


@pytest.mark.parametrize(
    "data",
    [
        b"", b"{}", b"[]", b"\xff", b'{"entries": [["x", "a"]]}', b'{"entries": [["f"]]}',
        b'{"entries": [["f", "a", -1]]}', b'{"entries": [["f", "a", 1, ["../../x"]]]}',
        b'{"entries": [["f", "a", 1, ["' + b"A" * 64 + b'"]]]}', b'{"entries": [], "version": 2}',
        b'{"entries": [["f", "\\ud800", 0]]}', b"[" * 100_000,
    ],
)  # fmt: skip
def test_what_is_no_manifest_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidSpec):
        bundle.decode(data)


def test_blobs_are_what_their_names_say() -> None:
    blob = Blob(hashlib.sha256(b"x").digest(), b"x")
    assert bundle.decode_blobs(bundle.encode_blobs([blob])) == [blob]
    with pytest.raises(InvalidSpec, match="damaged"):
        bundle.decode_blobs(bundle.encode_blobs([blob._replace(data=b"y")]))
    large = bytes(BLOB_BYTES + 1)
    with pytest.raises(InvalidSpec, match="at most"):
        bundle.decode_blobs(bundle.encode_blobs([Blob(hashlib.sha256(large).digest(), large)]))
    for junk in (b"", b"\x93", msgspec.msgpack.encode([["a", "b"]]), msgspec.msgpack.encode({})):
        with pytest.raises(InvalidSpec):
            bundle.decode_blobs(junk)
