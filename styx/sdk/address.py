"""Where the server is and what proves who we are: config → address.

The server is the configured one; else the local one that says of itself in `server.json` that it
lives; else whatever listens at the configured host and port.
"""

import os
from datetime import datetime
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec

from styx.config import Config, load
from styx.errors import FieldError, InvalidSpec

_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_ANY: Final = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # listens there: reach it here


class Address(msgspec.Struct, frozen=True):
    """`url` may be several, separated by commas. `chosen`: somebody named it, so no other server may stand
    in for it.
    """

    url: str
    token: str
    chosen: bool


class LocalServer(msgspec.Struct, frozen=True):
    """`server.json`: what a running local server says of itself."""

    pid: int
    url: str
    started_at: datetime | None = None


def find(config: Config, url: str | None = None) -> Address:
    """Raises: InvalidSpec, when the configured URL (or `url`, which goes before it) is none."""
    if given := url or config.server.url:
        url, chosen = checked(given), True
    else:
        local = local_server(config)
        url = local.url.rstrip("/") if local else default_url(config)
        chosen = False
    return Address(url, config.auth.token or _local_token(config, url), chosen)


def local_server(config: Config) -> LocalServer | None:
    """The server that this home's `server.json` names, if its process lives."""
    try:
        local = msgspec.json.decode(config.server_path.read_bytes(), type=LocalServer)
    except (OSError, msgspec.MsgspecError):
        return None
    return local if alive(local.pid) else None


def is_local(url: str) -> bool:
    """Whether it is the server of this home, on this machine."""
    server = local_server(load().config)
    return server is not None and server.url == url


def alive(pid: int) -> bool:
    """Whether the process lives, and is one of ours as far as the system tells (numbers come again)."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        return b"styx" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return True


def default_url(config: Config) -> str:
    return url_of(config.server.host, config.server.port)


def url_of(host: str, port: int) -> str:
    """Of a listener; one on every interface is reached over loopback."""
    host = _ANY.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def checked(url: str) -> str:
    """The URL without a closing slash; of several, separated by commas, each. Raises: InvalidSpec."""
    servers = [one.strip().rstrip("/") for one in url.split(",")]
    for server in servers:
        if not _is_url(server):
            wrong = FieldError("server.url", "expected http://HOST:PORT or https://HOST")
            raise InvalidSpec(f"server.url = {url!r}: {wrong.message}", wrong)
    return ",".join(servers)


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # no such port
        return False


def _local_token(config: Config, url: str) -> str:
    """The local administrator's token. It never leaves this machine: another server cannot need it."""
    if not {urlsplit(server).hostname for server in url.split(",")} <= _LOOPBACK:
        return ""
    try:
        return config.token_path.read_text(encoding="ascii").strip()
    except OSError:
        return ""
