"""Failures of an engine in words: those that a real server shows at once are in test_client.py."""

from typing import Any, cast

import pytest
from redis import exceptions
from redis._parsers.base import BaseParser
from redis.asyncio.sentinel import MasterNotFoundError

from relay.errors import ConfigError, JournalError, RelayError
from relay.journal.redis._place import read_url
from relay.journal.redis._trouble import code_of, explain, is_demotion

PLACE = read_url("redis://ann:c4n4ry@host")
SERVICE = read_url("redis+sentinel://ann:c4n4ry@a,b/main?sentinel_password=c4n4ry2")


def answered(text: str) -> Exception:
    """The error that the client makes of an answer."""
    error: Exception = cast("Any", BaseParser).parse_error(text)
    return error


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        ("LOADING Redis is loading the dataset in memory", JournalError, "is loading its data; nothing has to be done"),
        ("MASTERDOWN Link with MASTER is down", JournalError, "is a replica without its primary"),
        ("READONLY You can't write against a read only replica.", JournalError, "is a replica, which accepts no write"),
        ("UNBLOCKED force unblock from blocking operation", JournalError, "is no primary any more"),
        ("OOM command not allowed when used memory > 'maxmemory'.", JournalError, "has reached its maxmemory"),
        ("MISCONF Redis is configured to save RDB snapshots", JournalError, "cannot save its data to disk"),
        ("NOREPLICAS Not enough good replicas to write.", JournalError, "has fewer replicas than"),
        ("BUSY Redis is busy running a script.", JournalError, "is busy with a script of another program"),
        ("CLUSTERDOWN Hash slot not served", JournalError, "belongs to a cluster that is down"),
        ("TRYAGAIN Multiple keys request during rehashing", JournalError, "is moving the relay's keys"),
        ("ERR max number of clients reached", JournalError, "has as many clients as it allows"),
        ("ERR syntax error", JournalError, "refused a command: syntax error"),
        ("WRONGPASS invalid username-password pair", ConfigError, "does not accept the user or the password"),
        ("NOAUTH Authentication required.", ConfigError, "does not accept the user or the password"),
        ("NOPERM this user has no permissions", ConfigError, "does not permit its user a command"),
        ("WRONGTYPE Operation against a key", ConfigError, "has a key of the relay's name with data of another"),
        ("MOVED 3999 127.0.0.1:6381", JournalError, "names another node for the relay's keys"),
        ("ASK 3999 127.0.0.1:6381", JournalError, "is moving the relay's keys to another node"),
        ("CROSSSLOT Keys in request don't hash to the same slot", ConfigError, "is behind a proxy that spreads"),
        ("ERR DB index is out of range", ConfigError, "has no database of this number"),
        ("ERR unknown command 'XADD', with args", ConfigError, "lacks a command that the relay needs"),
    ],
)
def test_an_answer_is_explained(text: str, kind: type[RelayError], words: str) -> None:
    explained = explain(answered(text), PLACE)

    assert type(explained) is kind
    assert str(explained).startswith(f"host:6379 {words}")


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (exceptions.TimeoutError("Timeout reading"), JournalError, "host:6379 gave no answer in time"),
        (exceptions.ConnectionError("Connection closed by server."), JournalError, "host:6379 cannot be reached: "),
        (ConnectionResetError(104, "Connection reset by peer"), JournalError, "host:6379 cannot be reached: "),
        (exceptions.ConnectionError("Invalid Database"), ConfigError, "host:6379 has no database of this number"),
        (exceptions.InvalidResponse("Protocol error"), ConfigError, "host:6379 does not speak the protocol of Redis"),
    ],
)
def test_a_failure_of_the_connection_is_explained(error: Exception, kind: type[RelayError], words: str) -> None:
    explained = explain(error, PLACE)

    assert type(explained) is kind
    assert str(explained).startswith(words)


def test_an_error_within_a_script_is_recognised_in_the_words_of_older_servers() -> None:
    old = "ERR Error running script (call to f_0): @user_script:7: @user_script: 7: -READONLY You can't write against."

    assert code_of(answered(old)) == "READONLY"
    assert is_demotion(answered(old))
    assert "is a replica" in str(explain(answered(old), PLACE))


def test_an_error_around_that_of_the_engine_is_taken_off() -> None:
    outer = exceptions.ConnectionError("wrapped")
    outer.__cause__ = answered("WRONGPASS invalid username-password pair")

    assert isinstance(explain(outer, PLACE), ConfigError)


def test_sentinels_without_a_primary_may_have_one_later() -> None:
    explained = explain(MasterNotFoundError("No master found for 'main'"), SERVICE)

    assert type(explained) is JournalError
    assert str(explained).startswith("no Sentinel names the primary of 'main' by a:26379, b:26379; the relay goes on")


def test_sentinels_that_ask_for_a_password_are_an_error_of_the_configuration() -> None:
    error = MasterNotFoundError("No master found for 'main' : <Redis> - AuthenticationError('Authentication required')")

    explained = explain(error, SERVICE)

    assert type(explained) is ConfigError
    assert "set sentinel_password in the URL" in str(explained)


def test_no_word_of_a_server_shows_a_secret_or_acts_on_a_terminal() -> None:
    said = str(explain(answered("ERR no c4n4ry\x1b[2J " + "x" * 5_000), PLACE))

    assert "c4n4ry" not in said
    assert "\x1b" not in said
    assert len(said) < 500
