"""Relays without a part of their protection, which the checker has to find out: in the processes of tests alone.

Each replaces a line of the script that appends, before the script is sent to an engine.
"""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha1
from typing import Any, Final
from unittest.mock import patch

from relay.journal.redis._scripts import Script

__all__ = ["MUTANTS", "mutated"]

MUTANTS: Final[Mapping[str, tuple[bytes, bytes]]] = {
    "no-batch-memory": (b"if newest == tonumber(number) then return remembered end", b""),
    "no-fence": (b"if not held[fence] then", b"if false then"),
    "no-seq": (b"elseif fallen[job] or tonumber(seq) ~= newest[job] + 1 then", b"elseif false then"),
}
"""The text that goes, and the text in its place."""


@contextmanager
def mutated(names: Collection[str]) -> Iterator[None]:
    """Every script that is loaded meanwhile lacks what *names* name."""
    begin = Script.__init__

    def mutant(self: Script, name: str, **options: Any) -> None:
        begin(self, name, **options)
        if name != "append":
            return
        for old, new in map(MUTANTS.__getitem__, names):
            assert self._text.count(old) == 1, f"the script has another text than {old!r}"
            self._text = self._text.replace(old, new)
        self._digest = sha1(self._text, usedforsecurity=False).hexdigest()

    with patch.object(Script, "__init__", mutant):
        yield
