"""Files from afar, from a real S3 server and a web server that misbehaves; and what may not be asked."""

import hashlib
import os
import re
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from styx.agent import fetch, remote, send, stream
from styx.agent.errand import Delivery, Ended, Failed, Outcome, Parcel, Request, Target, room
from styx.kit.reach import Reach

HERE = Reach(["127.0.0.0/8"])
LARGE = os.urandom(20 << 20)  # more than a part


class Web:
    """`pages` are answered; `breaks` is after how many bytes the connection is cut, in turn."""

    def __init__(self) -> None:
        self.pages: dict[str, bytes] = {}
        self.moved: dict[str, str] = {}
        self.statuses: list[int] = []
        self.breaks: list[int] = []
        self.ranges: list[str] = []
        web = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                web.ranges.append(self.headers.get("Range", ""))
                page = web.pages.get(self.path)
                if web.statuses:
                    self.send_error(web.statuses.pop(0))
                elif to := web.moved.get(self.path):
                    self.send_response(302)
                    self.send_header("Location", to)
                    self.end_headers()
                elif page is None:
                    self.send_error(404)
                else:
                    self.serve(page)

            def serve(self, page: bytes) -> None:
                begin = int((self.headers.get("Range") or "bytes=0-")[6:-1])
                self.send_response(206 if begin else 200)
                self.send_header("ETag", '"it"')
                self.send_header("Content-Length", str(len(page) - begin))
                self.end_headers()
                self.wfile.write(page[begin:][: web.breaks.pop(0) if web.breaks else None])

            def log_message(self, *_: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"


@pytest.fixture
def web() -> Iterator[Web]:
    made = Web()
    thread = threading.Thread(target=made.http.serve_forever, args=(0.01,))
    thread.start()
    yield made
    made.http.shutdown()
    made.http.server_close()
    thread.join()


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """Where it listens."""
    pytest.importorskip("obstore")
    pytest.importorskip("moto.server")
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        found = next(m for line in process.stderr if (m := re.search(r"http://[\d.:]+", line)))
        threading.Thread(target=process.stderr.read, daemon=True).start()
        yield found[0]
        process.kill()


@pytest.fixture
def bucket(s3: str, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in {
        "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": s3,
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    stored(s3, "bucket")
    return s3


def stored(s3: str, path: str, data: bytes = b"") -> None:
    urllib.request.urlopen(urllib.request.Request(f"{s3}/{path}", data, method="PUT")).close()


def refused(what: str, to: Path, reach: Reach = HERE) -> str:
    with pytest.raises(Failed) as caught:
        remote.get(what, str(to), reach)
    assert caught.value.outcome.ended is Ended.REFUSED
    assert not [path for path in to.parent.rglob("*") if path.is_file()], "nothing half is left"
    return caught.value.outcome.detail


# --- buckets ----------------------------------------------------------------------------------------


def test_a_bucket_takes_a_directory_and_gives_it_back(bucket: str, tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "large").write_bytes(LARGE)
    (tmp_path / "a" / "small").write_bytes(b"x")
    remote.put(str(tmp_path / "a"), "s3://bucket/results/")
    remote.get("s3://bucket/results", str(tmp_path / "back"), HERE)
    assert (tmp_path / "back" / "b" / "large").read_bytes() == LARGE
    assert (tmp_path / "back" / "small").read_bytes() == b"x"
    remote.get("s3://bucket/results/small", str(tmp_path / "one"), HERE)
    remote.get("s3://bucket/results/small", f"{tmp_path}/into/", HERE)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "into" / "small").read_bytes() == b"x"


def test_what_a_task_leaves_goes_into_a_bucket(bucket: str, tmp_path: Path) -> None:
    for path in ("left/a", "work/model/w.bin", "work/logs/1.log"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(path)
    outputs = (("", "s3://bucket/1/"), ("model", "s3://bucket/2/"), ("logs/*", "s3://bucket/3"))
    parcel = Parcel(f"{tmp_path}/left", f"{tmp_path}/work", outputs)
    asked = Delivery(
        host="127.0.0.1", port=1, prefix="", encrypted=False, token="", parcel=parcel
    )  # nothing is for the server
    assert send.send(asked) == Outcome(Ended.DONE)
    for key, path in (
        ("1/a", "left/a"),
        ("2/w.bin", "work/model/w.bin"),
        ("3/logs/1.log", "work/logs/1.log"),
    ):
        remote.get(f"s3://bucket/{key}", str(tmp_path / "back"), HERE)
        assert (tmp_path / "back").read_text() == path
    (tmp_path / "work" / "passwd").symlink_to("/etc/passwd")
    parcel = Parcel(f"{tmp_path}/left", f"{tmp_path}/work", (("passwd", "s3://bucket/x"),))
    assert send.send(structs.replace(asked, parcel=parcel)).ended is Ended.REFUSED


def test_what_a_bucket_never_gives_is_told(bucket: str, tmp_path: Path) -> None:
    stored(bucket, "bucket/hostile/%2e%2e/x", b"evil")
    assert "no path" in refused("s3://bucket/hostile/", tmp_path / "in" / "x")
    assert "nothing is there" in refused("s3://bucket/none", tmp_path / "in" / "x")
    assert "no such bucket" in refused("s3://nobucket/none", tmp_path / "in" / "x")


# --- the web ----------------------------------------------------------------------------------------


def test_what_breaks_off_goes_on_where_it_was(
    web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "RETRY_BASE_S", 0.01)
    page = LARGE[: 3 << 20]
    web.pages["/f"], web.statuses, web.breaks = page, [503], [1 << 20, 1 << 20]
    web.moved["/old"] = "/f"
    digest = hashlib.sha256(page).hexdigest()
    remote.get(f"{web.url}/old#sha256={digest}", str(tmp_path / "f"), HERE)
    assert (tmp_path / "f").read_bytes() == page
    assert [asked for asked in web.ranges if asked] == ["bytes=1048576-"] * 2 + [
        "bytes=2097152-"
    ] * 2


def test_what_the_web_never_gives_is_told(
    web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "RETRY_BASE_S", 0.01)
    monkeypatch.setattr(stream, "TRIES", 3)
    web.pages["/f"], web.moved = b"x", {"/round": "/round"}
    to = tmp_path / "in" / "f"
    assert "answers 404" in refused(f"{web.url}/none", to)
    assert "more than 3 times" in refused(f"{web.url}/round", to)
    assert "has the SHA-256 2d711642" in refused(f"{web.url}/f#sha256={'0' * 64}", to)
    web.statuses = [500] * 3
    assert "it answers 500 (3 tries)" in refused(f"{web.url}/f", to)


def test_only_what_is_public_or_allowed_is_asked(web: Web, tmp_path: Path) -> None:
    to, port = tmp_path / "in" / "f", web.url.rpartition(":")[2]
    web.pages["/f"] = b"x"
    for url in (f"{web.url}/f", f"https://localhost:{port}/f", "https://169.254.169.254/latest"):
        assert "`agent.allow_hosts`" in refused(url, to, Reach())
    web.moved["/out"] = f"{web.url}/f"
    named = Reach(["localhost"])
    by_name = f"http://localhost:{port}/out"
    assert "http://127.0.0.1" in refused(by_name, to, named), "a redirect is judged, too"
    assert not web.ranges[1:]


# --- an errand --------------------------------------------------------------------------------------


def test_what_goes_into_the_work_directory_is_a_room_of_its_own(web: Web, tmp_path: Path) -> None:
    web.pages = {"/a": b"A", "/b": b"B"}
    over = (("data/", f"{web.url}/a"), (f"{tmp_path}/out/b", f"{web.url}/b"))
    target = Target("job", "", over)
    request = Request("", 1, "", False, "", str(tmp_path), target, 1 << 30, ("127.0.0.0/8",))
    for _ in range(2):  # it is had once
        assert fetch.fetch(request) == Outcome(Ended.DONE)
    inside = Path(room(str(tmp_path), "job", "", target.inside))
    assert (inside / "data" / "a").read_bytes() == b"A"
    assert (tmp_path / "out" / "b").read_bytes() == b"B"
    assert all(map(os.path.exists, target.marks(str(tmp_path))))
    assert len(web.ranges) == 2


def test_where_the_library_is_missing_the_cure_is_told(tmp_path: Path) -> None:
    script = (
        "import sys; sys.modules['obstore'] = None\n"
        "from styx.agent import remote, errand\n"
        "try: remote.get('s3://b/c', sys.argv[1], None)\n"
        "except errand.Failed as failed: print(failed.outcome.detail)"
    )
    said = subprocess.check_output([sys.executable, "-c", script, str(tmp_path / "x")], text=True)
    assert "pip install 'styx[storage]'" in said
