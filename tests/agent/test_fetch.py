"""Fetching a bundle from a server that may say anything: whole in its place, or a reason and nothing."""

import hashlib
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest

from styx.agent import fetch
from styx.agent.errand import Ended, Outcome, Request, Target, room
from styx.agent.shelf import Blobs
from styx.core import bundle
from styx.core.bundle import BLOB_BYTES, Blob, Directory, File, Link, Manifest


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def a_file(path: str, data: bytes, *, executable: bool = False) -> File:
    pieces = [data[at : at + BLOB_BYTES] for at in range(0, len(data), BLOB_BYTES)]
    return File(path, len(data), tuple(map(digest, pieces)), executable)


class Depot:
    """A server of bundles. What it answers can be spoilt by its tests."""

    def __init__(self) -> None:
        self.manifests: dict[str, bytes] = {}
        self.blobs: dict[str, bytes] = {}
        self.asked: list[list[str]] = []
        self.status = 200
        depot = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                body = depot.manifests.get(self.path.removeprefix("/api/v1/bundles/"))
                self.answer(404 if body is None else depot.status, body or b"")

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                names = msgspec.json.decode(body)["blobs"]
                depot.asked.append(names)
                found = [Blob(bytes.fromhex(n), depot.blobs[n]) for n in names if n in depot.blobs]
                self.answer(depot.status, bundle.encode_blobs(found))

            def answer(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.http.server_address[1]

    def has(self, *entries: bundle.Entry, blobs: tuple[bytes, ...] = ()) -> str:
        data = bundle.encode(Manifest(entries))
        self.manifests[bundle.id_of(data)] = data
        self.blobs |= {digest(blob): blob for blob in blobs}
        return bundle.id_of(data)


@pytest.fixture
def depot() -> Iterator[Depot]:
    made = Depot()
    thread = threading.Thread(target=made.http.serve_forever, args=(0.01,))
    thread.start()
    yield made
    made.http.shutdown()
    made.http.server_close()
    thread.join()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    made = tmp_path / "home"
    made.mkdir()
    return made


def get(depot: Depot, home: Path, id_: str, *, job: str = "job", cache: int = 1 << 30) -> Outcome:
    return errand(depot, home, Target(job, id_), cache)


def errand(depot: Depot, home: Path, target: Target, cache: int = 1 << 30) -> Outcome:
    return fetch.fetch(
        Request("127.0.0.1", depot.port, "", False, "", str(home), target, cache)
    )  # fmt: skip


def there(home: Path, id_: str, job: str = "job") -> Path:
    return Path(room(str(home), job, id_))


def nothing_is_there(home: Path) -> None:
    assert [
        path for path in home.rglob("*") if "files" not in path.parts and path.name != "job"
    ] == [home / "jobs"] or not (home / "jobs").exists()


def test_a_bundle_is_there_whole(depot: Depot, home: Path) -> None:
    large = os.urandom(2 * BLOB_BYTES + 7)
    blobs = (b"hello", large[:BLOB_BYTES], large[BLOB_BYTES:-7], large[-7:])
    id_ = depot.has(
        a_file("a/b/c.txt", b"hello"),
        Directory("a/empty"),
        Link("a/link", "b/c.txt"),
        a_file("empty", b""),
        a_file("large", large),
        a_file("run.sh", b"hello", executable=True),
        blobs=blobs,
    )
    assert get(depot, home, id_) == Outcome(Ended.DONE)
    top = there(home, id_)
    assert (top / "a" / "b" / "c.txt").read_bytes() == b"hello"
    assert (top / "a" / "link").read_bytes() == b"hello"
    assert (top / "a" / "empty").is_dir()
    assert (top / "empty").read_bytes() == b""
    assert (top / "large").read_bytes() == large
    assert os.access(top / "run.sh", os.X_OK)
    assert not os.access(top / "a" / "b" / "c.txt", os.X_OK)


def test_what_is_on_the_shelf_is_not_asked_for(depot: Depot, home: Path) -> None:
    one = depot.has(a_file("a", b"A"), a_file("b", b"B"), blobs=(b"A", b"B", b"C"))
    two = depot.has(a_file("a", b"A"), a_file("b", b"C"))
    assert get(depot, home, one).ended is Ended.DONE
    assert get(depot, home, two).ended is Ended.DONE
    assert get(depot, home, two, job="other").ended is Ended.DONE
    assert get(depot, home, two).ended is Ended.DONE
    assert [sorted(names) for names in depot.asked] == [
        sorted([digest(b"A"), digest(b"B")]),
        [digest(b"C")],
    ]
    (there(home, two) / "a").write_text("changed by a task")
    assert (there(home, two, "other") / "a").read_bytes() == b"A", "each job has its own copy"


def test_what_is_damaged_on_the_shelf_is_fetched_again(depot: Depot, home: Path) -> None:
    id_ = depot.has(a_file("a", b"A" * 100), blobs=(b"A" * 100,))
    assert get(depot, home, id_).ended is Ended.DONE
    (kept,) = (path for path in (home / "files").rglob("*") if path.is_file())
    for damaged in (b"B" * 100, b"A" * 99, b""):
        kept.write_bytes(damaged)
        assert get(depot, home, id_, job=f"job{len(damaged)}{damaged[:1]!r}").ended is Ended.DONE
        assert kept.read_bytes() == b"A" * 100


HOSTILE = {
    "a path above": [File("../evil", 0)],
    "an absolute path": [File("/tmp/styx-evil", 0)],
    "a path that comes back": [File("a/../../evil", 0)],
    "through a link": [Link("a", "."), File("a/evil", 0)],
    "through a link and out": [Link("a", ".."), File("a/evil", 0)],
    "a link out": [Link("a", "../../../..")],
    "an absolute link": [Link("a", "/etc/passwd")],
    "a link of detours": [Link("a", "b/../../../x"), Link("b", "c/d")],
    "a file and a directory": [File("a", 0), File("a/b", 0)],
    "twice the same": [File("a", 0), File("a", 0)],
    "a name of NUL": [File("a\0b", 0)],
    "blobs without size": [File("a", 0, ("0" * 64,))],
    "a size without blobs": [File("a", 1 << 40)],
    "a negative size": [File("a", -1)],
    "a blob's name that is a path": [File("a", 1, ("../../../../etc/passwd",))],
    "too many": [File(f"{n:07}", 0) for n in range(bundle.MAX_ENTRIES + 1)],
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_manifest_writes_nothing(depot: Depot, home: Path, name: str) -> None:
    outcome = get(depot, home, depot.has(*HOSTILE[name]))
    assert outcome.ended is Ended.REFUSED
    assert outcome.detail
    nothing_is_there(home)
    assert sorted(path.name for path in home.parent.iterdir()) == ["home"]


def test_more_than_the_disk_holds(depot: Depot, home: Path) -> None:
    huge = File("huge", 1 << 50, tuple(f"{n:064x}" for n in range(1 << 30 >> 10)))
    outcome = get(
        depot, home, depot.has(msgspec.structs.replace(huge, size=len(huge.blobs) * BLOB_BYTES))
    )
    assert outcome.ended is Ended.FULL
    assert "free on the disk" in outcome.detail
    nothing_is_there(home)


def test_two_names_that_are_one_here_are_told(
    depot: Depot, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a disk that knows no case: it opens the one file by either name."""
    real = os.open

    def folded(path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        return real(path if dir_fd is None else path.lower(), flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", folded)
    id_ = depot.has(a_file("Makefile", b"A"), a_file("makefile", b"B"), blobs=(b"A", b"B"))
    outcome = get(depot, home, id_)
    assert outcome.ended is Ended.REFUSED
    assert "one name here: makefile" in outcome.detail
    nothing_is_there(home)


def test_what_never_comes_is_told(depot: Depot, home: Path) -> None:
    assert get(depot, home, "0" * 64).ended is Ended.REFUSED
    gone = depot.has(a_file("a", b"A"))
    outcome = get(depot, home, gone)
    assert outcome == Outcome(Ended.REFUSED, "the server does not have all of its files any more")
    lie = depot.has(File("a", 2, (digest(b"A"),)), blobs=(b"A",))
    assert get(depot, home, lie).ended is Ended.REFUSED
    nothing_is_there(home)


def test_what_may_come_later(depot: Depot, home: Path) -> None:
    id_ = depot.has(a_file("a", b"A"), blobs=(b"A",))
    depot.blobs[digest(b"A")] = b"B"
    assert get(depot, home, id_).ended is Ended.LATER, "damaged on its way"
    depot.status = 503
    assert get(depot, home, id_).ended is Ended.LATER
    depot.status = 200
    whole, depot.manifests[id_] = depot.manifests[id_], b"{}"
    assert get(depot, home, id_).ended is Ended.LATER
    depot.manifests[id_] = whole
    depot.blobs[digest(b"A")] = b"A"
    elsewhere = Depot()
    elsewhere.http.server_close()
    assert get(elsewhere, home, id_).ended is Ended.LATER
    nothing_is_there(home)
    assert get(depot, home, id_).ended is Ended.DONE


def test_a_bundle_is_laid_over_what_is_there(
    depot: Depot, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    top = home.parent / "user"
    (top / ".config").mkdir(parents=True)
    (top / ".config" / "old").write_text("stays")
    (top / ".config" / "tool").write_text("goes")
    monkeypatch.setenv("HOME", str(top))
    user = depot.has(
        a_file(".config/tool", b"new"),
        Link("l", ".config/tool"),
        a_file("x/y", b"new", executable=True),
        Directory("z"),
        blobs=(b"new",),
    )
    whole = depot.has(a_file(f"{home.parent}/abs".lstrip("/"), b"new"))
    target = Target("job", "", (("/", whole), ("~", user)))
    assert errand(depot, home, target) == Outcome(Ended.DONE)
    assert (top / ".config" / "old").read_text() == "stays"
    assert (top / ".config" / "tool").read_text() == (top / "l").read_text() == "new"
    assert os.access(top / "x" / "y", os.X_OK)
    assert (top / "z").is_dir()
    assert (home.parent / "abs").read_text() == "new"
    assert sorted(path.name for path in top.iterdir()) == [".config", "l", "x", "z"]
    # Once for a job, and again for the next.
    (top / "l").unlink()
    assert errand(depot, home, target).ended is Ended.DONE
    assert not (top / "l").exists()
    assert errand(depot, home, target._replace(job="next")).ended is Ended.DONE
    assert (top / "l").exists()
    # What is in the way is told with its path.
    (top / "x" / "y").unlink()
    (top / "x" / "y").mkdir()
    outcome = errand(depot, home, target._replace(job="third"))
    assert outcome == Outcome(Ended.REFUSED, f"{top}/x/y cannot be written: Is a directory")


def test_the_shelf_keeps_what_was_used_last(home: Path) -> None:
    blobs = Blobs(str(home), 3 * 4096)
    names: list[str] = []
    for n in range(4):
        data = b"%d" % n
        names.append(digest(data))
        blobs.keep(names[-1], data)
        path = home / "files" / names[-1][:2] / names[-1][2:]
        os.utime(path, (1_000_000 + n, 1_000_000 + n))
    assert blobs.read(names[0]) == b"0"
    blobs.trim()
    assert [blobs.has(name, 1) for name in names] == [True, False, True, True]
