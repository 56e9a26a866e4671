"""The report of `relay doctor`: a row for each finding."""

import json
from typing import Final

import click

from relay.text import bounded, inert
from relay.wire.redactor import Redactor

__all__ = ["Report", "counted", "cut", "named"]

WIDTH: Final = 100
"""The most characters shown of a text from an upstream."""


class Report:
    """A row for each finding, with secrets masked. Problems are counted."""

    def __init__(self, redactor: Redactor | None = None) -> None:
        self.redactor: Redactor = redactor or Redactor([])
        self._problems = 0

    def row(self, label: str, text: str) -> None:
        """Print a finding."""
        click.echo(f"{label:<21}{inert(bounded(self.redactor(text), 4 * WIDTH))}")

    def problem(self, label: str, text: str) -> None:
        """Print a problem, and count it."""
        self._problems += 1
        self.row(label, f"problem: {text}")

    def end(self) -> int:
        """Print how that went, and return the status to end with."""
        click.echo("all is well" if not self._problems else f"{counted(self._problems, 'problem')} found")
        return 1 if self._problems else 0


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
