"""The type of an option that several commands have."""

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import click

__all__ = ["OptionDecorator"]

_C = TypeVar("_C", bound=Callable[..., Any] | click.Command)


class OptionDecorator(Protocol):
    """Adds an option to a command, and returns the command."""

    def __call__(self, command: _C, /) -> _C: ...
