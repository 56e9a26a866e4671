"""API keys: only their digests are in memory, and each request is compared with all of them."""

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from typing import Final

from relay.config.access_settings import JobsSetting, KeySettings
from relay.notices import Notify
from web.access.access import Access, Jobs

__all__ = ["ApiKeys", "jobs_of", "scopes_of"]

PREFIX: Final = "key:"
"""What the subject and the credential of a key begin with."""

_SHOWN: Final = 16
"""Hexadecimal digits of a digest that name a key: they are of no use to find the key."""


def scopes_of(text: str) -> frozenset[str]:
    """The scopes in *text*, which are separated by spaces ([spec] RFC 6749, 3.3)."""
    return frozenset(text.split())


def jobs_of(setting: JobsSetting) -> Jobs:
    """The jobs that a configuration names."""
    if isinstance(setting, tuple):
        return frozenset(setting)
    return "*" if setting == "*" else "own"


class ApiKeys:
    """The keys of a configuration. A key whose file has changed is read again by `refresh`."""

    def __init__(self, keys: Iterable[KeySettings], notify: Notify) -> None:
        self._keys = tuple(keys)
        self._notify = notify
        self._known = self._read()

    @property
    def by_credential(self) -> Mapping[str, Access]:
        """The access of each key that is accepted now, by its `Access.credential`."""
        return {access.credential: access for access in self._known.values()}

    def find(self, token: str) -> Access | None:
        """The access of the key *token*. All keys are compared, so that the time says nothing about any of them."""
        presented, found = _digest(token), None
        for digest, access in self._known.items():
            if hmac.compare_digest(digest, presented):
                found = access
        return found

    def refresh(self) -> bool:
        """Read the files of keys that have changed; return whether a key is another one now."""
        before, self._known = self._known, self._read()
        return before.keys() != self._known.keys()

    def still_allows(self, access: Access) -> bool:
        """Whether a key that *access* was proved with is accepted now, and allows as much; true for other ways."""
        if not access.credential.startswith(PREFIX):
            return True
        now = self.by_credential.get(access.credential)
        return now is not None and access.scopes <= now.scopes and (access.jobs != "*" or now.sees_all)

    def _read(self) -> dict[bytes, Access]:
        known: dict[bytes, Access] = {}
        for key in self._keys:
            digest = _digest(key.key.reveal())
            if digest in known:
                self._notify(f"two [[access.keys]] are the same key, from {key.key.source}; the first one counts")
                continue
            known[digest] = Access(
                subject=f"{PREFIX}{key.name}",
                scopes=scopes_of(key.scopes),
                jobs=jobs_of(key.jobs),
                credential=f"{PREFIX}{key.name}:{digest.hex()[:_SHOWN]}",
            )
        return known


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
