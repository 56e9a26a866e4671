"""Whether [access] keeps out what it should: what `relay doctor` examines of it."""

import json
from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any, Final, cast

from relay import ConfigError, UpstreamError
from relay.cli.access_lines import access_lines
from relay.cli.api_keys import has_typing_error
from relay.cli.report import Report, counted
from relay.clock import SystemClock
from relay.config.access_settings import AccessSettings, JwtSettings, KeySettings, ProxySettings
from relay.config.server import SYSTEMD, UNIX, is_loopback
from relay.config.settings import ServerSettings, Settings
from relay.secret import Secret
from web.access.jwks import check_url, fetch_key_set
from web.access.jwt_keys import kind_of, read_key_set

__all__ = ["examine_access", "weakness_of"]

LEAST_DIFFERENT: Final = 8
"""Different characters of a secret: 32 random hexadecimal digits have fewer once in 10^9 [calculated]."""

WIDEST: Final = {4: 16, 6: 48}
"""The shortest prefix of a public network that is one organisation's own, by version of IP."""

WIDEST_PRIVATE: Final = {4: 8, 6: 7}
NAMES_SHOWN: Final = 10
PROBLEMS_SHOWN: Final = 5


async def examine_access(report: Report, settings: Settings) -> None:
    """A row for each way in, and one for each thing that lets in more than is meant. The key set is fetched once."""
    access = settings.access
    if access is None:
        return
    for line in access_lines(access):
        report.row("access", line)
    for secret, of in _secrets(access):
        if (weakness := weakness_of(secret.reveal())) is not None:
            report.problem("access", f"{of}, from {secret.source}, {weakness}; make another with relay token --new-key")
    for problem in _shared(access.keys):
        report.problem("access", problem)
    if mighty := [key.name for key in access.keys if key.jobs == "*" or "operate" in key.scopes.split()]:
        more = f" and {len(mighty) - NAMES_SHOWN:,} more" if len(mighty) > NAMES_SHOWN else ""
        report.row("all jobs", f"are seen with {counted(len(mighty), 'key')}: {', '.join(mighty[:NAMES_SHOWN])}{more}")
    if access.proxy is not None:
        _examine_proxy(report, access.proxy)
    _examine_exposure(report, settings.server)
    if access.jwt is not None:
        await _examine_key_set(report, access.jwt)


def weakness_of(secret: str) -> str | None:
    """Why *secret* may be guessed, or cannot be the one that is meant; None if nothing speaks against it."""
    if has_typing_error(secret):
        return "begins as a key of relay token does, and its checksum does not hold: a character is wrong or missing"
    if (different := len(set(secret))) < LEAST_DIFFERENT:
        return f"has {counted(different, 'different character')}, so it can be guessed"
    if any(secret[unit:] == secret[:-unit] for unit in range(1, len(secret) // 2 + 1)):
        return "repeats a shorter text, so it can be guessed"
    return None


def _secrets(access: AccessSettings) -> Iterator[tuple[Secret, str]]:
    """Each secret that a client or the relay proves something with, and its name in messages."""
    for key in access.keys:
        yield key.key, f"key:{key.name}"
    if access.signing_key is not None:
        yield access.signing_key, "signing_key"
    if access.proxy is not None and access.proxy.secret is not None:
        yield access.proxy.secret, "the secret of the proxy"
    jwt = access.jwt
    if jwt is not None and jwt.key is not None and all(name.startswith("HS") for name in jwt.algorithms):
        yield jwt.key, "the key of [access.jwt]"


def _shared(keys: tuple[KeySettings, ...]) -> Iterator[str]:
    """The keys that stand there twice: only the first of them counts."""
    seen: dict[str, str] = {}
    for key in keys:
        value = key.key.reveal()
        if (first := seen.get(value)) is not None:
            yield f"key:{key.name} is the same key as key:{first}, whose access it has; give each a key of its own"
        seen.setdefault(value, key.name)


def _examine_proxy(report: Report, proxy: ProxySettings) -> None:
    for text in proxy.networks:
        if text == "unix":
            continue
        network = ip_network(text)
        if network.prefixlen == 0:
            report.problem("access", f"[access.proxy] from {text} believes every address; name those of the proxy")
        elif network.prefixlen < _least_prefix(network):
            report.problem(
                "access",
                f"[access.proxy] from {text} believes {network.num_addresses:,} addresses; name the proxy's own",
            )
    if proxy.secret is None:
        report.row(
            "notice",
            "[access.proxy] has no secret, so every process that may connect to the unix socket can say that it is any"
            " user; let no group share it, or add secret",
        )


def _least_prefix(network: IPv4Network | IPv6Network) -> int:
    return (WIDEST_PRIVATE if network.is_private else WIDEST)[network.version]


def _examine_exposure(report: Report, server: ServerSettings) -> None:
    local = server.host == SYSTEMD or server.host.startswith(UNIX) or is_loopback(server.host)
    if local or server.tls is not None or (server.public_url or "").startswith("https:"):
        return
    report.problem(
        "access",
        f"other machines reach {server.host} without TLS, so keys can be read on the way; configure [server] tls, or"
        " let a proxy with TLS stand in front and say its https address as public_url",
    )


async def _examine_key_set(report: Report, jwt: JwtSettings) -> None:
    """The key set at a URL, as it is now; whether the settings are good is examined with the other tables."""
    url = jwt.jwks or ""
    try:
        check_url(url)
        kind_of(jwt.algorithms)
    except ConfigError:
        return
    at = url.partition("?")[0]
    try:
        body = await fetch_key_set(url)
        problems = [*read_key_set(body, jwt.algorithms)[1], *_expired(body)]
    except UpstreamError as error:
        report.problem("key set", f"{at} cannot be fetched: {error.message}; no token is valid until it can")
    except (ValueError, ConfigError) as error:
        report.problem("key set", f"{at} {error}; no token is valid until it is one")
    except ImportError:
        return  # the library is not installed, as the row about tokens says
    else:
        for problem in problems[:PROBLEMS_SHOWN]:
            report.problem("key set", f"{at}: {problem}")
        if not problems:
            report.row("key set", f"{at} can be fetched, and its keys can be used")


def _expired(body: bytes) -> list[str]:
    """The keys of a set that say themselves that they are over ([spec] OpenID Federation 1.0, 8.7.2: `exp`)."""
    keys = cast("dict[str, Any]", json.loads(body.decode("utf-8-sig")))["keys"]
    now = SystemClock().now().timestamp()
    return [
        f"key {place} has expired"
        for place, key in enumerate(keys, 1)
        if isinstance(key, dict) and type(end := cast("dict[str, Any]", key).get("exp")) is int and end <= now
    ]
