"""Which user of this machine is at the other end of a loopback connection? The kernel knows.

Postgres asks it for Unix sockets; for TCP on Linux the answer is in /proc/net/tcp. It is asked once
per connection.
"""

import ipaddress
import socket
import struct
from pathlib import Path
from typing import Final

TABLES: Final = ((Path("/proc/net/tcp"), False), (Path("/proc/net/tcp6"), True))
CONNECTIONS: Final = 4_096  # remembered; beyond, the oldest is asked again

Address = tuple[str, int]


class Peers:
    """Remembers the answer for as long as the connection lives, and not a moment longer.

    The HTTP server hands every request of a connection the same address object, and a new connection
    another one even if its port is used again. So the object, which the memory keeps alive, *is* the
    connection; an equal address in another object means nothing.
    """

    def __init__(self) -> None:
        self._known: dict[Address, tuple[Address, int | None]] = {}

    def uid(self, client: Address, server: Address) -> int | None:
        """The user who owns the client's socket; None if the kernel does not say."""
        known = self._known.get(client)
        if known is not None and known[0] is client:
            return known[1]
        found = owner(client, server)
        self._known.pop(client, None)
        if len(self._known) >= CONNECTIONS:
            del self._known[next(iter(self._known))]
        self._known[client] = (client, found)
        return found


def owner(client: Address, server: Address) -> int | None:
    """Look the client's end of the connection up among the sockets of this machine."""
    for table, mapped in TABLES:
        try:
            lines = table.read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            continue
        ends = _hex(client, mapped=mapped), _hex(server, mapped=mapped)
        for line in lines:
            columns = line.split(maxsplit=10)
            if (columns[1], columns[2]) == ends:
                # A socket that its process has closed belongs to nobody, and is listed as root's.
                return int(columns[7]) if columns[9] != "0" else None
    return None


def is_loopback(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def _hex(address: Address, *, mapped: bool) -> str:
    """As the kernel prints it: 32-bit words in the machine's byte order, then the port."""
    host, port = address
    if ":" in host:
        packed = socket.inet_pton(socket.AF_INET6, host)
    else:
        packed = socket.inet_aton(host)
        if mapped:
            packed = b"\0" * 10 + b"\xff\xff" + packed
    words = struct.unpack(f"={len(packed) // 4}I", packed)
    return "".join(f"{word:08X}" for word in words) + f":{port:04X}"
