"""One POST to a receiver that may be anything: what is refused, what fails, and what it may not cost."""

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from styx.hooks.client import MAX_HEAD_BYTES, Client, Failed, Refused
from styx.kit.reach import Reach
from tests.support.receiver import Says, always, certificate, receiving

LOOPBACK = Reach(["127.0.0.1"])


def client(reach: Reach = LOOPBACK, *, timeout_s: float = 20.0) -> Client:
    return Client(reach, timeout_s=timeout_s)


@asynccontextmanager
async def serving(talk: Callable[[asyncio.StreamWriter], object]) -> AsyncIterator[str]:
    """A server that has read a request and says whatever the test likes."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            said = talk(writer)
            if asyncio.iscoroutine(said):
                await said
        except OSError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"


async def test_what_is_sent() -> None:
    with receiving() as receiver:
        url = receiver.url("/a/b?c=%20d&e")
        answer = await client().post(url, [("webhook-id", "msg_1")], b'{"a":1}')
    assert answer.status == 204
    (got,) = receiver.got
    assert (got.path, got.body) == ("/a/b?c=%20d&e", b'{"a":1}')
    assert got.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert got.headers["content-type"] == "application/json"
    assert got.headers["webhook-id"] == "msg_1"
    assert got.headers["user-agent"].startswith("Styx/")
    assert not {"cookie", "authorization", "referer"} & got.headers.keys()


@pytest.mark.parametrize(
    "url",
    [
        "https://localhost:{port}/",
        "https://127.0.0.1:{port}/",
        "https://[::1]:{port}/",
        "https://[::ffff:127.0.0.1]:{port}/",
        "https://0.0.0.0:{port}/",
        "https://0x7f000001:{port}/",
        "https://127.1:{port}/",
        "http://localhost:{port}/",
    ],
)
async def test_what_is_not_public_gets_no_packet(url: str) -> None:
    with receiving() as receiver:
        with pytest.raises(Refused):
            await client(Reach()).post(url.format(port=receiver.port), [], b"{}")
        assert receiver.connections == 0


async def test_the_name_is_asked_once_and_only_a_permitted_address_reached(monkeypatch) -> None:
    """A second answer may be another one: that is how a checked name is rebound."""
    asked: list[str] = []

    def look_up(host: str, port: int, **_: object):
        asked.append(host)
        found = ["127.0.0.2", "127.0.0.1"] if len(asked) == 1 else ["127.0.0.2"]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, port)) for ip in found]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with receiving() as receiver, socket.create_server(("127.0.0.2", receiver.port)) as inside:
        inside.setblocking(False)
        url = receiver.url(host="hooks.example")
        answer = await client(Reach(["127.0.0.1/32"])).post(url, [], b"{}")
        assert answer.status == 204
        assert receiver.got[0].headers["host"] == f"hooks.example:{receiver.port}"
        assert asked == ["hooks.example"]
        with pytest.raises(Refused):
            await client(Reach(["127.0.0.1/32"])).post(url, [], b"{}")
        assert receiver.connections == 1
        with pytest.raises(BlockingIOError):
            inside.accept()


async def test_an_address_that_does_not_answer_is_passed_over(monkeypatch) -> None:
    def look_up(host: str, port: int, **_: object):
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (f"127.0.0.{n}", port)) for n in (2, 1)]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with receiving() as receiver:
        url = receiver.url(host="hooks.example")
        assert (await client(Reach(["127.0.0.0/8"])).post(url, [], b"{}")).status == 204


async def test_no_redirect_is_followed() -> None:
    with receiving() as target:
        answer = always(Says(302, {"location": target.url()}))
        with receiving(answer) as receiver:
            assert (await client().post(receiver.url(), [], b"{}")).status == 302
        assert target.connections == 0


async def test_https_with_the_name_and_its_certificate(tmp_path: Path) -> None:
    pem = certificate(tmp_path)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pem)
    names: list[str] = []
    server.sni_callback = lambda _socket, name, _context: names.append(name)
    reach = Reach(["127.0.0.0/8", "::1/128"])

    def trusting() -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(pem))

    with receiving(tls=server) as receiver:
        sound = Client(reach, timeout_s=20, tls=trusting)
        url = receiver.url(host="localhost")
        assert (await sound.post(url, [], b"{}")).status == 204
        assert names == ["localhost"]
        with pytest.raises(Failed, match="certificate"):  # of another name
            await sound.post(receiver.url(), [], b"{}")
        with pytest.raises(Failed, match="certificate"):  # of an unknown issuer
            await Client(reach, timeout_s=20).post(url, [], b"{}")
        assert len(receiver.got) == 1


async def test_a_huge_answer_costs_little() -> None:
    sent = 0

    async def talk(writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n")
        while sent < 1_000_000_000:
            writer.write(b"x" * 65_536)
            await writer.drain()
            sent += 65_536

    async with serving(talk) as url:
        assert (await client().post(url, [], b"{}")).status == 200
    assert sent < 32 << 20, "the rest was not taken"


async def test_an_answer_that_drips_ends_with_its_head() -> None:
    async def talk(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.2)

    async with serving(talk) as url:
        began_s = time.monotonic()
        assert (await client(timeout_s=60).post(url, [], b"{}")).status == 200
    assert time.monotonic() - began_s < 20


@pytest.mark.parametrize(
    "raw",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"",
        b"HTTP/1.1 200 OK\r\nx: " + b"a" * MAX_HEAD_BYTES,
        b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * MAX_HEAD_BYTES,
        b"HTTP/1.1 100 Continue\r\n\r\n" * MAX_HEAD_BYTES,
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    ],
    ids=["ssh", "nothing", "long line", "many lines", "for ever provisional", "another protocol"],
)
async def test_what_is_no_answer_fails(raw: bytes) -> None:
    async with serving(lambda writer: writer.write(raw)) as url:
        with pytest.raises(Failed):
            await client().post(url, [], b"{}")


async def test_an_answer_after_a_provisional_one_counts() -> None:
    raw = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 429 Slow\r\nRetry-After: 7\r\n\r\n"
    async with serving(lambda writer: writer.write(raw)) as url:
        assert await client().post(url, [], b"{}") == (429, "7")


async def test_who_says_nothing_is_given_up_in_time() -> None:
    hold = threading.Event()
    with receiving(always(Says(hold=hold))) as receiver:
        began_s = time.monotonic()
        with pytest.raises(Failed, match=r"within 0\.2 s"):
            await client(timeout_s=0.2).post(receiver.url(), [], b"{}")
        assert time.monotonic() - began_s < 10
        hold.set()


async def test_who_is_not_there_and_a_name_that_is_none() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(Failed, match="reached"):
        await client().post(f"http://127.0.0.1:{port}/", [], b"{}")
    with pytest.raises(Failed, match="name"):
        await client().post("https://nobody.invalid/", [], b"{}")
    with pytest.raises(Failed, match="name"):
        await client().post(f"https://{'a' * 64}.invalid/", [], b"{}")


async def test_names_that_are_never_answered_hold_nobody_up(monkeypatch) -> None:
    release = threading.Event()

    def hang(*_: object, **__: object) -> list[object]:
        release.wait(60)
        raise OSError("too late")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    slow = client(timeout_s=0.1)
    tries = [slow.post("https://slow.example/", [], b"{}") for _ in range(100)]
    found = await asyncio.gather(*tries, return_exceptions=True)
    assert {str(one) for one in found} == {"no answer within 0.1 s", "its name is not found"}
    assert threading.active_count() < 100, "no more threads than are allowed"
    release.set()
