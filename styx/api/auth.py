"""Who is asking, and from where? Everything is denied that is not let in here.

A bearer token, or *peer*: on a loopback listener the operating system says which user owns the
client's socket, and the user who runs the server is its administrator. Two dangers come with a server
on a workstation: a web page in its user's browser, which can reach loopback too (hence the rules about
Host, Origin and Sec-Fetch-Site), and a proxy that carries strangers to loopback (hence the rule about
forwarding headers).
"""

import hmac
import os
import pwd
import re
import socket
from collections.abc import Mapping
from typing import Any, Final

from styx.api.asgi import Scope
from styx.api.peer import Address, Peers, is_loopback
from styx.config import Config
from styx.errors import Forbidden, Unauthenticated
from styx.wire import agent as wire

OPEN_PATHS: Final = frozenset({"/health", "/readyz"})  # exact; nothing else without a credential
BEARER_SUBPROTOCOL: Final = (
    "styx.bearer."  # where a browser, which cannot set a header, puts its token
)
FORWARDING: Final = frozenset(
    {
        b"forwarded",
        b"via",
        b"x-forwarded",
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-proto",
        b"x-forwarded-port",
        b"x-forwarded-server",
        b"x-forwarded-by",
        b"x-original-host",
        b"x-real-ip",
        b"x-client-ip",
        b"true-client-ip",
        b"cf-connecting-ip",
        b"x-cluster-client-ip",
        b"x-envoy-external-address",
        b"x-amzn-trace-id",
    }
)

_TOKEN_ID: Final = re.compile(r"styx_([A-Za-z0-9]{1,32})_")

Headers = Mapping[bytes, bytes]


class Guard:
    def __init__(self, config: Config, token: str) -> None:
        self._token = token.encode()
        server = config.server
        # Behind a proxy every stranger comes over loopback, as whoever runs the proxy.
        behind_proxy = server.behind_tls_proxy
        self._peer = config.auth.peer and is_loopback(server.host) and not behind_proxy
        self._peers = Peers()
        self._uid = os.geteuid()
        self._peer_actor = f"peer:{_user(self._uid)}"
        named = _TOKEN_ID.match(token)
        self._token_actor = f"token:{named[1] if named else 'configured'}"
        self._secure = behind_proxy
        self._cors_origins = frozenset(server.cors_origins)
        names = (server.host, socket.gethostname(), *server.allowed_hosts)
        self._hosts = frozenset(name.lower() for name in names)

    def admit(self, scope: Scope, headers: Headers) -> str:
        """Let the request pass; return who asks, as the audit trail has it.

        Raises: Forbidden, for where it comes from; Unauthenticated.
        """
        host = _hostname(headers.get(b"host", b"").decode("latin-1"))
        if not self._knows(host):
            raise Forbidden(
                f"this server is not known as {host!r}",
                hint="add the name to server.allowed_hosts in its configuration",
            )
        self._check_origin(scope, headers)
        token = _token(scope, headers)
        if token is not None:
            # Of different lengths or not: the time taken says nothing about the right one.
            if not hmac.compare_digest(token, self._token):
                raise Unauthenticated("the token is not valid here", hint=_HINT)
            return self._token_actor
        if not self._is_peer(scope, headers, host):
            raise Unauthenticated("a token is needed", hint=_HINT)
        return self._peer_actor

    def cors_origin(self, headers: Headers) -> bytes | None:
        """The request's origin, if it is a foreign one that the configuration lets read answers."""
        origin = headers.get(b"origin")
        if origin is None or not self._is_configured(origin.decode("latin-1")):
            return None
        return origin

    def _knows(self, host: str) -> bool:
        """Addresses are safe: a rebinding attack comes under a name."""
        return host in self._hosts or _is_local(host) or _is_address(host)

    def _check_origin(self, scope: Scope, headers: Headers) -> None:
        if b"origin" not in headers:
            return
        if scope["path"] == wire.PATH:
            raise Forbidden("this socket is for agents, not for web pages")
        origin = headers[b"origin"].decode("latin-1")
        if not self._is_same(scope, headers, origin) and not self._is_configured(origin):
            raise Forbidden(
                f"requests from {origin} are not allowed",
                hint="add it to server.cors_origins in the server's configuration",
            )

    def _is_same(self, scope: Scope, headers: Headers, origin: str) -> bool:
        secure = self._secure or scope["scheme"] in {"https", "wss"}
        host = headers.get(b"host", b"").decode("latin-1")
        return origin.lower() == f"{'https' if secure else 'http'}://{host}".lower()

    def _is_configured(self, origin: str) -> bool:
        return origin in self._cors_origins or "*" in self._cors_origins

    def _is_peer(self, scope: Scope, headers: Headers, host: str) -> bool:
        client: Address | None = scope.get("client")
        server: Address | None = scope.get("server")
        if not self._peer or client is None or server is None or not is_loopback(client[0]):
            return False
        if not _is_local(host) or not FORWARDING.isdisjoint(headers):
            return False
        if headers.get(b"sec-fetch-site", b"none") not in {b"same-origin", b"none"}:
            return False
        if b"origin" in headers and not self._is_same(
            scope, headers, headers[b"origin"].decode("latin-1")
        ):
            return False
        return self._peers.uid(client, server) == self._uid


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


_HINT: Final = (
    "send the header 'Authorization: Bearer TOKEN' with the token of the server's file "
    "(`styx` finds it by itself, or in $STYX_TOKEN); without one, only the user who runs the server "
    "is let in, from its own machine"
)


def _token(scope: Scope, headers: Headers) -> bytes | None:
    scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
    if scheme:
        return token.strip() if scheme.lower() == b"bearer" else b""
    subprotocols: list[Any] = scope.get("subprotocols") or []
    for offered in subprotocols:
        if str(offered).startswith(BEARER_SUBPROTOCOL):
            return str(offered).removeprefix(BEARER_SUBPROTOCOL).encode()
    return None


def _hostname(host: str) -> str:
    """Of a Host header, lower case, without port and brackets."""
    host = host.strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _is_local(host: str) -> bool:
    return host.endswith(".localhost") or is_loopback(host)


def _is_address(host: str) -> bool:
    try:
        socket.inet_pton(socket.AF_INET6 if ":" in host else socket.AF_INET, host)
    except OSError:
        return False
    return True
