"""Who is let in, and from where: every rule by itself, on the scopes that the HTTP server makes."""

import os
import socket
import sys

import pytest

from styx.api.auth import Guard
from styx.api.peer import Peers, asked, is_loopback, listed, owner
from styx.config import Auth, Config, Server
from styx.errors import Forbidden, Unauthenticated
from styx.wire import agent as wire

TOKEN = "styx_0123456789ab_secret_00000000"
BEARER = {b"authorization": b"Bearer " + TOKEN.encode()}
LOCAL = {b"host": b"localhost:8080"}


def guard(host="127.0.0.1", *, peer=True, **server) -> Guard:
    return Guard(Config(server=Server(host=host, **server), auth=Auth(peer=peer)), TOKEN)


def scope(path="/api/v1/tasks", *, kind="http", client=("203.0.113.7", 4711), **more):
    schemes = {"http": "http", "websocket": "ws"}
    return {
        "type": kind,
        "scheme": schemes[kind],
        "path": path,
        "client": client,
        "server": ("127.0.0.1", 8080),
        **more,
    }


# --- tokens -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", [b"Bearer", b"bearer", b"BEARER"])
def test_the_right_token_is_let_in_from_anywhere(scheme):
    headers = {**LOCAL, b"authorization": scheme + b" " + TOKEN.encode()}
    guard().admit(scope(), headers)


@pytest.mark.parametrize(
    "header",
    [
        b"Bearer",
        b"Bearer ",
        b"Bearer x",
        b"Bearer " + TOKEN.encode()[:-1],
        b"Bearer " + TOKEN.encode() + b"0",
        b"Basic " + TOKEN.encode(),
        TOKEN.encode(),
        b"Bearer \xff",
    ],
)
def test_another_token_is_not(header):
    with pytest.raises(Unauthenticated) as caught:
        guard().admit(scope(), {**LOCAL, b"authorization": header})
    assert "Authorization: Bearer" in caught.value.hint


def test_no_token_is_not():
    with pytest.raises(Unauthenticated):
        guard().admit(scope(), LOCAL)


def test_a_browser_puts_its_token_into_a_subprotocol():
    offered = ["styx.stream.1", f"styx.bearer.{TOKEN}"]
    guard().admit(scope(kind="websocket", subprotocols=offered), LOCAL)
    with pytest.raises(Unauthenticated):
        guard().admit(scope(kind="websocket", subprotocols=["styx.bearer.x"]), LOCAL)


# --- where from -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "localhost:8080",
        "LocalHost:1",
        "x.localhost",
        "127.0.0.1:8080",
        "127.8.8.8",
        "[::1]:8080",
        "192.0.2.9:8080",
        "[2001:db8::1]",
        socket.gethostname(),
        "styx.example:443",
    ],
)
def test_known_hosts(host):
    known = guard(allowed_hosts=("styx.example",))
    known.admit(scope(), {**BEARER, b"host": host.encode()})


@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.test",
        "evil.test:8080",
        "localhost.evil.test",
        "127.0.0.1.evil.test",
        "styx.example.x",
    ],
)
def test_unknown_hosts_are_refused_even_with_a_token(host):
    with pytest.raises(Forbidden) as caught:
        guard(allowed_hosts=("styx.example",)).admit(scope(), {**BEARER, b"host": host.encode()})
    assert "allowed_hosts" in caught.value.hint


@pytest.mark.parametrize(
    "origin",
    [b"http://evil.test", b"null", b"http://localhost:3000", b"https://localhost:8080", b""],
)
def test_foreign_origins_are_refused_even_with_a_token(origin):
    with pytest.raises(Forbidden):
        guard().admit(scope(), {**BEARER, **LOCAL, b"origin": origin})


def test_the_own_origin_and_configured_ones_pass():
    guard().admit(scope(), {**BEARER, **LOCAL, b"origin": b"http://localhost:8080"})
    guard().admit(scope(kind="websocket"), {**BEARER, **LOCAL, b"origin": b"http://localhost:8080"})
    configured = guard(cors_origins=("https://ui.example",))
    foreign = {**BEARER, **LOCAL, b"origin": b"https://ui.example"}
    configured.admit(scope(), foreign)
    assert configured.cors_origin(foreign) == b"https://ui.example"
    assert configured.cors_origin({b"origin": b"https://evil.test"}) is None
    assert guard().cors_origin(foreign) is None


def test_behind_a_tls_proxy_the_own_origin_is_https():
    behind = guard(behind_tls_proxy=True, allowed_hosts=("styx.example",))
    host = {b"host": b"styx.example"}
    behind.admit(scope(), {**BEARER, **host, b"origin": b"https://styx.example"})
    with pytest.raises(Forbidden):
        behind.admit(scope(), {**BEARER, **host, b"origin": b"http://styx.example"})


def test_the_socket_of_agents_takes_no_origin_at_all():
    own = {**BEARER, **LOCAL, b"origin": b"http://localhost:8080"}
    with pytest.raises(Forbidden):
        guard().admit(scope(wire.PATH, kind="websocket"), own)


# --- peers ------------------------------------------------------------------------------------------

needs_proc = pytest.mark.skipif(sys.platform != "linux", reason="the kernel does not tell")


@pytest.fixture(params=["127.0.0.1", "::1"])
def connection(request):
    """Both ends of a real connection: (client, server, the client's socket)."""
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    try:
        listener = socket.create_server((request.param, 0), family=family)
    except OSError:
        pytest.skip(f"no {request.param} here")
    with listener, socket.create_connection(listener.getsockname()[:2]) as client:
        accepted, _ = listener.accept()
        with accepted:
            yield accepted.getpeername()[:2], accepted.getsockname()[:2], client


@pytest.fixture(params=[asked, listed])
def ask(request):
    """Both ways to learn it; the second is for machines without the first."""
    if request.param is asked:
        try:
            asked(("127.0.0.1", 1), ("127.0.0.1", 1))
        except OSError as error:
            pytest.skip(f"no sock_diag here: {error}")
    return request.param


@needs_proc
def test_the_kernel_names_the_owner(connection, ask):
    client, server, _ = connection
    assert ask(client, server) == os.geteuid()
    assert ask((client[0], 1), server) is None
    assert ask(client, (server[0], 1)) is None
    assert (
        ask(server, (client[0], 1)) is None
    )  # somebody listens there, and that is not the question


@needs_proc
def test_a_client_on_a_mapped_address_is_found(ask):
    listener = socket.create_server(("127.0.0.1", 0))
    try:
        client = socket.socket(socket.AF_INET6)
    except OSError:
        pytest.skip("no IPv6 here")
    with listener, client:
        client.connect(("::ffff:127.0.0.1", listener.getsockname()[1]))
        accepted, _ = listener.accept()
        with accepted:
            assert ask(accepted.getpeername(), accepted.getsockname()) == os.geteuid()


@needs_proc
def test_a_socket_that_was_closed_belongs_to_nobody(connection, ask):
    """The kernel says that it is root's: a stranger must not become root by hanging up."""
    client, server, end = connection
    end.close()
    assert ask(client, server) is None


@needs_proc
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_another_user_is_another_user(connection, ask):
    end = connection[2]
    os.fchown(end.fileno(), 65534, -1)
    assert ask(*connection[:2]) == owner(*connection[:2]) == 65534
    with pytest.raises(Unauthenticated):
        guard().admit(*peer_request(connection))


@needs_proc
def test_the_answer_is_remembered_for_the_connection_and_not_for_its_port(connection):
    client, server, end = connection
    peers = Peers()
    assert peers.uid(client, server) == os.geteuid()
    end.close()
    assert peers.uid(client, server) == os.geteuid()  # the same object: the same connection
    reused = (client[0], client[1])  # another connection on the same port
    assert reused == client
    assert peers.uid(reused, server) is None


@needs_proc
def test_the_memory_of_peers_is_bounded(connection, monkeypatch):
    monkeypatch.setattr("styx.api.peer.CONNECTIONS", 2)
    client, server, _ = connection
    peers = Peers()
    for port in (1, 2, 3):
        peers.uid((client[0], port), server)
    assert len(peers._known) == 2
    assert peers.uid(client, server) == os.geteuid()


def peer_request(connection, **headers):
    client, server, _ = connection
    host = f"[{server[0]}]" if ":" in server[0] else server[0]
    named = {name.replace("_", "-").encode(): value for name, value in headers.items()}
    return scope(client=client) | {"server": server}, {b"host": host.encode(), **named}


@needs_proc
def test_the_servers_own_user_needs_no_token(connection):
    guard().admit(*peer_request(connection))
    guard().admit(*peer_request(connection, sec_fetch_site=b"none"))
    guard().admit(*peer_request(connection, sec_fetch_site=b"same-origin"))


@needs_proc
@pytest.mark.parametrize(
    "headers",
    [
        {"x_forwarded_for": b"203.0.113.9"},
        {"x_forwarded_proto": b"https"},
        {"x_real_ip": b"203.0.113.9"},
        {"forwarded": b"for=203.0.113.9"},
        {"via": b"1.1 proxy"},
        {"sec_fetch_site": b"cross-site"},
        {"sec_fetch_site": b"same-site"},
        {"host": b"192.0.2.9"},
        {"authorization": b"Bearer wrong"},
    ],
)
def test_but_not_what_may_come_from_elsewhere(connection, headers):
    with pytest.raises(Unauthenticated):
        guard().admit(*peer_request(connection, **headers))


@needs_proc
def test_nor_a_page_of_another_origin_that_may_use_tokens(connection):
    configured = guard(cors_origins=("http://localhost:3000",))
    request = peer_request(connection, origin=b"http://localhost:3000")
    with pytest.raises(Unauthenticated):
        configured.admit(*request)


@needs_proc
def test_nor_where_it_is_switched_off_or_the_listener_is_open_to_others(connection):
    others = guard(peer=False), guard("0.0.0.0"), guard("::"), guard(behind_tls_proxy=True)
    for other in others:
        with pytest.raises(Unauthenticated):
            other.admit(*peer_request(connection))


def test_loopback():
    assert all(map(is_loopback, ["127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1", "localhost"]))
    assert not any(
        map(is_loopback, ["0.0.0.0", "10.0.0.1", "::", "::ffff:10.0.0.1", "localhost.x"])
    )
