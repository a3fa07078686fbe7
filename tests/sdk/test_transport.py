"""How the client talks to a server that is away, busy or wrong. The server here does what it is told.

Every test runs twice: with the sync client, and with the async one behind the same face.
"""

import http.server
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest

from styx import errors
from styx.sdk import address, failures
from styx.sdk.client import Styx
from styx.sdk.transport import Transport
from tests.sdk import bridge

HEALTH = b'{"status":"healthy","version":"9","service":"styx-server"}'


@pytest.fixture(params=["sync", "async"], autouse=True)
def client(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "async":
        monkeypatch.setitem(globals(), "Styx", bridge.styx)
        monkeypatch.setitem(globals(), "Transport", bridge.transport)


@dataclass
class Reply:
    body: bytes = HEALTH
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    hang_up: bool = False  # instead of an answer
    cut: bool = False  # before the end of the body
    close: bool = False  # quietly, after the answer


class Scripted(http.server.ThreadingHTTPServer):
    """Answers with `replies` in turn, the last one again and again; keeps what was asked."""

    daemon_threads = True

    def __init__(self, *replies: Reply) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.replies = list(replies)
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []
        self.connections = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Scripted

    def setup(self) -> None:
        super().setup()
        self.server.connections += 1

    def do_GET(self) -> None:
        replies = self.server.replies
        reply = replies.pop(0) if len(replies) > 1 else replies[0]
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.asked.append((self.command, self.path, headers, body))
        self.close_connection = reply.hang_up or reply.cut or reply.close
        if reply.hang_up:
            return
        self.send_response(reply.status)
        self.send_header("Content-Length", str(len(reply.body) + reply.cut))
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(reply.body)

    do_POST = do_GET  # noqa: N815 - the name is http.server's

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def serve() -> Iterator[Any]:
    servers: list[tuple[Scripted, threading.Thread]] = []

    def start(*replies: Reply, tls: ssl.SSLContext | None = None) -> Scripted:
        server = Scripted(*replies)
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        servers.append((server, thread))
        return server

    yield start
    for server, thread in servers:
        server.shutdown()
        thread.join()
        server.server_close()


def problem(status: int, **fields: Any) -> bytes:
    given = {"title": "T", "status": status, "detail": "what", "code": "c"} | fields
    return msgspec.json.encode(given)


def transport(url: str, **options: Any) -> tuple[Transport, list[float]]:
    """And the waits that it asked for, which take no time."""
    waits: list[float] = []
    return Transport(url, sleep=waits.append, **options), waits


def test_a_connection_is_kept(serve: Any) -> None:
    server = serve(Reply())
    with Styx(server.url, "") as styx:
        assert styx.health().version == "9"
        styx.health()
    assert server.connections == 1


def test_a_connection_that_the_server_dropped_is_opened_again(serve: Any) -> None:
    server = serve(Reply(close=True), Reply())
    made, waits = transport(server.url)
    made.call("GET", "/health")
    made.call("GET", "/health")
    made.close()
    assert (server.connections, waits) == (2, [])


def test_a_busy_server_is_asked_again_when_it_says(serve: Any) -> None:
    busy = Reply(problem(429), 429, {"Retry-After": "7"})
    server = serve(busy, Reply(problem(503), 503, {"Retry-After": "3"}), Reply())
    made, waits = transport(server.url)
    assert made.call("GET", "/health").status == 200
    made.close()
    assert [*map(int, waits)] == [7, 3]
    assert all(wait % 1 for wait in waits), "a little later, each at its own time"


def test_a_submit_is_repeated_under_one_key(serve: Any) -> None:
    done = Reply(b'{"task_id":"1","status":"submitted"}', 201)
    server = serve(Reply(hang_up=True), Reply(problem(503), 503, {"Retry-After": "0"}), done)
    with Styx(server.url, "tok") as styx:
        assert styx.submit({"command": "true"}).task_id == "1"
        styx.submit({"command": "true"})
        styx.submit({"command": "true"}, key="mine")
    keys = [headers["idempotency-key"] for _, _, headers, _ in server.asked]
    assert keys[0] == keys[1] == keys[2]
    assert len({keys[0], keys[3], "mine"}) == 3
    assert keys[4] == "mine"
    assert {headers["authorization"] for _, _, headers, _ in server.asked} == {"Bearer tok"}
    assert server.asked[0][3] == b'{"command":"true"}'


def test_patience_ends(serve: Any) -> None:
    made, waits = transport(serve(Reply(problem(503), 503, {"Retry-After": "400"})).url)
    with pytest.raises(failures.ServerFailed, match="the server failed: what"):
        made.call("GET", "/health")
    made.close()
    assert waits == []


def test_a_server_that_was_never_there_is_told_at_once() -> None:
    with socket.socket() as taken:  # bound, not listening: refuses
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        made, waits = transport(url, first_contact_s=0.0)
        with pytest.raises(failures.Unreachable, match=r"\(connection refused\)"):
            made.call("GET", "/health")
        made.close()
    assert waits == []


def test_a_server_that_goes_away_is_waited_for(serve: Any) -> None:
    server = serve(Reply(close=True), Reply(hang_up=True), Reply(hang_up=True), Reply())
    made, waits = transport(server.url, first_contact_s=0.0)
    made.call("GET", "/health")
    made.call("GET", "/health")
    made.close()
    assert len(waits) == 2


def test_of_several_servers_the_next_is_asked_before_any_wait(serve: Any) -> None:
    done = Reply(b'{"task_id":"1","status":"submitted"}', 201)
    away = Reply(problem(503), 503, {"Retry-After": "9"})
    first, second = serve(Reply(hang_up=True), away, done), serve(done, done, away, done)
    told: list[str] = []
    with Styx(f"{first.url}, {second.url}/", "", on_wait=lambda f: told.append(f.message)) as styx:
        for _ in range(2):  # the second stays the one that is asked
            assert styx.submit({"command": "true"}).task_id == "1"
    keys = [
        headers["idempotency-key"] for server in (first, second) for *_, headers, _ in server.asked
    ]
    assert keys[0] == keys[1] != keys[2]
    assert (len(first.asked), len(second.asked), told) == (1, 2, [])

    made, waits = transport(f"{second.url},{first.url}", on_wait=lambda f: told.append(f.message))
    made.call("POST", "/api/v1/tasks", body={}, key="k")
    made.close()
    assert [*map(int, waits)] == [9], "both were asked"
    assert told == ["the server failed: what"]


def test_a_stream_goes_on_at_the_next_server(serve: Any) -> None:
    first = serve(Reply(sse(("1:1:0", "log", written("a", 0))), cut=True), Reply(problem(503), 503))
    second = serve(Reply(sse(("1:2:0", "log", written("b", 1)), ("1:2:0", "end", b"{}"))))
    with Styx(f"{first.url},{second.url}", "") as styx:
        assert b"".join(styx.logs("t", follow=True)) == b"ab"
    assert second.asked[0][2]["last-event-id"] == "1:1:0"


def test_an_outage_is_told_once(serve: Any) -> None:
    away = Reply(problem(503), 503)
    told: list[Any] = []
    made, waits = transport(
        serve(away, away, away, Reply(), away, Reply()).url, on_wait=told.append
    )
    made.call("GET", "/health")
    assert (len(waits), len(told)) == (3, 1)
    made.call("GET", "/health")
    made.close()
    assert (len(waits), len(told)) == (4, 2)


@pytest.mark.parametrize("url", ["", "http://a,", "http://a:b,http://c", "ftp://a", "http://a,b:1"])
def test_each_of_several_urls_has_to_be_one(url: str) -> None:
    with pytest.raises(errors.InvalidSpec, match=r"server\.url"):
        address.checked(url)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, errors.InvalidSpec), (401, errors.Unauthenticated), (403, errors.Forbidden),
        (404, errors.NotFound), (409, errors.Conflict), (413, errors.InvalidSpec),
        (422, errors.InvalidSpec), (500, failures.ServerFailed),
    ],
)  # fmt: skip
def test_a_refusal_keeps_its_class_and_its_hint(
    serve: Any, status: int, kind: type[errors.StyxError]
) -> None:
    server = serve(Reply(problem(status, hint="do this"), status))
    with Styx(server.url, "") as styx, pytest.raises(kind, match="what") as caught:
        styx.health()
    assert type(caught.value) is kind
    assert caught.value.hint == "do this"
    assert len(server.asked) == 1


def test_a_refused_document_names_its_fields(serve: Any) -> None:
    fields = [{"path": "tasks.a", "message": "wrong"}]
    server = serve(Reply(problem(422, errors=fields), 422))
    with Styx(server.url, "") as styx, pytest.raises(errors.InvalidSpec) as caught:
        styx.submit_job({})
    assert caught.value.errors == (errors.FieldError("tasks.a", "wrong"),)


@pytest.mark.parametrize("reply", [Reply(b"<html>hello</html>"), Reply(b"nope", 404), Reply(b"[]")])
def test_what_is_no_styx_server(serve: Any, reply: Reply) -> None:
    with Styx(serve(reply).url, "") as styx, pytest.raises(failures.ServerFailed):
        styx.health()


def test_a_server_may_know_more_than_the_client(serve: Any) -> None:
    body = b'{"status":"healthy","version":"9","service":"s","news":[1,2]}'
    with Styx(serve(Reply(body)).url, "") as styx:
        assert styx.health().status == "healthy"


def test_a_prefix_of_a_proxy_is_kept(serve: Any) -> None:
    server = serve(Reply(b"[]"))
    with Styx(f"{server.url}/styx/", "") as styx:
        assert list(styx.agents(status="ready", limit=3)) == []
    assert server.asked[0][1] == "/styx/api/v1/agents?status=ready&limit=3"


def test_a_reference_is_one_segment(serve: Any) -> None:
    server = serve(Reply(problem(404), 404))
    with Styx(server.url, "") as styx, pytest.raises(errors.NotFound):
        styx.task("sweep/1?x")
    assert server.asked[0][1] == "/api/v1/tasks/sweep%2F1%3Fx"


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make a certificate")
def test_tls_is_spoken_and_its_certificate_checked(
    serve: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost"
    named = ["-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", certificate]
    subprocess.run([*command.split(), *named], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = serve(Reply(), tls=context)
    url = server.url.replace("http://127.0.0.1", "https://localhost")
    with (
        Styx(url, "", patience_s=0.0) as styx,
        pytest.raises(failures.Unreachable, match="certificate verify failed"),
    ):
        styx.health()
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with Styx(url, "") as styx:
        assert styx.health().version == "9"
        styx.health()
    assert server.asked[0][2]["host"] == url.removeprefix("https://")


# --- long answers -------------------------------------------------------------------------------------


def sse(*events: tuple[str, str, bytes]) -> bytes:
    blocks = [b": alive", *(f"id: {i}\nevent: {k}\ndata: ".encode() + d for i, k, d in events)]
    return b"retry: 10\n\n" + b"".join(block + b"\n\n" for block in blocks)


def written(text: str, offset: int, stream: str = "out") -> bytes:
    place = {"attempt": 1, "rank": 0, "stream": stream, "offset": offset}
    return msgspec.json.encode(place | {"text": text})


def test_output_goes_on_where_the_line_broke(serve: Any) -> None:
    server = serve(
        Reply(sse(("1:2:0", "log", written("ab", 0))) + b"id: 1:4:0\nevent: log\nda", cut=True),
        Reply(hang_up=True),
        Reply(sse(("1:4:0", "log", written("cd", 2)), ("1:4:0", "end", b"{}"))),
    )
    with Styx(server.url, "") as styx:
        pieces = list(styx.follow("t", from_beginning=True))
    assert b"".join(piece.data for piece in pieces) == b"abcd"
    asked = [headers.get("last-event-id") for _, _, headers, _ in server.asked]
    assert asked == ["0:0:0", "1:2:0", "1:2:0"]
    assert server.asked[0][2]["accept"] == "text/event-stream"


def test_an_answer_that_ends_is_not_the_end(serve: Any) -> None:
    """As when the server stops: its streams end properly, the task goes on."""
    server = serve(
        Reply(sse(("1:1:0", "log", written("a", 0)))), Reply(sse(("1:1:0", "end", b"{}")))
    )
    with Styx(server.url, "") as styx:
        assert list(styx.logs("t", follow=True)) == [b"a"]
    assert len(server.asked) == 2


def test_binary_output(serve: Any) -> None:
    data = b'{"attempt":1,"rank":0,"stream":"err","offset":0,"base64":"/w=="}'
    with Styx(serve(Reply(sse(("1:0:1", "log", data), ("1:0:1", "end", b"{}")))).url, "") as styx:
        assert [(w.stream, w.data) for w in styx.follow("t")] == [("err", b"\xff")]


def test_following_what_is_not_there(serve: Any) -> None:
    with Styx(serve(Reply(problem(404), 404)).url, "") as styx, pytest.raises(errors.NotFound):
        list(styx.follow("t"))
