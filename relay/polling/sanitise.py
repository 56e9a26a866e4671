"""Answers of adapters without their unusable parts: an odd field costs that field, not the job or its neighbours."""

import math
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any, Final, Literal, cast, get_args

from msgspec.structs import replace

from relay.errors import ErrorKind, UpstreamError
from relay.events import FailureKind, ProgressSource, Status
from relay.jobs.observations import Answer, Failure, Observation, Result
from relay.notices import INTERRUPTIONS

__all__ = ["sanitise_answer", "sanitise_error", "sanitise_observation"]

_STATUSES: Final = frozenset(get_args(Status))
_SOURCES: Final = frozenset(get_args(ProgressSource))
_KINDS: Final = frozenset(get_args(ErrorKind))
_ENDS: Final = frozenset((*get_args(FailureKind), "cancelled"))
_COUNT_LIMIT: Final = 2**53
"""The largest whole number that every reader of JSON reads exactly."""


def sanitise_observation(seen: object) -> Observation:
    """*seen* without its unusable fields, and with a warning that names them. Raises UpstreamError for another type."""
    if not isinstance(seen, Observation):
        raise UpstreamError("internal", "the adapter answered with something that is no observation")
    if _is_plain(seen):
        return seen
    plain = {name: value for name, value in _readings(seen) if value is not getattr(seen, name)}
    if not plain:
        return seen
    if odd := [name for name, value in plain.items() if _differs(value, getattr(seen, name))]:
        plain = {"warning": f"what the adapter says in {', '.join(odd)} cannot be used as it is", **plain}
    return replace(seen, **plain)


def sanitise_answer(answer: object) -> Answer:
    """*answer*, with figures that can be used. Raises UpstreamError for another type."""
    if not isinstance(answer, Answer):
        raise UpstreamError("internal", "the adapter returned something that is no answer")
    if type(answer.listed) is int and 0 <= answer.listed < _COUNT_LIMIT and answer.poll_after is None:
        return answer
    listed, poll_after = _count(answer.listed) or 0, _wait(answer.poll_after)
    if listed is answer.listed and poll_after is answer.poll_after:
        return answer
    return replace(answer, listed=listed, poll_after=poll_after)


def sanitise_error(error: UpstreamError) -> UpstreamError:
    """*error*, if its kind and message can be used; otherwise an error of the kind `internal`."""
    if _one_of(_KINDS, error.kind) is None or not isinstance(cast(object, error.message), str):
        return UpstreamError("internal", "the adapter raised an error of no kind that is known here")
    error.message, error.retry_after = _text(error.message) or "", _wait(error.retry_after)
    return error


def _is_plain(seen: Observation) -> bool:
    """Whether every reading of *seen* is the field itself: nearly all are like that, and `_readings` takes 2 us.

    An end of a job, and a warning, come once: they are looked at there.
    """
    return (
        _is_one_of(_STATUSES, seen.status)
        and (seen.raw_status is None or type(seen.raw_status) is str)
        and (seen.percent is None or (_is_count(seen.percent) and seen.percent <= 100))
        and (seen.source is None or _is_one_of(_SOURCES, seen.source))
        and (seen.raw_percent is None or type(seen.raw_percent) is str)
        and (seen.queue_position is None or _is_count(seen.queue_position))
        and (seen.eta is None or (_is_wait(seen.eta) and seen.eta < _COUNT_LIMIT))
        and (seen.poll_after is None or _is_wait(seen.poll_after))
        and (seen.log_offset is None or _is_count(seen.log_offset))
        and (not seen.log or _lines(seen.log) is seen.log)
        and (seen.warning is None and seen.result is None and seen.failure is None)
    )


def _readings(seen: Observation) -> Iterable[tuple[str, Any]]:
    """Each field that an adapter can get wrong, with the value that is used: the very same object, if it is right.

    A value of a class of its own, such as an enumeration's, is read as the plain one that it equals.
    """
    yield "status", _one_of(_STATUSES, seen.status) or "unknown"
    yield "raw_status", _text(seen.raw_status)
    yield "percent", _percent(seen.percent)
    yield "source", _one_of(_SOURCES, seen.source)
    yield "raw_percent", _text(seen.raw_percent)
    yield "queue_position", _count(seen.queue_position)
    yield "eta", _seconds(seen.eta)
    yield "poll_after", _wait(seen.poll_after)
    yield "log_offset", _count(seen.log_offset)
    if seen.log:
        yield "log", _lines(seen.log)
    if seen.warning is not None:
        yield "warning", _text(seen.warning)
    if seen.result is not None:
        yield "result", _result(seen.result)
    if seen.failure is not None:
        yield "failure", _failure(seen.failure)


def _result(result: Result) -> Result:
    """*result* without its unusable parts: an odd media type or expiry never costs the files."""
    if not isinstance(cast(object, result), Result):
        return result
    urls, kinds, expires = _texts(result.urls), _texts(result.media_types), _moment(result.expires)
    if urls is result.urls and kinds is result.media_types and expires is result.expires:
        return result
    return replace(result, urls=urls, media_types=kinds, expires=expires)


def _failure(failure: Failure) -> Failure:
    """*failure* as one that can be published: an unknown kind becomes `upstream`."""
    if not isinstance(cast(object, failure), Failure):
        return failure
    kind: FailureKind | Literal["cancelled"] = _one_of(_ENDS, failure.kind) or "upstream"
    message = _text(failure.message) or "the adapter does not say why"
    retryable = _flag(failure.retryable)
    if kind is failure.kind and message is failure.message and retryable is failure.retryable:
        return failure
    return Failure(kind=kind, message=message, retryable=retryable)


def _differs(value: object, original: object) -> bool:
    try:
        return bool(value != original)
    except INTERRUPTIONS:
        raise
    except BaseException:
        return True


def _one_of(known: frozenset[str], value: object) -> Any:
    """*value* as plain text, if it is one of *known*."""
    return _text(value) if isinstance(value, str) and value in known else None


def _is_one_of(known: frozenset[str], value: object) -> bool:
    return type(value) is str and value in known


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < _COUNT_LIMIT


def _is_wait(value: object) -> bool:
    return (type(value) is int or type(value) is float) and value >= 0


def _flag(value: object) -> bool:
    return value if isinstance(value, bool) else False


def _moment(value: object) -> datetime | None:
    """A time of day, in UTC unless the adapter names a zone."""
    if not isinstance(value, datetime):
        return None
    return value if value.tzinfo is not None else value.replace(tzinfo=UTC)


def _number(value: Any) -> Any:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return _plain(value) if is_number and value == value else None


def _plain(value: Any) -> Any:
    """A number of a class of its own as the plain one that it is: JSON knows no other."""
    if type(value) in (int, float):
        return value
    return int(value) if isinstance(value, int) else float(value)


def _seconds(value: Any) -> float | None:
    number = _number(value)
    return number if number is not None and 0 <= number < math.inf and number < _COUNT_LIMIT else None


def _wait(value: Any) -> float | None:
    """Seconds to wait, however many: `clamp_delay` bounds them."""
    number: float | None = _number(value)
    return number if number is not None and number >= 0 else None


def _count(value: Any) -> int | None:
    number = _number(value)
    return number if isinstance(number, int) and 0 <= number < _COUNT_LIMIT else None


def _percent(value: Any) -> int | None:
    number = _number(value)
    if number is None:
        return None
    return number if isinstance(number, int) and 0 <= number <= 100 else math.floor(min(100, max(0, number)))


def _text(value: object) -> str | None:
    """*value* as plain text; None if it has none: a class of the adapter's own may raise anything."""
    if value is None or type(value) is str:
        return value
    try:
        return str.__str__(value) if isinstance(value, str) else str.__str__(str(value))
    except INTERRUPTIONS:
        raise
    except BaseException:
        return None


def _texts(value: object) -> tuple[str, ...]:
    """The texts in *value*, a list or one by itself, without what is no text."""
    return _each(value, lambda part: str.__str__(part) if isinstance(part, str) else None)


def _lines(value: object) -> tuple[str, ...]:
    """The lines in *value*, as many as there are parts, since they may be numbered."""
    return _each(value, lambda part: _text(part) or "")


def _each(value: object, read: Callable[[object], str | None]) -> tuple[str, ...]:
    parts = tuple(cast("list[object]", value)) if isinstance(value, list | tuple) else (value,)
    if parts is value and all(type(part) is str for part in parts):
        return cast("tuple[str, ...]", parts)
    return tuple(text for part in parts if (text := read(part)) is not None)
