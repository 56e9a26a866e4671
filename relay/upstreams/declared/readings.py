"""What an answer says about one task, found with the expressions that were declared for it."""

import json
import math
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final, cast

from msgspec import Struct
from msgspec.structs import replace

from relay.errors import UpstreamError, UsageError
from relay.events import ProgressSource, Status
from relay.jobs.observations import normalised
from relay.upstreams.declared.declaration import AnswerRequest
from relay.upstreams.declared.expressions import Evaluation, Expression
from relay.upstreams.declared.requests import naming
from relay.upstreams.reading.fields import named
from relay.upstreams.reading.links import NO_BASE, candidates, files
from relay.upstreams.reading.values import (
    as_sent,
    is_something,
    read_count,
    read_date,
    read_fraction,
    read_number,
    read_percent,
    read_seconds,
)

__all__ = ["Finding", "Reader", "Reading", "compiled", "found", "masked"]

KEYS: Final = (
    *("status", "progress", "scale", "queue_position", "eta", "log", "urls", "result", "expires", "error", "code"),
)
"""The parts of an answer about a task that are looked for, in this order."""

_FIGURES: Final[Mapping[str, Callable[[object], object]]] = {
    "queue_position": read_count,
    "eta": read_seconds,
    "expires": read_date,
}

_SOME_BASE: Final = "http://here/"
_PERCENT: Final = re.compile(r"(?<![0-9.,])([0-9]{1,3})(?:[.,][0-9]{1,9})?\s?%")


class Finding(Struct, frozen=True):
    """What one expression found: *value*, None for nothing; or the *problem* that kept it from finding anything."""

    key: str
    expression: str
    value: object = None
    problem: str | None = None


class Reading(Struct, frozen=True, kw_only=True):
    """What the findings in one answer mean."""

    word: str | None
    status: Status
    percent: int | None = None
    source: ProgressSource | None = None
    raw_percent: str | None = None
    queue_position: int | None = None
    eta: float | None = None
    log: str | None = None
    urls: tuple[str, ...] = ()
    value: object = None
    expires: datetime | None = None
    error: object = None
    code: object = None
    warning: str | None = None


class Reader:
    """The expressions of one request, which *name* calls it, compiled.

    *states* are the API's own words for the relay's. Raises UsageError, which names the key.
    """

    def __init__(self, name: str, request: AnswerRequest, states: Mapping[str, Status]) -> None:
        self.name = name
        self._states = states
        self._expressions = {
            key: compiled(f"{name}.{key}", text) for key in KEYS if isinstance(text := getattr(request, key), str)
        }
        self._scale = _checked_scale(name, request)

    def findings(self, document: object, evaluation: Evaluation) -> tuple[Finding, ...]:
        """What each expression finds in *document*. Raises UpstreamError where that takes too many steps."""
        return tuple(found(key, expression, document, evaluation) for key, expression in self._expressions.items())

    def reading(self, findings: tuple[Finding, ...], here: str = NO_BASE) -> Reading:
        """The meaning of *findings* in an answer from the address *here*; an unreadable one is a warning.

        Raises UpstreamError (malformed), which names the key, where nothing is known of the status.
        """
        found = {finding.key: finding.value for finding in findings}
        word = _word(found.get("status"))
        problems = {finding.key: finding.problem for finding in findings if finding.problem is not None}
        for key, problem in problems.items():
            if key == "status" or (word is None and key in ("error", "code")):
                raise UpstreamError("malformed", f"{self.name}.{key} cannot be read: {problem}")
        percent, source, raw = self._progress(found)
        made = files(candidates(found.get("urls"), here))
        log = found.get("log")
        return Reading(
            word=word,
            status=self._state(word) if word else "unknown",
            percent=percent,
            source=source,
            raw_percent=raw,
            queue_position=read_count(found.get("queue_position")),
            eta=read_seconds(found.get("eta")),
            log=_log(log) if "log" in found else None,
            urls=made.urls,
            value=made.value if found.get("result") is None else found["result"],
            expires=read_date(found.get("expires")),
            error=found.get("error"),
            code=found.get("code"),
            warning=self._warning(problems, found),
        )

    def _state(self, word: str) -> Status:
        return self._states.get(word.strip().lower()) or normalised(word, self._states)

    def _warning(self, problems: dict[str, str], found: Mapping[str, object]) -> str | None:
        """What could not be read, in a sentence without what was sent; None where all could."""
        odd = {
            key: f"{named(found[key])} is found, which is no such figure"
            for key, read in _FIGURES.items()
            if is_something(found.get(key)) and read(found[key]) is None and not _is_below_0(found[key])
        }
        if (others := _others(found.get("urls"))) > 0:
            are = "is no address" if others == 1 else "are no addresses"
            odd["urls"] = f"{others} of what is found {are} of a file"
        said = [f"{self.name}.{key} cannot be read: {problem}" for key, problem in (problems | odd).items()]
        return "; ".join(said) or None

    def _progress(self, found: Mapping[str, object]) -> tuple[int | None, ProgressSource | None, str | None]:
        """Percent, where it comes from, and its wire text where it was not used as it was."""
        wire, whole = found.get("progress"), read_number(found.get("scale", self._scale))
        if isinstance(wire, str):
            return _progress_in(wire, whole)
        if whole == 100:
            return read_percent(wire)
        figure = read_number(wire)
        share = figure / whole if figure is not None and whole is not None and whole > 0 else None
        percent, source, raw = read_fraction(share)
        return percent, source, None if wire is None or (percent is not None and raw is None) else as_sent(wire)


def compiled(key: str, text: str) -> Expression:
    """The expression *text*. Raises UsageError, which names the *key*."""
    with naming(key):
        return Expression(text)


def found(key: str, expression: Expression, document: object, evaluation: Evaluation) -> Finding:
    """What *expression* finds. Raises UpstreamError where that takes too many steps."""
    try:
        return Finding(key, expression.text, expression.find(document, evaluation))
    except ValueError as error:
        return Finding(key, expression.text, problem=str(error))


def masked(finding: Finding, redactor: Callable[[str], str]) -> Finding:
    """*finding* without secrets."""
    return replace(finding, value=None if finding.value is None else json.loads(redactor(json.dumps(finding.value))))


def _checked_scale(name: str, request: AnswerRequest) -> float | None:
    scale = request.scale
    if request.progress is None and scale is not None:
        raise UsageError(f"{name}.scale is of no use without {name}.progress")
    if request.progress is not None and scale is None:
        raise UsageError(
            f"{name} needs the key 'scale': what progress is out of, 1 or 100, or an expression that finds it"
        )
    if isinstance(scale, str) or scale is None:
        return None
    if not (math.isfinite(scale) and scale > 0):
        raise UsageError(f"{name}.scale must be a number over 0, or an expression that finds one")
    return scale


def _progress_in(text: str, whole: float | None) -> tuple[int | None, ProgressSource | None, str | None]:
    """The figure in a text: "42%", a number, or the last percentage of a longer text such as a log."""
    if (figure := read_number(text)) is not None:
        known = whole is not None and whole > 0
        percent, source, _ = read_fraction(figure / whole) if whole is not None and known else (None, None, None)
        return percent, source and "parsed", as_sent(text)
    percent, source, raw = read_fraction(text)
    if percent is not None:
        return percent, source, raw
    if figures := _PERCENT.findall(text):
        return min(100, int(figures[-1])), "parsed", None
    return None, None, None if "\n" in text or not text else raw


def _log(value: object) -> str:
    """A log as one text: it is a text, or a list of lines, of which each may have several."""
    if isinstance(value, list):
        entries = [entry for entry in cast("list[object]", value) if entry not in (None, "")]
        return "".join(f"{entry if isinstance(entry, str) else json.dumps(entry)}\n" for entry in entries)
    return value if isinstance(value, str) else ""


def _others(urls: object) -> int:
    """How many of *urls*, beside one address or more, are texts and no addresses."""
    texts = [url for url in cast("list[object]", urls if isinstance(urls, list) else [urls]) if isinstance(url, str)]
    texts = [text for text in texts if text.strip()]
    good = sum(bool(candidates(text, _SOME_BASE)) for text in texts)
    return len(texts) - good if good else 0


def _is_below_0(value: object) -> bool:
    """Whether *value* is a negative number, by which many say that they do not know."""
    return (read_number(value) or 0) < 0


def _word(value: object) -> str | None:
    """An API's own word for a state; some say true, or a number."""
    match value:
        case str():
            return value or None
        case bool() | int() | float():
            return json.dumps(value)
        case list():
            words = cast("list[object]", value)
            return _word(words[0]) if len(words) == 1 else None
        case _:
            return None
