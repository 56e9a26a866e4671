"""Failures of an engine in words: what happened, and what the operator can do, or that nothing has to be done."""

import re
from collections.abc import Iterator
from ssl import SSLCertVerificationError, SSLError
from typing import Final, TypeVar

from redis.asyncio.sentinel import MasterNotFoundError
from redis.exceptions import (
    AuthenticationError,
    AuthenticationWrongNumberOfArgsError,
    InvalidResponse,
    RedisError,
    ResponseError,
)
from redis.exceptions import (
    ConnectionError as NoConnectionError,
)
from redis.exceptions import (
    TimeoutError as NoAnswerError,
)

from relay.errors import ConfigError, JournalError
from relay.journal.redis._place import EnginePlace

__all__ = ["code_of", "explain", "is_demotion", "is_silence"]

_NESTED: Final = re.compile(r"(?:^| )-([A-Z]{3,}) ")
"""Redis 5 and 6 put the error of a command behind its place in the script: `... @user_script: 3: -OOM command ...`."""

_FORBIDDEN: Final = re.compile("executing the script can't|ACL failure in script")
"""In the answer to a script with a command that its user may not use."""

_RETRIED: Final = {
    "LOADING": "is loading its data; nothing has to be done, the relay goes on once it has",
    "MASTERDOWN": "is a replica without its primary; the relay waits for the primary",
    "READONLY": "is a replica, which accepts no write; the relay looks for the primary again. If this stays, name"
    " the primary in the URL, or the Sentinels that know it",
    "UNBLOCKED": "is no primary any more; the relay looks for the new one",
    "OOM": "has reached its maxmemory, and stores nothing more; raise maxmemory, or let [journal] keep less",
    "MISCONF": "cannot save its data to disk, and accepts no write until it can; look at its log and its disk",
    "NOREPLICAS": "has fewer replicas than its min-replicas-to-write asks for; bring them back, or lower it",
    "BUSY": "is busy with a script of another program; it accepts nothing until that ends, or SCRIPT KILL is sent",
    "CLUSTERDOWN": "belongs to a cluster that is down; the relay waits until it is up",
    "TRYAGAIN": "is moving the relay's keys to another node; the relay tries again",
    "ASK": "is moving the relay's keys to another node; the relay tries again",
    "MOVED": "names another node for the relay's keys, which does not answer; the relay tries again",
}
_FINAL: Final = {
    "NOPERM": "does not permit its user a command that the relay needs; extend that user's rules (ACL SETUSER)",
    "WRONGTYPE": "has a key of the relay's name with data of another program; use a database of its own, or set"
    " [cluster] name",
    "CROSSSLOT": "is behind a proxy that spreads the relay's keys; all of them have one hash tag and belong together",
}


def explain(error: Exception, place: EnginePlace) -> JournalError | ConfigError:
    """*error* of the client as an error that says what to do: a JournalError, or a ConfigError if no retry mends it."""
    if (certificate := _in_chain(error, SSLCertVerificationError)) is not None:
        reason = place.quoted(certificate.verify_message)
        return ConfigError(
            f"the certificate of {place} is not accepted: {reason}; name the file of its authority as ssl_ca_certs"
            " in the URL, and the host as the certificate does"
        )
    if (tls := _in_chain(error, SSLError)) is not None and tls.reason == "WRONG_VERSION_NUMBER":
        return ConfigError(f"{place} does not speak TLS; give it a certificate, or begin the URL with redis://")
    error = _origin(error)
    if isinstance(error, MasterNotFoundError):
        return _without_primary(error, place)
    if isinstance(error, AuthenticationError | AuthenticationWrongNumberOfArgsError):
        return ConfigError(f"{place} does not accept the user or the password of the URL; correct them")
    if isinstance(error, InvalidResponse):
        return ConfigError(f"{place} does not speak the protocol of Redis; correct host and port of the URL")
    code = code_of(error)
    if code in _RETRIED:
        return JournalError(f"{place} {_RETRIED[code]}")
    words = place.quoted(error)
    if _FORBIDDEN.search(words):
        code = "NOPERM"
    if code in _FINAL:
        return ConfigError(f"{place} {_FINAL[code]} ({words})")
    if isinstance(error, NoAnswerError | TimeoutError):
        over = " over TLS" if place.tls else ""
        return JournalError(f"{place} gave no answer in time{over}; the relay goes on once it does")
    if "max number of clients" in words:
        return JournalError(f"{place} has as many clients as it allows; raise its maxclients, or end some of them")
    if "Invalid Database" in words or "DB index" in words or "SELECT is not allowed" in words:
        return ConfigError(f"{place} has no database of this number; correct the end of the URL; a cluster has only 0")
    if isinstance(error, NoConnectionError | OSError):
        return JournalError(f"{place} cannot be reached: {words.rstrip('.')}; the relay goes on once it can")
    if "unknown command" in words.lower():
        return ConfigError(f"{place} lacks a command that the relay needs, Redis 5 or later has all: {words}")
    return JournalError(f"{place} refused a command: {words}")


def code_of(error: Exception) -> str:
    """The word that an error of the engine begins with, such as READONLY, also from within a script; "" without one."""
    error = _origin(error)
    if not isinstance(error, RedisError):
        return ""
    text = str(error)
    if (nested := _NESTED.search(text)) is not None:
        return nested[1]
    code = getattr(error, "status_code", None)
    if isinstance(code, str) and code != "ERR":
        return code
    word = text.partition(" ")[0] if isinstance(error, ResponseError) else ""
    return word if word.isupper() else ""


def is_demotion(error: Exception) -> bool:
    """Whether *error* says that the engine is no primary (any more)."""
    return code_of(error) in ("READONLY", "UNBLOCKED", "MASTERDOWN")


def is_silence(error: Exception) -> bool:
    """Whether *error* is no answer of the engine, but that there was none."""
    return not code_of(error) and isinstance(error, NoConnectionError | NoAnswerError | OSError | TimeoutError)


def _origin(error: Exception) -> Exception:
    """The answer of the engine. [measured] Over a socket of this machine, redis-py 8.1 wraps one to AUTH in another."""
    while isinstance(error.__cause__, RedisError):
        error = error.__cause__
    return error


def _without_primary(error: Exception, place: EnginePlace) -> JournalError | ConfigError:
    words = str(error)
    if "AuthenticationError" in words:
        return ConfigError(f"the Sentinels of {place} ask for a password; set sentinel_password in the URL")
    return JournalError(
        f"no Sentinel names {place}; the relay goes on once one does. If this stays, see whether the Sentinels run, and"
        " have a service of that name"
    )


E = TypeVar("E")


def _in_chain(error: BaseException, kind: type[E]) -> E | None:
    for one in _chain(error):
        if isinstance(one, kind):
            return one
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
