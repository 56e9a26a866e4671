"""Whose address a request has, on sockets of all kinds and behind proxies."""

from ipaddress import ip_network
from typing import Any, Final

import pytest
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict

from relay.config.access_settings import ProxySettings
from relay.secret import Secret
from web.access.addresses import forwarded_address, is_within, plain_address
from web.access.cookies import read_cookie, read_cookies
from web.access.proxy import TrustedProxy
from web.access.revocations import MOST_REVOKED, Revocations

SECRET: Final = "proxy-0123456789-0123456789-0123456789-01"
PROXIES: Final = [ip_network("10.0.0.0/24"), ip_network("fd00::/8")]


def a_request(remote: str | None = "10.0.0.1", *fields: tuple[str, str]) -> Any:
    """A request whose connection is from *remote*."""
    request = make_mocked_request("GET", "/", headers=CIMultiDict(fields))
    return request if remote is None else request.clone(remote=remote)


@pytest.mark.parametrize(
    ("remote", "expected"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::/64"),
        ("", ""),
        (None, ""),
        ("no address", "no address"),
    ],
)
def test_one_client_has_one_address(remote: str | None, expected: str) -> None:
    assert plain_address(remote) == expected


@pytest.mark.parametrize(
    ("remote", "expected"),
    [
        ("10.0.0.255", True),
        ("10.0.1.0", False),
        ("::ffff:10.0.0.1", True),
        ("fd12::1", True),
        ("fe80::1%eth0", False),
        ("", False),
        (None, False),
        ("10.0.0.1, 10.0.0.2", False),
        ("010.0.0.1", False),
    ],
)
def test_an_address_is_one_of_the_proxies_or_not(remote: str | None, expected: bool) -> None:
    assert is_within(remote, PROXIES) is expected


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ([], None),
        (["192.0.2.1"], "192.0.2.1"),
        (["198.51.100.1, 192.0.2.1"], "192.0.2.1"),
        (["192.0.2.1, 10.0.0.7"], "192.0.2.1"),
        (["192.0.2.1", "10.0.0.7, 10.0.0.8"], "192.0.2.1"),
        (["198.51.100.1", "192.0.2.1"], "192.0.2.1"),
        (["2001:db8::1"], "2001:db8::/64"),
        (["10.0.0.7"], None),
        (["192.0.2.1, unknown"], None),
        (["192.0.2.1, "], None),
        (["192.0.2.1:4711"], None),
        (["[2001:db8::1]"], None),
        (["192.0.2.1" + ", 10.0.0.7" * 40], None),
        (["\xe9"], None),
    ],
    ids=str,
)
def test_the_nearest_address_that_is_no_proxy_is_the_clients(said: list[str], expected: str | None) -> None:
    request = a_request("10.0.0.1", *(("X-Forwarded-For", one) for one in said))

    assert forwarded_address(request, PROXIES) == expected


def proxy(*networks: str, secret: str | None = SECRET) -> TrustedProxy:
    return TrustedProxy(ProxySettings(networks=networks, secret=Secret(secret) if secret else None))


USER: Final = ("X-Forwarded-User", "ann")
PROOF: Final = ("X-Relay-Proxy", SECRET)


@pytest.mark.parametrize(
    ("networks", "secret", "remote", "fields", "believed"),
    [
        (["10.0.0.0/24"], SECRET, "10.0.0.1", [PROOF], True),
        (["10.0.0.0/24"], SECRET, "10.0.0.1", [], False),
        (["10.0.0.0/24"], SECRET, "10.0.0.1", [PROOF, PROOF], False),
        (["10.0.0.0/24"], SECRET, "10.0.0.1", [("X-Relay-Proxy", SECRET[:-1] + "\xe9")], False),
        (["10.0.0.0/24"], SECRET, "10.0.1.1", [PROOF], False),
        (["10.0.0.0/24"], SECRET, "", [PROOF], False),
        (["10.0.0.0/24"], SECRET, None, [PROOF], False),
        (["unix"], None, "", [], True),
        (["unix"], None, None, [], False),
        (["unix"], None, "127.0.0.1", [], False),
        (["unix"], SECRET, "", [], False),
        (["unix"], SECRET, "", [PROOF], True),
        (["unix", "10.0.0.0/24"], SECRET, "10.0.0.1", [PROOF], True),
        (["10.0.0.0/24"], None, "10.0.0.1", [], False),
        (["127.0.0.0/8"], None, "127.0.0.1", [], False),
    ],
)
def test_a_proxy_is_believed_from_its_socket_or_with_its_secret(
    networks: list[str], secret: str | None, remote: str | None, fields: list[tuple[str, str]], believed: bool
) -> None:
    request = a_request(remote, USER, *fields)
    found = proxy(*networks, secret=secret).find(request)

    assert (found.subject if found is not None else None) == ("proxy:ann" if believed else None)


@pytest.mark.parametrize(
    "user",
    [
        "",
        " ",
        "{http.reverse_proxy.header.X-Forwarded-User}",
        "ann,bob",
        "ann bob",
        "a\xe9",
        "ann\x7f",
        "a" * 129,
        "a/b",
    ],
)
def test_a_name_that_none_can_have_is_no_user(user: str) -> None:
    assert proxy("10.0.0.0/24").find(a_request("10.0.0.1", ("X-Forwarded-User", user), PROOF)) is None


@pytest.mark.parametrize("user", ["ann", "ann@example.org", "a" * 128, "A.B_c+d-1"])
def test_a_name_of_a_user_is_the_subject(user: str) -> None:
    found = proxy("10.0.0.0/24").find(a_request("10.0.0.1", ("X-Forwarded-User", user), PROOF))

    assert found is not None
    assert (found.subject, found.credential, found.renew) == (f"proxy:{user}", f"proxy:{user}", 600.0)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ([], None),
        (["s=1"], "1"),
        (["a=2; s=1; b"], "1"),
        (["s=1; s=1"], ""),
        (["s=1", "s=2"], ""),
        (["S=1"], None),
        (["s"], None),
        (["s="], ""),
        ([" s = 1 "], "1"),
        (['s="1"'], '"1"'),
        (["s=a=b=="], "a=b=="),
        (["xs=1; s =2"], "2"),
        (["a=1, s=1"], None),
    ],
    ids=str,
)
def test_a_cookie_is_read_if_there_is_one_of_its_name(said: list[str], expected: str | None) -> None:
    request = a_request("10.0.0.1", *(("Cookie", one) for one in said))

    assert read_cookie(request, "s") == expected
    assert all("=" not in name for name, _ in read_cookies(request))


def test_what_was_issued_after_a_revocation_holds() -> None:
    now = [100.0]
    revocations = Revocations(lambda: now[0])
    revocations.revoke(subject="ann")
    revocations.revoke(credential="one")

    def holds(issued: float | None) -> list[bool]:
        return [revocations.holds(*who, issued) for who in (("ann", "x"), ("x", "one"), ("x", "x"))]

    assert holds(99.0) == holds(100.0) == holds(None) == [False, False, True]
    assert holds(101.0) == [True, True, True]
    now[0] = 200.0
    revocations.revoke(subject="ann")
    assert holds(150.0) == [False, True, True]


def test_so_many_revocations_are_kept() -> None:
    revocations = Revocations(lambda: 1.0)
    for number in range(MOST_REVOKED + 1):
        revocations.revoke(subject=str(number))

    assert [revocations.holds(name, "", None) for name in ("0", "1", str(MOST_REVOKED))] == [True, False, False]
