"""Our address table against two tables of other people: ours is at least as strict."""

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from AntiSSRF.ipaddress_ranges import IPAddressRanges
from hypothesis import example, given, settings
from hypothesis import strategies as st
from ssrfguard import Policy

from assetgen_pipeline.domain.address_policy import is_public_address
from assetgen_pipeline_tests.domain.test_address_policy import ALLOWED, REFUSED

MICROSOFT = [ip_network(network, strict=False) for network in IPAddressRanges.recommended_v1]
SSRFGUARD = Policy()


def microsoft_permits(address):
    # The way of that library: IPv4 is judged in its mapped form as well.
    forms = [address]
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        forms.append(address.ipv4_mapped)
    return not any(
        form in network
        for form in forms
        for network in MICROSOFT
        if form.version == network.version
    )


def near(network):
    """The addresses at a network's edges, in and out."""
    first, last = int(network.network_address), int(network.broadcast_address)
    kind = type(network.network_address)
    top = 2**network.max_prefixlen
    return [
        kind(n) for n in {first - 1, first, first + 1, last - 1, last, last + 1} if 0 <= n < top
    ]


EDGES = sorted({str(address) for network in MICROSOFT for address in near(network)})
V4 = st.integers(0, 2**32 - 1).map(IPv4Address)
EMBEDDED = st.builds(
    lambda prefix, inside, tail: IPv6Address((prefix << 32 | inside) << tail & (2**128 - 1)),
    st.sampled_from([0, 0xFFFF, 0x64FF9B << 64, 0x2002, 0x20010000, 0x00005EFE, 0x02005EFE]),
    st.integers(0, 2**32 - 1),
    st.sampled_from([0, 16, 32, 48, 64, 80]),
)
WORDS = st.integers(0, 0xFFFF)
V6 = st.lists(WORDS, min_size=8, max_size=8).map(
    lambda words: IPv6Address(sum(word << 16 * n for n, word in enumerate(words)))
)
GLOBAL_V6 = st.builds(
    lambda head, rest: IPv6Address(head << 112 | rest),
    st.integers(0x2000, 0x3FFF),
    st.integers(0, 2**112 - 1),
)


def judge(address):
    if is_public_address(address):
        assert microsoft_permits(address)
        assert SSRFGUARD.permits_address(address)


@settings(max_examples=2500, deadline=None)
@given(V4 | V4.map(lambda address: IPv6Address(f"::ffff:{address}")) | V6 | GLOBAL_V6 | EMBEDDED)
@example(IPv4Address("168.63.129.16"))
def test_what_we_call_public_both_oracles_call_public(address):
    judge(address)


@pytest.mark.parametrize("text", EDGES)
def test_at_every_edge_of_the_widest_list_we_are_as_strict(text):
    judge(ip_address(text))


def test_the_oracles_are_used_as_they_are_meant_to_be():
    inside = [ip_address(text) for text in REFUSED if "%" not in text]

    # The differences that were measured when they were chosen; more would mean a broken test.
    assert sum(microsoft_permits(address) for address in inside) <= 2
    assert sum(SSRFGUARD.permits_address(address) for address in inside) <= 6
    assert all(microsoft_permits(ip_address(text)) for text in ALLOWED)
    assert all(SSRFGUARD.permits_address(ip_address(text)) for text in ALLOWED)
