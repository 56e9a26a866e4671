"""Which addresses the Internet reaches: the one rule, for requests to upstreams and to webhooks alike."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

__all__ = ["is_public"]

# Networks of our own: what `ipaddress` knows differs between Python 3.11 and 3.13, and it calls multicast global.
_SPECIAL_4: Final = tuple(
    IPv4Network(network)
    for network in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
        *("192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24"),
        *("203.0.113.0/24", "224.0.0.0/3"),
        # The agent of a large cloud on the very host (Azure): it hands out the machine's secrets.
        "168.63.129.16/32",
    )
)
_SPECIAL_6: Final = tuple(
    IPv6Network(network)
    for network in (
        # Some hold an IPv4 address that their router may reach: compatible (::/96), translated (SIIT,
        # ::ffff:0:0:0/96), of a local translator (64:ff9b:1::/48), Teredo (2001::/32), 6to4 (2002::/16).
        *("::/96", "::ffff:0:0:0/96", "64:ff9b:1::/48", "100::/64", "100:0:0:1::/64", "2001::/23", "2001:db8::/32"),
        *("2002::/16", "3fff::/20", "5f00::/16", "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8"),
    )
)
_NAT64: Final = IPv6Network("64:ff9b::/96")


def is_public(address: str) -> bool:
    """Whether *address* is reached over the Internet: not private, loopback, multicast or otherwise special (IANA).

    *address* is what a socket connects to (the host of its address), never a text that a resolver has yet to read. An
    IPv4 address that is mapped into IPv6, or translated by NAT64, is judged by itself.
    """
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(found, IPv6Address):
        inner = IPv4Address(found.packed[-4:]) if found in _NAT64 else found.ipv4_mapped
        if inner is None:
            return found.is_global and not any(found in network for network in _SPECIAL_6)
        found = inner
    return found.is_global and not any(found in network for network in _SPECIAL_4)
