"""API keys: only their digests are in memory, and each request is compared with all of them."""

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from typing import Final

from relay.config.access import LEAST_KEY
from relay.config.access_settings import JobsSetting, KeySettings
from relay.notices import Notify
from web.access.access import Access, Jobs

__all__ = ["ApiKeys", "jobs_of", "scopes_of"]

PREFIX: Final = "key:"
"""What the subject and the credential of a key begin with."""

_SHOWN: Final = 16
"""Hexadecimal digits that name a key: they are of no use to find the key."""


def scopes_of(text: str) -> frozenset[str]:
    """The scopes in *text*, which are separated by spaces ([spec] RFC 6749, 3.3)."""
    return frozenset(text.split())


def jobs_of(setting: JobsSetting) -> Jobs:
    """The jobs that a configuration names."""
    if isinstance(setting, tuple):
        return frozenset(setting)
    return "*" if setting == "*" else "own"


class ApiKeys:
    """The keys of a configuration. A key whose file has changed is read again by `refresh`.

    While a file holds less than a key, as may be in the middle of a rotation, its key is as it was.
    """

    def __init__(self, keys: Iterable[KeySettings], notify: Notify) -> None:
        self._keys = tuple(keys)
        self._notify = notify
        self._digests: dict[int, bytes] = {}
        self._known = self._read()
        self.by_credential: Mapping[str, Access] = _by_credential(self._known)
        """The access of each key that is accepted now, by its `Access.credential`."""

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
        self.by_credential = _by_credential(self._known)
        return before.keys() != self._known.keys()

    def knows(self, access: Access) -> bool:
        """Whether the key that *access* was proved with is accepted now, with the same rights; true for other ways."""
        return not access.credential.startswith(PREFIX) or access.credential in self.by_credential

    def _read(self) -> dict[bytes, Access]:
        known: dict[bytes, Access] = {}
        for number, key in enumerate(self._keys):
            value = key.key.reveal()
            if len(value) >= LEAST_KEY:
                self._digests[number] = _digest(value)
            elif number not in self._digests:
                self._notify(f"[[access.keys]] {number + 1} has fewer than {LEAST_KEY} characters, and opens nothing")
            if (digest := self._digests.get(number)) is None:
                continue
            if digest in known:
                self._notify(f"two [[access.keys]] are the same key, from {key.key.source}; the first one counts")
                continue
            known[digest] = Access(
                subject=f"{PREFIX}{key.name}",
                scopes=scopes_of(key.scopes),
                jobs=jobs_of(key.jobs),
                credential=f"{PREFIX}{key.name}:{_name_of(digest, key)}",
            )
        return known


def _by_credential(known: Mapping[bytes, Access]) -> Mapping[str, Access]:
    return {access.credential: access for access in known.values()}


def _name_of(digest: bytes, key: KeySettings) -> str:
    """A name of the key with this *digest* and of its rights: with other rights, nothing that it proved holds."""
    rights = f"{' '.join(sorted(scopes_of(key.scopes)))} {key.jobs}"
    return hashlib.sha256(digest + rights.encode()).hexdigest()[:_SHOWN]


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
