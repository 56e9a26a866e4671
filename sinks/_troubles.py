"""What becomes of an output that fails, in words for the operator."""

import logging
from collections.abc import Callable
from typing import Final, Literal, NamedTuple

__all__ = ["Trouble", "notices", "to_logger"]

WORDS: Final = 200
"""Characters of an error that are shown."""


class Trouble(NamedTuple):
    """A change of an output: it fails with *error* (None: there is no output), works again, or left lines behind.

    *lines*: the number of lines lost before it failed, lost since then, or left behind, respectively.
    """

    what: Literal["fails", "works again", "left"]
    error: BaseException | None
    lines: int


def notices(output: str, *, watched: bool, notify: Callable[[str], object] | None = None) -> Callable[[Trouble], None]:
    """A function that reports troubles of *output* to *notify*, by default the `relay` logger, which writes to stderr.

    Unless the output is *watched*, a closed pipe and a missing output are not reported.
    """
    silent = False

    def say(trouble: Trouble) -> None:
        nonlocal silent
        if trouble.what == "fails":
            silent = not watched and (trouble.error is None or isinstance(trouble.error, BrokenPipeError))
        if not silent:
            (notify or to_logger)(_in_words(output, trouble))

    return say


def to_logger(text: str) -> None:
    """Report *text* on the `relay` logger."""
    logging.getLogger("relay").warning("%s", text)


def _in_words(output: str, trouble: Trouble) -> str:
    lines = "1 line" if trouble.lines == 1 else f"{trouble.lines:,} lines"
    match trouble.what:
        case "fails" if trouble.error is None:
            return f"{output} is closed, so nothing is printed there"
        case "fails":
            what = str(trouble.error) or type(trouble.error).__name__
            return f"{output} cannot be written ({what[:WORDS]}); lines wait for it, and it is tried again every second"
        case "works again":
            return f"{output} can be written again; lost meanwhile: {lines}"
        case "left":
            return f"{output} was closed before it took the last lines; lost with it: {lines}"
