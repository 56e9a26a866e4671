"""Where a host name leads: one that was public is never followed into the local network."""

import json
import socket
from ipaddress import IPv4Address
from typing import Any

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.errors import UpstreamError
from relay.upstreams.http.client import HttpClient
from relay.upstreams.http.pinned_resolver import PinnedResolver, PrivateAddressError, is_public
from tests.upstreams.stub import Stub, reply

PUBLIC, PRIVATE = "203.0.114.7", "169.254.169.254"


class Names(AbstractResolver):
    """Leads every name to the first of *answers*, then to the next, and to the last for ever."""

    def __init__(self, *answers: tuple[str, ...]) -> None:
        self._answers = list(answers)

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET) -> list[Any]:
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        return [
            ResolveResult(hostname=host, host=address, port=port, family=socket.AF_INET, proto=0, flags=0)
            for address in answer
        ]

    async def close(self) -> None:
        pass


async def led(resolver: AbstractResolver, host: str = "api.example") -> list[str]:
    return [found["host"] for found in await resolver.resolve(host, 443)]


async def test_a_name_that_was_public_is_not_followed_to_a_private_address_until_it_is_public_again() -> None:
    resolver = PinnedResolver(Names((PUBLIC,), (PRIVATE,), (PUBLIC,)))
    assert await led(resolver) == [PUBLIC]
    with pytest.raises(PrivateAddressError, match=r"api\.example led to a public address before"):
        await led(resolver)
    assert await led(resolver) == [PUBLIC]


async def test_of_addresses_of_both_kinds_only_the_public_ones_are_used_from_the_start() -> None:
    resolver = PinnedResolver(Names((PRIVATE, PUBLIC), (PUBLIC, PRIVATE), (PRIVATE,)))
    assert [await led(resolver), await led(resolver)] == [[PUBLIC], [PUBLIC]]
    with pytest.raises(PrivateAddressError):
        await led(resolver)


async def test_a_name_that_was_private_from_the_start_is_what_the_operator_configured() -> None:
    resolver = PinnedResolver(Names(("10.0.0.7",), ("127.0.0.1",)))
    assert [await led(resolver), await led(resolver)] == [["10.0.0.7"], ["127.0.0.1"]]


async def test_what_one_name_leads_to_binds_no_other() -> None:
    resolver = PinnedResolver(Names((PUBLIC,), (PRIVATE,)))
    assert [await led(resolver, "a.example"), await led(resolver, "b.example")] == [[PUBLIC], [PRIVATE]]


async def test_a_name_that_leads_nowhere_is_left_to_who_asked() -> None:
    assert await led(PinnedResolver(Names((PUBLIC,), ()))) == [PUBLIC]
    assert await led(PinnedResolver(Names(()))) == []


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
    *(PUBLIC, "8.8.8.8", "1.1.1.1", "172.15.255.255", "172.32.0.1", "100.63.255.255", "100.128.0.1", "168.63.129.17"),
    *("192.0.1.1", "192.88.98.1", "192.88.100.1", "223.255.255.255", "198.17.255.255", "198.20.0.1", "169.253.0.1"),
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


async def test_row_15_a_poll_whose_name_now_leads_to_a_private_address_is_refused_before_anything_is_sent() -> None:
    # Two addresses of loopback stand for a public one and a private one: no test leaves this machine.
    resolver = PinnedResolver(Names(("127.0.0.1",), ("127.0.0.2",)), public=lambda address: address == "127.0.0.1")

    async def poll(port: str) -> object:
        async with HttpClient(f"http://api.example:{port}", "t", upstream="test", resolver=resolver) as http:
            return (await http.request("GET", "jobs")).json()

    async with Stub(reply(json.dumps([]))) as stub:
        port = stub.url.rpartition(":")[2]
        assert await poll(port) == []
        with pytest.raises(UpstreamError) as caught:
            await poll(port)

    assert (caught.value.kind, str(caught.value), len(stub.requests)) == (
        "network",
        f"api.example:{port} led to a public address and now leads to a private one, which is not asked; "
        "restart the relay if that is meant",
        1,
    )
