"""Where a request that somebody else wants made may go: the public internet, and what is allow-listed.

Without it, whoever may name a URL could reach through us what only our machine reaches: a neighbour's
admin page, a cloud's metadata. So a name is looked up once, each address it leads to is judged, and the
connection is made to an address that passed, never to the name again.

Sources: IANA's registries of special-purpose IPv4 and IPv6 addresses; RFC 6052 (NAT64).
"""

import ipaddress
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final
from urllib.parse import urlsplit

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

# Python's own `is_global` is another list in every version.
_NOT_PUBLIC: Final[tuple[IPv4Network, ...]] = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8",  # this host
        "10.0.0.0/8",
        "100.64.0.0/10",  # carriers' NAT, and Alibaba's metadata
        "127.0.0.0/8",
        "168.63.129.16/32",  # Azure's host, reached from any of its machines
        "169.254.0.0/16",  # link-local, and most clouds' metadata
        "172.16.0.0/12",
        "192.0.0.0/24",  # protocols' own, and Oracle's metadata
        "192.0.2.0/24",  # documentation
        "192.31.196.0/24",
        "192.52.193.0/24",
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",
        "192.175.48.0/24",
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
    )
)
_PUBLIC_6: Final = IPv6Network(
    "2000::/3"
)  # all else is loopback, local, mapped, multicast or unassigned
_NOT_PUBLIC_6: Final[tuple[IPv6Network, ...]] = tuple(
    IPv6Network(text)
    for text in (
        "2001::/23",  # protocols' own: Teredo, which carries an IPv4 address, ORCHID, benchmarks
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4, which carries an IPv4 address
        "2620:4f:8000::/48",
        "3fff::/20",  # documentation
    )
)
_NAT64: Final = IPv6Network(
    "64:ff9b::/96"
)  # where the network has it, the last 32 bits are reached


class Reach:
    """`allowed` are hosts' names, and networks as CIDR. Raises: ValueError, for what is neither."""

    def __init__(self, allowed: Iterable[str] = ()) -> None:
        self._names: set[str] = set()
        self._networks: list[Network] = []
        for entry in allowed:
            if "/" in entry or _literal(entry):
                self._networks.append(ipaddress.ip_network(entry))
            elif entry and entry.isascii() and entry.isprintable() and not set(entry) & set(":*@ "):
                self._names.add(_name(entry))
            else:
                raise ValueError(f"{entry!r} is neither a host's name nor a network")

    def hinders(self, scheme: str, host: str) -> str:
        """Why it is certain, before any name is looked up, that nothing may go there; "" if it is not."""
        if _name(host) in self._names:
            return ""
        address = _literal(host)
        if address is not None:
            return "" if self.permits(scheme, host, host) else f"{host} is no public address"
        if scheme != "https" and not self._networks:
            return "only https goes beyond the hosts that are allow-listed"
        return ""

    def hinders_url(self, url: str) -> str:
        parts = urlsplit(url)
        return self.hinders(parts.scheme, parts.hostname or "")

    def permits(self, scheme: str, host: str, address: str) -> bool:
        """Whether a request to `host` may go to this address, which it has or its name was found to have."""
        found = _literal(address)
        if found is None:
            return False
        if _name(host) in self._names or any(found in network for network in self._networks):
            return True
        return scheme == "https" and public(found)


def public(address: Address) -> bool:
    """Whether it is one machine's, somewhere on the internet, beyond doubt."""
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _NOT_PUBLIC)
    if address in _NAT64:
        return public(IPv4Address(int(address) & 0xFFFF_FFFF))
    return address in _PUBLIC_6 and not any(address in network for network in _NOT_PUBLIC_6)


def _literal(text: str) -> Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _name(host: str) -> str:
    return host.lower().removesuffix(".")
