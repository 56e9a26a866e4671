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
from relay.observations import normalised
from relay.upstreams.declared.declaration import AnswerRequest
from relay.upstreams.declared.expressions import Evaluation, Expression
from relay.upstreams.declared.requests import naming
from relay.upstreams.outputs import links
from relay.upstreams.wire import Figure, as_sent, read_count, read_date, read_fraction, read_percent, read_seconds

__all__ = ["Finding", "Reader", "Reading", "compiled", "found", "identifier", "is_something", "masked"]

KEYS: Final = ("status", "progress", "scale", "queue_position", "eta", "log", "urls", "expires", "error", "code")
"""What is looked for in an answer about a task, in this order."""

_DECISIVE: Final = frozenset({"status", "urls", "error", "code"})
"""What decides how a job ends. Where one of these cannot be read, nothing is said rather than something wrong."""

_PERCENT: Final = re.compile(r"(?<![0-9.])([0-9]{1,3})(?:\.[0-9]{1,9})?\s?%")
_NUMBER: Final = re.compile(r"\s*-?[0-9]{1,15}(?:\.[0-9]{1,15})?\s*")


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
    expires: datetime | None = None
    error: object = None
    code: object = None


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

    def reading(self, findings: tuple[Finding, ...]) -> Reading:
        """What *findings* mean. Raises UpstreamError (malformed), which names the key, where one decides and cannot."""
        for finding in findings:
            if finding.problem is not None and finding.key in _DECISIVE:
                raise UpstreamError("malformed", f"{self.name}.{finding.key} cannot be read: {finding.problem}")
        found = {finding.key: finding.value for finding in findings}
        word = _word(found.get("status"))
        percent, source, raw = self._progress(found)
        log = found.get("log")
        return Reading(
            word=word,
            status=self._states.get(word.strip().lower()) or normalised(word) if word else "unknown",
            percent=percent,
            source=source,
            raw_percent=raw,
            queue_position=read_count(found.get("queue_position")),
            eta=read_seconds(found.get("eta")),
            log=_log(log) if "log" in found else None,
            urls=links(found.get("urls")),
            expires=read_date(found.get("expires")),
            error=found.get("error"),
            code=found.get("code"),
        )

    def _progress(self, found: Mapping[str, object]) -> tuple[int | None, ProgressSource | None, str | None]:
        """Percent, where it comes from, and its wire text where it was not used as it was."""
        wire, scale = found.get("progress"), found.get("scale", self._scale)
        if isinstance(wire, str):
            return _progress_in(wire, scale)
        if scale == 100:
            return read_percent(wire)
        percent, source, raw = read_fraction(_share(wire, scale))
        return percent, source, None if wire is None or (percent is not None and raw is None) else as_sent(wire)


def compiled(key: str, text: str) -> Expression:
    """The expression *text*. Raises UsageError, which names the *key*."""
    with naming(key):
        return Expression(text)


def identifier(value: object) -> str | None:
    """An id as text, None where *value* is none: some APIs write them as numbers, longer than any number here."""
    match value:
        case str():
            return value or None
        case Figure():
            return value.wire
        case int() if not isinstance(value, bool):
            return str(value)
        case _:
            return None


def is_something(value: object) -> bool:
    """Whether *value*, found where an error would be, tells of one: not null, false, 0, "0", or empty."""
    return value not in (None, False, 0, "0", [], {}) and not (isinstance(value, str) and not value.strip())


def found(key: str, expression: Expression, document: object, evaluation: Evaluation) -> Finding:
    """What *expression* finds. Raises UpstreamError where that takes too many steps."""
    try:
        return Finding(key, expression.text, expression.find(document, evaluation))
    except ValueError as error:
        return Finding(key, expression.text, problem=str(error))


def masked(finding: Finding, mask: Callable[[str], str]) -> Finding:
    """*finding* without secrets."""
    return replace(finding, value=None if finding.value is None else json.loads(mask(json.dumps(finding.value))))


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


def _share(wire: object, scale: object) -> object:
    """*wire* as a share of *scale*; itself where one of them is no number, so that it is kept as it was sent."""
    if isinstance(wire, bool) or isinstance(scale, bool) or not isinstance(scale, int | float) or not scale > 0:
        return None
    return wire / scale if isinstance(wire, int | float) else None


def _progress_in(text: str, scale: object) -> tuple[int | None, ProgressSource | None, str | None]:
    """The figure in a text: "42%", a number, or the last percentage of a longer text such as a log."""
    if _NUMBER.fullmatch(text):
        share = _share(float(text), scale)
        percent, source, _ = read_fraction(share)
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
        entries = [entry for entry in cast("list[object]", value) if is_something(entry)]
        return "".join(f"{entry if isinstance(entry, str) else json.dumps(entry)}\n" for entry in entries)
    return value if isinstance(value, str) else ""


def _word(value: object) -> str | None:
    """An API's own word for a state; some say true, or a number."""
    match value:
        case str():
            return value or None
        case bool() | int() | float():
            return json.dumps(value)
        case _:
            return None
