"""What `relay doctor` prints: a row for each finding."""

import json
from typing import Final

import click

from relay.text import bounded, inert
from relay.upstreams.masking import Masker

__all__ = ["Sheet", "counted", "cut", "named"]

WIDTH: Final = 100
"""How many characters of what an upstream says are shown."""


class Sheet:
    """What is printed: a row for each finding, secrets masked. What is *amiss* is counted."""

    def __init__(self, mask: Masker | None = None) -> None:
        self.mask = mask or Masker([])
        self._amiss = 0

    def row(self, label: str, text: str) -> None:
        """Print a finding."""
        click.echo(f"{label:<21}{inert(bounded(self.mask(text), 4 * WIDTH))}")

    def amiss(self, label: str, text: str) -> None:
        """Print what is not as it must be."""
        self._amiss += 1
        self.row(label, f"amiss: {text}")

    def end(self) -> int:
        """Print how that went, and return the status to end with."""
        click.echo("all is well" if not self._amiss else f"amiss: {self._amiss}")
        return 1 if self._amiss else 0


def named(value: object) -> str:
    """A value as JSON, and its type."""
    if value is None:
        return "nothing"
    kinds = {str: "text", bool: "true or false", int: "number", float: "number", list: "list", dict: "object"}
    kind = next(name for known, name in kinds.items() if isinstance(value, known))
    return f"{cut(json.dumps(value, ensure_ascii=False))} ({kind})"


def counted(number: int, thing: str) -> str:
    """A number of things, as it is read."""
    return f"{number:,} {thing}" + ("" if number == 1 else "s")


def cut(text: str) -> str:
    """*text*, as much of it as is shown."""
    return bounded(text, WIDTH)
