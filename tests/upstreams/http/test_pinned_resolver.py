"""Where a host name leads: one that was public is never followed into the local network."""

import json
import socket
from typing import Any

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from relay.errors import UpstreamError
from relay.upstreams.http.client import HttpClient
from relay.upstreams.http.pinned_resolver import PinnedResolver, PrivateAddressError
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
