"""Which user of this machine is at the other end of a loopback connection? The kernel knows.

Postgres asks it for Unix sockets; for TCP, Linux answers for one connection by sock_diag(7), and where
that is not to be had, it lists all of them in /proc/net/tcp: milliseconds each time that there are many.
It is asked once per connection.
"""

import errno
import ipaddress
import socket
import struct
import sys
from pathlib import Path
from typing import Final

TABLES: Final = ((Path("/proc/net/tcp"), False), (Path("/proc/net/tcp6"), True))
NETLINK_SOCK_DIAG: Final = 4
SOCK_DIAG_BY_FAMILY: Final = 20
NLM_F_REQUEST: Final = 1
NLMSG_ERROR: Final = 2
ANY_STATE: Final = 0xFFFFFFFF
HEADER: Final = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, number, sender
WISH: Final = struct.Struct("=BBBxI")  # inet_diag_req_v2: family, protocol, extensions, states
ENDS: Final = struct.Struct("=2s2s16s16sIII")  # inet_diag_sockid: ports, addresses, device, cookie
ANSWER: Final = struct.Struct("=BBBB48sIIIII")  # inet_diag_msg: …, ends, timer, queues, uid, inode
ANSWER_S: Final = 1.0  # the kernel answers at once
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
    if sys.platform != "linux":
        return None
    try:
        return asked(client, server)
    except OSError:
        return listed(client, server)


def asked(client: Address, server: Address) -> int | None:
    """The kernel's answer for this connection. Raises: OSError, if it gives none."""
    family = socket.AF_INET6 if ":" in client[0] else socket.AF_INET
    any_device, any_cookie = 0, 0xFFFFFFFF
    ports = client[1].to_bytes(2, "big"), server[1].to_bytes(2, "big")
    addresses = socket.inet_pton(family, client[0]), socket.inet_pton(family, server[0])
    ends = ENDS.pack(*ports, *addresses, any_device, any_cookie, any_cookie)
    wish = WISH.pack(family, socket.IPPROTO_TCP, 0, ANY_STATE) + ends
    length = HEADER.size + len(wish)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG) as kernel:
        kernel.settimeout(ANSWER_S)
        kernel.sendto(HEADER.pack(length, SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST, 1, 0) + wish, (0, 0))
        answer = kernel.recv(4_096)
    _, kind, _, _, _ = HEADER.unpack_from(answer)
    if kind == NLMSG_ERROR:
        code = -struct.unpack_from("=i", answer, HEADER.size)[0]
        if code == errno.ENOENT:
            return None
        raise OSError(code, "sock_diag")
    *_, found, _, _, _, uid, inode = ANSWER.unpack_from(answer, HEADER.size)
    # A port that somebody listens at answers for every connection to it that is not there.
    if ENDS.unpack(found)[:2] != ports:
        return None
    return uid if inode else None  # see `listed`


def listed(client: Address, server: Address) -> int | None:
    """The same from the list of all connections."""
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
