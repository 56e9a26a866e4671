"""Addresses of servers, and what of them is secret."""

import pytest

from relay.wire.addresses import read_address, secret_parts


def test_secrets_are_masked_in_what_a_server_says() -> None:
    address = read_address("redis://ann:p%40ss%0Aword@host", {"redis": 6379})

    said = address.masked("no p@ss\nword, no p%40ss%0Aword")

    assert said == "no ***, no ***"
    assert read_address("nats://t0ken@host", {"nats": 1}, token=True).masked("bad t0ken") == "bad ***"
    assert read_address("postgres://u@host", {"postgres": 1}).masked("TimeoutError") == "TimeoutError"


def test_an_address_has_its_parts_decoded_and_a_default_port() -> None:
    address = read_address(
        "postgres://ann:p%2Fw@a,[::1]:7/x%20y?sslmode=require", {"postgres": 5432}, options=["sslmode"]
    )

    assert (address.user, address.password, address.path) == ("ann", "p/w", "/x y")
    assert (address.hosts, dict(address.options)) == ((("a", 5432), ("::1", 7)), {"sslmode": "require"})


@pytest.mark.parametrize("host", ["host:6379", "[::1]:6379", "a,[::1]"])
def test_a_bracket_in_a_password_is_none_of_the_host(host: str) -> None:
    address = read_address(f"redis://ann:p]w@{host}/0", {"redis": 6379})

    assert (address.password, address.path, address.secrets) == ("p]w", "/0", frozenset({"p]w"}))


@pytest.mark.parametrize(
    ("url", "token", "parts"),
    [
        ("nats://t0ken@a:1,nats://ann:p%40w@b", True, {"t0ken", "p%40w", "p@w"}),
        ("postgresql://ann@a,b:1/x", False, set()),
        ("redis://:p@w@a", False, {"p@w"}),
        ("redis://ann:p,w@a,b", False, {"p,w"}),
        ("redis+sentinel://a,b/main?sentinel_password=p%40w&db=1", False, {"p%40w", "p@w"}),
        ("redis://ann:p/w@a", False, {"redis://ann:p/w@a"}),
    ],
)
def test_the_secret_parts_of_an_address(url: str, token: bool, parts: set[str]) -> None:
    assert secret_parts(url, token=token) == parts
