"""Which addresses may be reached: none that is not, beyond doubt, a machine's on the public internet."""

import ipaddress
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from styx.kit.reach import Reach, public

METADATA = [
    "169.254.169.254",  # AWS, GCP, Azure, OpenStack, …
    "169.254.170.2",  # ECS
    "fd00:ec2::254",
    "100.100.100.200",  # Alibaba
    "192.0.0.192",  # Oracle
    "168.63.129.16",  # Azure
]
LOCAL = [
    *("0.0.0.0", "127.0.0.1", "127.255.255.254", "10.0.0.1", "172.31.255.255", "192.168.0.1"),
    *("100.64.0.1", "224.0.0.1", "239.255.255.255", "255.255.255.255", "198.19.0.1"),
    *("::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fdff::1", "fec0::1", "ff02::1"),
    *("::ffff:127.0.0.1", "::ffff:8.8.8.8", "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b:1::1"),
    *("2002:7f00:1::", "2001:0:1::", "2001:db8::1", "100::1", "5f00::1", "3fff::1"),
]
v4 = st.ip_addresses(v=4)  # of which many are special
v6 = st.ip_addresses(v=6)


@pytest.mark.parametrize("address", [*METADATA, *LOCAL])
def test_what_is_special_is_not_reached(address: str) -> None:
    assert not public(ipaddress.ip_address(address))
    assert not Reach().permits("https", "example.org", address)
    assert "no public address" in Reach().hinders("https", address)


@given(v4 | v6)
@example(IPv4Address("8.8.8.8"))
def test_what_is_public_is_so_by_python_s_lists_too(address: IPv4Address | IPv6Address) -> None:
    if public(address):
        assert address.is_global
        assert not address.is_private
        assert not address.is_multicast
        assert not address.is_loopback
        assert not address.is_link_local
        assert not address.is_unspecified


@given(v4)
@example(IPv4Address("127.0.0.1"))
@example(IPv4Address("169.254.169.254"))
def test_an_address_within_an_address_opens_no_door(inner: IPv4Address) -> None:
    number = int(inner)
    for prefix, shift in (("::", 0), ("::ffff:0:0", 0), ("::ffff:0:0:0", 0), ("2002::", 80)):
        assert not public(IPv6Address(int(IPv6Address(prefix)) | number << shift))
    teredo = int(IPv6Address("2001::")) | (number ^ 0xFFFF_FFFF)
    assert not public(IPv6Address(teredo))
    nat64 = IPv6Address(int(IPv6Address("64:ff9b::")) | number)
    assert public(nat64) == public(inner)


@given(
    st.sampled_from(["1.1.1.0/24", "8.8.8.0/24", "93.184.216.0/24", "2606:4700::/32", "2a00::/12"])
    .map(ipaddress.ip_network)
    .flatmap(lambda network: st.ip_addresses(network=network))
)
def test_the_internet_is_reached(address: IPv4Address | IPv6Address) -> None:
    assert public(address)
    assert Reach().permits("https", "example.org", str(address))
    assert not Reach().permits("http", "example.org", str(address))


@given(
    st.sampled_from(["10.0.0.0/8", "127.0.0.1/32", "fd00::/8"]).flatmap(
        lambda text: st.tuples(st.just(text), st.ip_addresses(network=ipaddress.ip_network(text)))
    )
)
def test_an_allowed_network_is_reached_by_http_too(
    given: tuple[str, IPv4Address | IPv6Address],
) -> None:
    network, address = given
    reach = Reach([network])
    assert reach.permits("http", "db.internal", str(address))
    assert reach.hinders("http", str(address)) == ""
    assert reach.hinders("http", "db.internal") == ""  # its addresses will tell
    assert not reach.permits("https", "db.internal", "192.168.1.1")


def test_an_allowed_name_is_reached_wherever_it_leads() -> None:
    reach = Reach(["Hooks.internal"])
    assert reach.hinders("http", "hooks.INTERNAL.") == ""
    assert reach.permits("http", "hooks.internal", "10.0.0.1")
    assert not reach.permits("https", "other.internal", "10.0.0.1")
    assert "https" in reach.hinders("http", "other.internal")
    assert Reach(["10.0.0.7"]).permits("http", "x", "10.0.0.7")


@pytest.mark.parametrize(
    "entry", ["", "10.0.0.0/33", "*.internal", "a b", "http://x", "10.0.0.1/8"]
)
def test_what_is_neither_a_name_nor_a_network_is_refused(entry: str) -> None:
    with pytest.raises(ValueError):
        Reach([entry])


def test_what_is_no_address_is_not_reached() -> None:
    assert not Reach().permits("https", "example.org", "example.org")
    assert IPv4Network("0.0.0.0/8")[0] in IPv4Network("0.0.0.0/8")
    assert not any(public(address) for address in IPv6Network("::/124"))
