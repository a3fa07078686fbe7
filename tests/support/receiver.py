"""A receiver of webhooks: a real HTTP server on loopback, which keeps what it is sent."""

import json
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final


@dataclass
class Got:
    path: str
    headers: dict[str, str]  # names in lower case
    body: bytes
    at_s: float

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Says:
    status: int = 204
    headers: dict[str, str] = field(default_factory=dict)
    raw: bytes = b""  # instead of an answer
    hold: threading.Event | None = None  # nothing until then


Answer = Callable[[int], Says]  # of the request's number, from 1


def always(says: Says) -> Answer:
    return lambda _: says


def first(*says: Says) -> Answer:
    """These, then 204."""
    return lambda number: says[number - 1] if number <= len(says) else Says()


TAKES: Final = always(Says())


class Receiver:
    def __init__(self, answer: Answer, port: int, tls: ssl.SSLContext | None) -> None:
        self.got: list[Got] = []
        self.connections = 0
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                receiver.got.append(Got(self.path, headers, body, time.monotonic()))
                says = answer(len(receiver.got))
                if says.hold is not None:
                    says.hold.wait(60)
                self.close_connection = True
                if says.raw:
                    self.wfile.write(says.raw)
                    return
                self.send_response(says.status)
                for name, value in says.headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Nothing on stderr."""

        class Server(ThreadingHTTPServer):
            request_queue_size = 128

            def get_request(self) -> tuple[socket.socket, Any]:
                receiver.connections += 1
                return super().get_request()

            def handle_error(self, *_: object) -> None:
                """Whoever hangs up is not told of."""

        self._server = Server(("127.0.0.1", port), Handler)
        if tls is not None:
            self._server.socket = tls.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self.port = int(self._server.server_address[1])
        self.scheme = "http" if tls is None else "https"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    def url(self, path: str = "/hook", *, host: str = "127.0.0.1") -> str:
        return f"{self.scheme}://{host}:{self.port}{path}"

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextmanager
def receiving(
    answer: Answer = TAKES, *, port: int = 0, tls: ssl.SSLContext | None = None
) -> Iterator[Receiver]:
    receiver = Receiver(answer, port, tls)
    receiver.start()
    try:
        yield receiver
    finally:
        receiver.close()


SUBJECT: Final = "subjectAltName=DNS:localhost"


def certificate(directory: Path) -> Path:
    """Of `localhost`, signed by itself; the key is in the same file."""
    file = directory / "localhost.pem"
    words = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -keyout"
    subprocess.run(
        [*words.split(), file, "-out", directory / "only.pem", "-addext", SUBJECT],
        check=True,
        capture_output=True,
    )
    file.write_bytes(file.read_bytes() + (directory / "only.pem").read_bytes())
    return file
