from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assetgen_pipeline.domain.address_policy import is_public_address

REFUSED = """
127.0.0.1 127.1.2.3 10.0.0.1 172.16.0.1 172.31.255.255 192.168.1.1 169.254.169.254 169.254.170.2 0.0.0.0 0.1.2.3
100.64.0.1 100.100.100.200 100.127.255.255 168.63.129.16 192.0.0.192 192.0.0.8 192.0.2.1 192.31.196.1 192.52.193.1
192.88.99.1 192.175.48.1 198.18.0.1 198.51.100.1 203.0.113.1 224.0.0.1 239.255.255.250 240.0.0.1 255.255.255.255
::1 :: ::ffff:127.0.0.1 ::ffff:169.254.169.254 ::127.0.0.1 64:ff9b::7f00:1 64:ff9b::a9fe:a9fe 64:ff9b:1::7f00:1
2002:7f00:1:: 2002:a9fe:a9fe:: 2001:0:7f00:1:: 2001:0:4136:e378:8000:63bf:3fff:fdd2 2001:db8::1 2600:1900::5efe:7f00:1
fe80::1 fe80::1%eth0 fec0::1 fc00::1 fd20:ce::254 fd00:ec2::254 ff02::1 100::1 5f00::1 3fff::1 2620:4f:8000::1
""".split()  # noqa: SIM905 - the list reads as in its source
ALLOWED = """
8.8.8.8 100.63.255.255 100.128.0.0 172.32.0.0 ::ffff:8.8.8.8 2606:4700::1111 2001:4860:4860::8888
""".split()  # noqa: SIM905 - the list reads as in its source
# Neighbours of the table's edges, beyond the list.
ALSO_REFUSED = [
    "2600::200:5efe:808:808",
    "2606:4700::1111%eth0",
    "::ffff:100.64.0.1",
    "2001:1ff::1",
    "4000::1",
    "1fff::1",
]
ALSO_ALLOWED = ["168.63.129.15", "168.63.129.17", "192.0.1.0", "198.17.255.255", "198.20.0.0", "223.255.255.255", "2001:200::1", "3ffe::1"]  # fmt: skip


def test_the_lists_are_whole():
    assert (len(set(REFUSED)), len(set(ALLOWED))) == (53, 7)


@pytest.mark.parametrize("text", REFUSED + ALSO_REFUSED)
def test_an_address_inside_is_refused(text):
    assert not is_public_address(ip_address(text))


@pytest.mark.parametrize("text", ALLOWED + ALSO_ALLOWED)
def test_a_public_neighbour_is_allowed(text):
    assert is_public_address(ip_address(text))


@given(st.integers(0, 2**32 - 1).map(IPv4Address))
def test_a_mapped_address_is_judged_as_the_address_inside(address):
    assert is_public_address(IPv6Address(f"::ffff:{address}")) == is_public_address(address)


@given(st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)))
def test_nothing_that_the_standard_library_calls_private_is_public(address):
    assert not (is_public_address(address) and (address.is_loopback or address.is_link_local))
    assert not (is_public_address(address) and (address.is_multicast or address.is_unspecified))
    assert not (is_public_address(address) and address.is_private)
