"""[journal] and [cluster]: where records are kept, and what the nodes that share them agree on."""

import re
from collections.abc import Mapping
from typing import Final, cast

from msgspec.structs import replace

from relay.config.access_settings import AccessSettings
from relay.config.settings import SHARED_JOURNALS, ClusterSettings, JournalSettings
from relay.config.tables import FromEnvironment, ReadSecret, read_table
from relay.errors import ConfigError
from relay.secret import Secret, is_reference

__all__ = ["JOURNALS", "check_shared", "read_cluster", "read_journal"]

JOURNALS: Final = ("memory", "sqlite", *SHARED_JOURNALS)
"""The schemes of journal URLs."""

_OPENS: Final = re.compile(r"@|password=")
"""In an address that names a user or a password."""

_EXAMPLES: Final = '"sqlite:relay.db", "memory:", or the address of a server of Redis, such as "redis://127.0.0.1"'


def read_journal(table: object, where: str, secret: ReadSecret) -> JournalSettings:
    """[journal] as settings. The address of a server is a `Secret`, wherever it comes from.

    Raises ConfigError, which repeats no part of the address, as it may hold a password.
    """
    keys = dict(cast("Mapping[str, object]", table)) if isinstance(table, dict) else {}
    url = keys.get("url")
    written = isinstance(url, str) and not is_reference(url)
    if isinstance(url, FromEnvironment) and not is_reference(url.text):
        keys["url"] = Secret(url.text.strip(), source=f"the environment variable {url.variable}")
    elif isinstance(url, str) and written:
        keys["url"] = Secret(url, source=f"{where} url")
    journal = read_table(JournalSettings, keys if isinstance(table, dict) else table, where, secret)
    _check_place(journal)
    if not journal.shared:
        # A path is no secret: messages name it.
        return replace(journal, url=journal.reveal())
    if written and _OPENS.search(journal.reveal()):
        raise ConfigError(
            f'{where} url has a user or a password in it; keep it out of the file, and write "env:NAME" or "file:PATH"'
            " here, for the whole address"
        )
    return journal


def read_cluster(table: object, where: str, secret: ReadSecret, journal: JournalSettings) -> ClusterSettings:
    """[cluster] as settings; None is a table that is not there. Raises ConfigError if *journal* is for one relay."""
    if table is None:
        return ClusterSettings()
    if not journal.shared:
        raise ConfigError(
            f"{where} is for relays that share a journal, and {journal.where} serves one alone; under [journal] write"
            ' the address of a server, as in url = "redis://127.0.0.1", or remove [cluster]'
        )
    return read_table(ClusterSettings, table, where, secret)


def check_shared(at: str, journal: JournalSettings, access: AccessSettings | None, *, durable: bool) -> None:
    """Raise ConfigError for what no relay can do with *journal*: *durable* sinks, and *access* without a key to sign.

    Each relay makes a key of its own where none is configured; what one has signed, the others would refuse.
    """
    if durable and journal.scheme != "sqlite":
        why = "outlives the relay" if journal.scheme == "memory" else "is this relay's own"
        raise ConfigError(
            f'{at}[[sinks]] durable needs a journal that {why}; under [journal] write url = "sqlite:relay.db"'
        )
    if journal.shared and access is not None and access.signing_key is None:
        raise ConfigError(
            f"{at}[access] needs a signing_key where relays share a journal, as each would refuse the sessions, tickets"
            " and watch links of the others; make one with relay token --new-key, and give it to all of them"
        )


def _check_place(journal: JournalSettings) -> None:
    """Refuse what is no journal here."""
    if journal.scheme not in JOURNALS:
        raise ConfigError(f"[journal] url: this version keeps no journal in such a place; write {_EXAMPLES}")
    if journal.scheme == "sqlite":
        if journal.path == ":memory:":
            raise ConfigError('[journal] url: a journal that need not outlive the relay is url = "memory:"')
        if not journal.path or journal.path.startswith(("//", "file:")):
            raise ConfigError(
                '[journal] url needs a path behind "sqlite:", as it is: "sqlite:relay.db" or "sqlite:/var/lib/relay.db"'
            )
