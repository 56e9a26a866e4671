"""[server]: where the relay may listen, its certificate, and the origins whose pages may use it."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from relay import ConfigError
from relay.config import check_host, check_origins, load
from relay.config.settings import ServerSettings, TlsSettings

KEY = '[[access.keys]]\nname = "ann"\nkey = "env:KEY"\n'
ENVIRON = {"KEY": "k" * 40}


def server(folder: Path, text: str, environ: Mapping[str, str] = ENVIRON) -> ServerSettings:
    path = folder / "relay.toml"
    path.write_text(text, encoding="utf-8")
    return load(path, environ).server


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1", "localhost", "systemd", "unix:/run/relay/relay.sock"],
)
def test_what_this_machine_alone_reaches_is_served_on_without_access(tmp_path: Path, host: str) -> None:
    check_host(host, access=False)
    assert server(tmp_path, f'[server]\nhost = "{host}"').host == host


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "192.168.1.5", "::ffff:192.168.1.5", "example.org", "127.1", "Systemd", "UNIX:/a"]
)
def test_any_other_host_needs_access_and_one_sentence_names_the_ways(tmp_path: Path, host: str) -> None:
    with pytest.raises(ConfigError) as caught:
        server(tmp_path, f'[server]\nhost = "{host}"')
    assert str(caught.value) == (
        f"will not serve on {host!r} to other machines while [access] is not configured, as everybody there could read,"
        " submit and cancel; add [[access.keys]], [access.jwt] or [access.proxy], or serve on a unix socket"
        ' (host = "unix:/run/relay/relay.sock") or on 127.0.0.1 behind a reverse proxy that authenticates'
    )
    assert server(tmp_path, f'[server]\nhost = "{host}"\n{KEY}').host == host


@pytest.mark.parametrize(
    ("host", "line"),
    [
        ("", 'an empty host is no address; write "0.0.0.0" or "::" for every address of this machine'),
        ("unix:", 'the path of a unix socket begins with a slash, as in "unix:/run/relay/relay.sock"'),
        ("unix:relay.sock", 'the path of a unix socket begins with a slash, as in "unix:/run/relay/relay.sock"'),
        ("unix:@abstract", 'the path of a unix socket begins with a slash, as in "unix:/run/relay/relay.sock"'),
        ("unix:/a\0b", 'the path of a unix socket begins with a slash, as in "unix:/run/relay/relay.sock"'),
        (f"unix:/{'a' * 107}", "the path of a unix socket has at most 107 bytes; choose a shorter one"),
        (f"unix:/{'é' * 54}", "the path of a unix socket has at most 107 bytes; choose a shorter one"),
    ],
)
def test_a_host_that_is_no_place_to_listen_is_refused_with_access_too(host: str, line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_host(host, access=True)
    assert str(caught.value) == line


def test_the_paths_of_a_certificate_are_relative_to_the_configuration(tmp_path: Path) -> None:
    found = server(tmp_path, '[server]\ntls = { cert = "tls/relay.pem", key = "/etc/ssl/relay.key" }')
    assert found.tls == TlsSettings(cert=str(tmp_path / "tls/relay.pem"), key="/etc/ssl/relay.key")


def test_the_environment_may_name_the_certificate(tmp_path: Path) -> None:
    environ = {"RELAY_SERVER_TLS_CERT": "/run/tls.crt", "RELAY_SERVER_TLS_KEY": "/run/tls.key"}
    assert server(tmp_path, "", environ).tls == TlsSettings(cert="/run/tls.crt", key="/run/tls.key")


def test_a_certificate_without_a_key_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\[server\] tls needs the key 'key': the path of a file"):
        server(tmp_path, '[server]\ntls = { cert = "relay.pem" }')


@pytest.mark.parametrize(
    "origin",
    [
        "https://app.example",
        "http://localhost:5173",
        "http://127.0.0.1:8080",
        "https://[2001:db8::1]:8443",
        "https://a_b-c.example",
        "https://xn--bcher-kva.example",
        "http://app.example:443",
    ],
)
def test_an_origin_as_a_browser_sends_it_may_be_listed(tmp_path: Path, origin: str) -> None:
    assert server(tmp_path, f'[server]\norigins = ["{origin}"]').origins == (origin,)


@pytest.mark.parametrize(
    ("origin", "problem"),
    [
        ("null", "is no origin: any page can have it"),
        ("*", "is no origin: any page can have it"),
        ("", "is no origin: any page can have it"),
        ("https://App.example", "has upper case, which no browser sends"),
        ("HTTPS://app.example", "has upper case, which no browser sends"),
        ("https://app.example:443", "has the default port of https, which no browser sends"),
        ("http://app.example:80", "has the default port of http, which no browser sends"),
        ("https://app.example/", "is no origin; write scheme, host and perhaps a port"),
        ("https://app.example/path", "is no origin; write scheme, host and perhaps a port"),
        ("https://*.example", "is no origin; write scheme, host and perhaps a port"),
        ("https://user@app.example", "is no origin; write scheme, host and perhaps a port"),
        ("https://app.example:08443", "is no origin; write scheme, host and perhaps a port"),
        ("https://app.example:", "is no origin; write scheme, host and perhaps a port"),
        ("https://app.example.", "is no origin; write scheme, host and perhaps a port"),
        (" https://app.example", "is no origin; write scheme, host and perhaps a port"),
        ("app.example", "is no origin; write scheme, host and perhaps a port"),
        ("file://", "is no origin; write scheme, host and perhaps a port"),
        ("https://bücher.example", "is no origin; write scheme, host and perhaps a port"),
        ("https://app.example:65536", "has a port above 65535"),
        ("https://[2001:DB8::1]", "has upper case, which no browser sends"),
        ("https://[2001:db8:0::1]", "has an IPv6 address that is not in its canonical form"),
        ("https://[:::]", "has an IPv6 address that is not in its canonical form"),
    ],
)
def test_a_text_that_no_browser_sends_as_an_origin_is_refused(tmp_path: Path, origin: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        server(tmp_path, f'[server]\norigins = ["https://app.example", "{origin}"]')
    assert str(caught.value).startswith(f"{tmp_path}/relay.toml: [server] origins: {origin!r} {problem}")
    with pytest.raises(ConfigError, match="origins of create_app"):
        check_origins([origin], "origins of create_app")


@pytest.mark.parametrize(
    "url", ["https://relay.example:99999", "https://a..example", "https://relay.example:x", "https://a b"]
)
def test_a_public_address_that_no_browser_can_go_to_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigError, match=r"\[server\] public_url "):
        server(tmp_path, f'[server]\npublic_url = "{url}"')
