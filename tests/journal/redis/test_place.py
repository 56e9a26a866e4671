"""Addresses of engines: what is read from a URL, and what is refused without a word of it."""

import pytest

from relay.errors import ConfigError
from relay.journal.redis._place import read_url

CANARY = "c4n4ry"


@pytest.mark.parametrize(
    ("url", "shown", "database", "service", "tls"),
    [
        ("redis://host", "host:6379", 0, "", False),
        ("redis://ann:c4n4ry@host:1/3", "host:1", 3, "", False),
        ("valkey://:c4n4ry@[::1]", "::1:6379", 0, "", False),
        ("rediss://host?ssl_ca_certs=ca.pem&db=2", "host:6379", 2, "", True),
        ("valkeys://host", "host:6379", 0, "", True),
        ("unix:///run/redis.sock", "/run/redis.sock", 0, "", False),
        ("redis+unix://ann:c4n4ry@/run/redis.sock?db=4", "/run/redis.sock", 4, "", False),
        ("valkey+unix:///run/a%20b", "/run/a b", 0, "", False),
        ("redis+cluster://ann:c4n4ry@a,b:1", "a:6379, b:1", 0, "", False),
        ("valkeys+cluster://a/0", "a:6379", 0, "", True),
        ("redis+sentinel://a,b:1/main", "the primary of 'main' by a:26379, b:1", 0, "main", False),
        ("rediss+sentinel://ann:c4n4ry@a/main/5", "the primary of 'main' by a:26379", 5, "main", True),
        ("valkey+sentinel://a/main?sentinel_password=c4n4ry", "the primary of 'main' by a:26379", 0, "main", False),
    ],
)
def test_a_url_names_an_engine(url: str, shown: str, database: int, service: str, tls: bool) -> None:
    place = read_url(url)

    assert (str(place), place.database, place.service, place.tls) == (shown, database, service, tls)
    assert CANARY not in f"{place} {place!r} {place.address!r} {place.quoted(url)}"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("", "url begins with none of redis://"),
        ("c4n4ry", "url begins with none of redis://"),
        ("http://ann:c4n4ry@host", "url begins with none of redis://"),
        ("redis://ann:c4n4ry@", "url has no host"),
        ("redis:///c4n4ry", "url has no host"),
        ("redis://c4n4ry,b/0", "url names several hosts; begin it with redis+cluster://"),
        ("redis://host/c4n4ry", "url has a path that is no number of a database"),
        ("redis://host/0/c4n4ry", "url has a path that is no number of a database"),
        ("redis://host?db=c4n4ry", "url has a path that is no number of a database"),
        ("redis://ann:c4n4ry@host:99999", "url has a host or port that cannot be one"),
        ("redis://ann:c4n4ry/x@host", "url has a host or port that cannot be one"),
        ("unix://", "url has no path of a socket"),
        ("redis+cluster://c4n4ry/1", "url names a database, and a cluster has only 0"),
        ("redis+sentinel://c4n4ry", "url names no service"),
        ("redis+sentinel:///main", "url has no host"),
        ("redis://host?sentinel_password=c4n4ry", "url has a password for Sentinels, and names none"),
        ("redis://host?ssl_ca_certs=c4n4ry", "url has files for TLS, and is without TLS"),
        ("rediss://host?ssl_keyfile=c4n4ry", "url has ssl_keyfile without ssl_certfile"),
    ],
)
def test_what_names_no_engine_is_refused_without_a_word_of_it(url: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_url(url)

    assert str(caught.value).startswith(words)
    assert CANARY not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    "option",
    [
        *("socket_timeout=9", "socket_connect_timeout=9", "retry_on_timeout=yes", "health_check_interval=9"),
        *("protocol=3", "decode_responses=yes", "max_connections=1", "ssl_cert_reqs=none", "ssl_check_hostname=no"),
    ],
)
def test_an_option_that_the_client_would_prefer_to_what_correctness_hangs_on_is_refused(option: str) -> None:
    with pytest.raises(ConfigError, match="option behind '\\?' that is not known"):
        read_url(f"rediss://host?{option}")
