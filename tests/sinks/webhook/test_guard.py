"""Addresses that a webhook is not sent to: refused where they are configured, and again where they are connected."""

import socket
from ipaddress import ip_address
from typing import cast

import pytest
from aiohttp.abc import ResolveResult
from aiohttp.web import Response

from relay.errors import UsageError
from relay.events import Done
from relay.queue import RetryLater
from sinks._guard import check_url
from sinks._posting import host_of
from sinks.webhook import WebhookSink
from tests.sinks.webhook.receiver import KEY, Names, Receiver, a_receiver, a_record

RECORD = a_record(Done())
ALLOW = "say allow_private = true"
MAPPED = str(ip_address("::ffff:10.0.0.1"))
"""Since Python 3.13 the last part of such an address is written as in IPv4."""


REFUSED = [
    ("https://127.0.0.1/hook", "127.0.0.1, which is not a public address"),
    ("https://169.254.169.254/latest/meta-data", "169.254.169.254, which is not a public address"),
    ("https://[::1]/hook", "::1, which is not a public address"),
    ("https://[::ffff:10.0.0.1]/hook", f"{MAPPED}, which is not a public address"),
    ("https://[64:ff9b::a9fe:a9fe]/", "64:ff9b::a9fe:a9fe, which is not a public address"),
    ("https://[fe80::1%25eth0]/", "fe80::1%25eth0, which is not a public address"),
    ("https://168.63.129.16/", "168.63.129.16, which is not a public address"),
    ("https://①②⑦.0.0.1/", "127.0.0.1, which is not a public address"),
    ("https://127。0。0。1/", "127.0.0.1, which is not a public address"),
    ("https://10.0.0.1./", "10.0.0.1., which is not a public address"),
    ("https://127.1/", "127.1, which is an address in a spelling that hides it"),
    ("https://2130706433/", "2130706433, which is an address in a spelling that hides it"),
    ("https://0x7f000001/", "0x7f000001, which is an address in a spelling that hides it"),
    ("https://0x7f.1/", "0x7f.1, which is an address in a spelling that hides it"),
    ("https://0177.0.0.1/", "0177.0.0.1, which is an address in a spelling that hides it"),
    ("https://localhost/", "localhost, which is a name of the local network"),
    ("https://LOCALHOST./", "localhost., which is a name of the local network"),
    ("https://metadata.google.internal/", "metadata.google.internal, which is a name of the local network"),
    ("https://printer/", "printer, which is a name of the local network"),
]


@pytest.mark.parametrize(("url", "reason"), REFUSED)
def test_a_url_that_leads_into_the_local_network_is_refused_where_it_is_configured(url: str, reason: str) -> None:
    with pytest.raises(UsageError) as caught:
        WebhookSink(url, secret=KEY)
    assert str(caught.value) == f"the url of a webhook leads to {reason}; if that is meant, {ALLOW}"


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        (
            "http://hooks.example/",
            f"is plain http, so anybody on the way to hooks.example reads it; use https, or {ALLOW}",
        ),
        (
            "https://hooks.example:22/",
            f"has the port 22, and a webhook is posted to 443, 8443; add it to ports, or {ALLOW}",
        ),
        ("ftp://hooks.example/", "begins with neither https:// nor http://"),
        ("file:///etc/passwd", "is no URL with a host; write one such as https://hooks.example/relay"),
        ("hooks.example/relay", "is no URL with a host; write one such as https://hooks.example/relay"),
        ("https://", "is no URL with a host; write one such as https://hooks.example/relay"),
        ("https://a b/", "is no URL with a host; write one such as https://hooks.example/relay"),
        ("https://hooks.example:99999/", "is no URL with a host; write one such as https://hooks.example/relay"),
        ("https://[::1/", "is no URL with a host; write one such as https://hooks.example/relay"),
        (
            "https://ann:canary@hooks.example/",
            "has a user or a password before the host hooks.example; send them as a header, from env:NAME",
        ),
        ("https://hooks.example/#canary", "has a fragment (#...), which hooks.example would never receive; remove it"),
    ],
)
def test_a_url_is_checked_and_not_repeated(url: str, reason: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_url(url, allow_private=False)
    assert str(caught.value) == reason
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    "url",
    [
        "https://hooks.example/relay?thread_id=1",
        "https://hooks.example:8443/",
        "https://8.8.8.8/",
        "https://[2606:4700::1111]/",
        "https://xn--bcher-kva.example/",
        "https://1.example/",
    ],
)
def test_a_public_url_is_accepted(url: str) -> None:
    assert str(check_url(url, allow_private=False)).startswith(url.rstrip("/"))


@pytest.mark.parametrize("url", [url for url, _ in REFUSED] + ["http://10.0.0.1:8080/hook"])
def test_what_the_operator_allows_is_no_longer_refused(url: str) -> None:
    assert check_url(url, allow_private=True).raw_host


def test_a_port_can_be_added() -> None:
    assert host_of(check_url("https://hooks.example:444/x", allow_private=False, ports=(444,))) == "hooks.example:444"


# From here on, two addresses of loopback stand for a public one and a private one: no test leaves this machine.


def public(address: str) -> bool:
    return address == "127.0.0.1"


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the check of the URL as it is written, which would refuse http and the addresses that play a part."""

    def as_it_is(text: str, **_: object) -> object:
        return check_url(text, allow_private=True)

    monkeypatch.setattr("sinks.webhook.check_url", as_it_is)


async def attempt(receiver: Receiver, host: str, *addresses: tuple[str, ...], times: int = 1) -> None:
    """Deliver to the receiver under this name, or address; where names lead is *addresses*."""
    url = receiver.url.replace("127.0.0.1", host)
    async with WebhookSink(url, secret=KEY, public=public, resolver=Names(*addresses or ((),))) as sink:
        for _ in range(times):
            await sink.work(RECORD)


async def refusal(receiver: Receiver, host: str, *addresses: tuple[str, ...], times: int = 1) -> str:
    with pytest.raises(RetryLater) as caught:
        await attempt(receiver, host, *addresses, times=times)
    assert caught.value.__context__ is None
    port = receiver.url.split(":")[2].split("/")[0]
    before, at, behind = str(caught.value).partition(f":{port}: ")
    assert (before.startswith("nothing was sent to "), bool(at)) == (True, True)
    assert behind.endswith(f"; if that is meant, {ALLOW}")
    return behind.removesuffix(f"; if that is meant, {ALLOW}")


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.2", "127.0.0.2"),
        ("169.254.169.254", "169.254.169.254"),
        ("[::1]", "::1"),
        ("[::ffff:10.0.0.1]", MAPPED),
        ("[::ffff:127.0.0.1]", str(ip_address("::ffff:127.0.0.1"))),
        ("0x7f000002", "127.0.0.2"),
    ],
)
async def test_an_address_that_is_written_in_the_url_is_refused_where_it_is_connected(host: str, address: str) -> None:
    async with a_receiver() as receiver:
        resolver = ((address,),) if host.startswith("0x") else ()
        said = await refusal(receiver, host, *resolver)
    assert said in (f"{address} is not a public address", f"{host} leads to {address}, which is not a public address")
    assert receiver.deliveries == []


@pytest.mark.usefixtures("unchecked")
async def test_a_name_that_leads_to_a_private_address_is_refused() -> None:
    async with a_receiver() as receiver:
        said = await refusal(receiver, "hooks.example", ("127.0.0.2",))
    assert said == "hooks.example leads to 127.0.0.2, which is not a public address"
    assert receiver.deliveries == []


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("addresses", [("127.0.0.1", "127.0.0.2"), ("127.0.0.2", "127.0.0.1"), ("127.0.0.1", "::1")])
async def test_a_name_that_leads_to_both_a_public_and_a_private_address_is_refused(addresses: tuple[str, ...]) -> None:
    async with a_receiver() as receiver:
        said = await refusal(receiver, "hooks.example", addresses)
    private = next(address for address in addresses if not public(address))
    assert said == f"hooks.example leads to {private}, which is not a public address, beside public ones"
    assert receiver.deliveries == []


@pytest.mark.usefixtures("unchecked")
async def test_a_redirect_to_a_private_address_is_not_followed() -> None:
    async with a_receiver() as inside:
        location = inside.url.replace("127.0.0.1", "127.0.0.2")
        async with a_receiver(Response(status=307, headers={"Location": location})) as receiver:
            with pytest.raises(RetryLater, match="answered 307, a redirect, which is not followed"):
                await attempt(receiver, "hooks.example", ("127.0.0.1",))
    assert (len(receiver.deliveries), inside.deliveries) == (1, [])


@pytest.mark.usefixtures("unchecked")
async def test_a_name_that_leads_elsewhere_later_is_refused_on_a_new_connection_and_not_used_by_a_kept_one() -> None:
    async with a_receiver() as receiver:
        await attempt(receiver, "hooks.example", ("127.0.0.1",), ("127.0.0.2",), times=3)
    assert [delivery.headers["host"].partition(":")[0] for delivery in receiver.deliveries] == ["hooks.example"] * 3

    close = {"Connection": "close"}
    async with a_receiver(Response(status=204, headers=close)) as receiver:
        monkey = Names(("127.0.0.1",), ("127.0.0.2",))
        url = receiver.url.replace("127.0.0.1", "hooks.example")
        async with WebhookSink(url, secret=KEY, public=public, resolver=monkey) as sink:
            await sink.work(RECORD)
            assert sink._poster is not None
            sink._poster._session.connector.clear_dns_cache()  # type: ignore[union-attr]
            with pytest.raises(RetryLater, match=r"hooks\.example:[0-9]+: hooks\.example leads to 127\.0\.0\.2"):
                await sink.work(RECORD)
    assert len(receiver.deliveries) == 1


@pytest.mark.usefixtures("unchecked")
async def test_between_the_look_up_and_the_connection_nothing_can_change_the_address() -> None:
    """A resolver that lies to the check has no say either: what is connected is judged once more."""

    class Liar(Names):
        async def resolve(
            self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
        ) -> list[ResolveResult]:
            found = await super().resolve(host, port, family)
            return cast("list[ResolveResult]", [_Changing(result) for result in found])

    class _Changing(dict[str, object]):
        seen = 0

        def __getitem__(self, key: str) -> object:
            if key == "host":
                self.seen += 1
                return "127.0.0.1" if self.seen <= 1 else "127.0.0.2"
            return super().__getitem__(key)

    async with a_receiver() as receiver:
        url = receiver.url.replace("127.0.0.1", "hooks.example")
        async with WebhookSink(url, secret=KEY, public=public, resolver=Liar(("127.0.0.1",))) as sink:
            with pytest.raises(RetryLater, match=r"127\.0\.0\.2 is not a public address"):
                await sink.work(RECORD)
    assert receiver.deliveries == []


async def test_with_allow_private_a_receiver_on_loopback_gets_its_records() -> None:
    async with a_receiver() as receiver, WebhookSink(receiver.url, secret=KEY, allow_private=True) as sink:
        await sink.work(RECORD)
    assert len(receiver.deliveries) == 1
