"""Which addresses the Internet reaches: judged by tables of our own, so the same on every Python."""

from ipaddress import IPv4Address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.upstreams.http.addresses import is_public

SPECIAL = (
    *("127.0.0.1", "127.255.255.255", "0.0.0.0", "0.1.2.3", "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.1"),
    *("169.254.169.254", "100.64.0.1", "100.127.255.255", "198.18.0.1", "198.19.255.255", "192.0.2.1", "198.51.100.1"),
    *("203.0.113.1", "240.0.0.1", "255.255.255.255", "224.0.0.1", "239.255.255.250", "192.0.0.8", "192.0.0.9"),
    *("192.0.0.10", "192.0.0.170", "192.88.99.1", "168.63.129.16"),
    *("::", "::1", "fc00::1", "fd00::1", "fe80::1", "fe80::1%eth0", "febf::1", "2001:db8::1", "100::1"),
    *("100:0:0:1::1", "ff02::1", "ff05::1", "ff0e::1", "fec0::1", "3fff::1", "3fff:fff::1", "5f00::1"),
    *("2001::1", "2001:1::1", "2001:20::1", "2001:1ff:ffff::1", "2002:a00:1::", "2002:7f00:1::", "2002:808:808::"),
    *("64:ff9b::10.0.0.1", "64:ff9b::127.0.0.1", "64:ff9b::169.254.169.254", "64:ff9b::a3f:8110", "64:ff9b:1::1"),
    *("64:ff9b::168.63.129.16", "::ffff:168.63.129.16", "::ffff:127.0.0.1", "::ffff:169.254.169.254"),
    *("::ffff:224.0.0.1", "::ffff:0:10.0.0.1", "::ffff:0:8.8.8.8", "::127.0.0.1", "::10.0.0.1", "::8.8.8.8"),
    *("no address", "", "127.1", "0x7f000001", "2130706433", "0177.0.0.1", "localhost"),
)
PLAIN = (
    *(
        "203.0.114.7",
        "8.8.8.8",
        "1.1.1.1",
        "172.15.255.255",
        "172.32.0.1",
        "100.63.255.255",
        "100.128.0.1",
        "168.63.129.17",
    ),
    *(
        "168.63.129.17",
        "192.0.1.1",
        "192.88.98.1",
        "192.88.100.1",
        "223.255.255.255",
        "198.17.255.255",
        "198.20.0.1",
        "169.253.0.1",
    ),
    *("2606:4700::1111", "2001:200::1", "2003::1", "2a00::1", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "3ffe::1"),
)


@pytest.mark.parametrize("address", SPECIAL)
def test_what_the_internet_does_not_reach_is_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", PLAIN)
def test_what_the_internet_reaches_is_public(address: str) -> None:
    assert is_public(address)


@settings(deadline=None)
@given(st.ip_addresses(v=4))
def test_an_address_within_another_is_judged_as_it_is_by_itself(inner: IPv4Address) -> None:
    assert is_public(f"::ffff:{inner}") == is_public(f"64:ff9b::{inner}") == is_public(str(inner))
