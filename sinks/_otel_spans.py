"""A job as one span, folded from its records, and built once the last of them has come.

A span that is not ended is never exported, and the SDK checks no time; so nothing is kept open while a job runs, and a
restart loses no more than what the sink is not given again.
"""

import re
from collections import deque
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Final, cast

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util import BoundedList
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, TraceFlags
from opentelemetry.trace.status import Status, StatusCode

from relay.events import (
    Accepted,
    Cancelled,
    Checking,
    Done,
    DraftsFetch,
    Failed,
    Log,
    Progress,
    Record,
    Retrying,
    Stalled,
)
from sinks._otel_names import (
    ERROR_TYPE,
    OPERATION_NAME,
    OUTPUT_TYPE,
    OUTPUT_TYPES,
    PROVIDER_NAME,
    RESPONSE_ID,
)

__all__ = ["EVENTS_KEPT", "JobTrace", "attributes", "context_of", "nanoseconds"]

EVENTS_KEPT: Final = 128
"""As many events as a span has by default; the oldest beyond are dropped, and counted in the span."""

TEXT_LIMIT: Final = 1_024
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_LEAST, _MOST = -(2**63), 2**63 - 1
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def context_of(job: str) -> SpanContext:
    """The span of *job*: its ids come from its own id, so that every process finds the same, and a repeat is no other.

    [spec] W3C Trace Context: neither id is all zeros.
    """
    digest = sha256(job.encode("utf-8", "surrogatepass")).digest()
    trace, span = int.from_bytes(digest[:16], "big") or 1, int.from_bytes(digest[16:24], "big") or 1
    return SpanContext(trace, span, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))


def nanoseconds(at: datetime) -> int:
    """Nanoseconds since 1970. In integers: a float of seconds has no room for them."""
    since = at - _EPOCH
    return ((since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds) * 1_000


def attributes(values: Mapping[str, Any]) -> dict[str, Any]:
    """*values* as attributes that can be encoded; None is left out.

    The SDK drops a text with a lone surrogate and an integer over 64 bits, with a traceback that holds the value. Here
    a surrogate becomes U+FFFD, such an integer its digits in base 16, and a text ends after TEXT_LIMIT characters.
    """
    return {name: _clean(value) for name, value in values.items() if value is not None}


def _clean(value: Any) -> Any:
    match value:
        case bool() | float():
            return value
        case int():
            return value if _LEAST <= value <= _MOST else f"{value:#x}"[:TEXT_LIMIT]
        case str():
            return _SURROGATE.sub("\ufffd", value[:TEXT_LIMIT])
        case _:
            return [_clean(inner) for inner in value]


class JobTrace:
    """The fold of one job's records, as far as its span needs them. Changes of state become events of the span.

    Polls are counted and are no events: a job of ten minutes has hundreds of them.
    """

    def __init__(self, first: Record, link: SpanContext | None = None) -> None:
        self._job = first.job
        self._began = first.at
        self._whole = first.seq == 1
        self._link = link
        self._upstream = ""
        self._task: str | None = None
        self._status: str | None = None
        self._percent: int | None = None
        self._polls = self._retries = self._failing = 0
        self._dropped = 0
        self._events: deque[Event] = deque(maxlen=EVENTS_KEPT)

    @property
    def upstream(self) -> str:
        """The upstream of the job; empty if its first record was not seen."""
        return self._upstream

    def seconds(self, record: Record) -> float:
        """From the first record to *record*; never below 0, since the time of day may be set."""
        return max(0.0, (record.at - self._began).total_seconds())

    def add(self, record: Record) -> None:
        """Fold one record, whose turn it is."""
        match record.event:
            case Accepted(upstream=upstream, task=task):
                self._upstream, self._task = upstream, task or self._task
                self._note(record, {"relay.task": task})
            case Checking():
                self._polls += 1
            case Progress(status=status, raw_status=raw, percent=percent, regressed=regressed):
                self._failing = 0
                self._percent = percent
                if status != self._status or regressed:
                    self._status = status
                    self._note(record, {"relay.status": status, "relay.raw_status": raw, "relay.percent": percent})
            case Retrying(kind=kind, message=message, next_in=delay):
                self._retries += 1
                self._failing += 1
                if self._failing == 1:  # the first of a row; the others are counted
                    self._note(record, {ERROR_TYPE: kind, "relay.message": message, "relay.next_in": delay})
            case DraftsFetch(attempt=attempt) if attempt == 1:
                self._note(record, {})
            case Stalled(seconds=seconds):
                self._note(record, {"relay.seconds": seconds})
            case Log(line=line, severity=severity) if severity in ("warning", "error"):
                self._note(record, {"relay.message": line})
            case _:
                pass

    def end(self, record: Record, operation: str, resource: Resource, scope: InstrumentationScope) -> ReadableSpan:
        """The span, whose end is the terminal *record*."""
        self._note(record, {})
        events = cast(Any, BoundedList)(EVENTS_KEPT)
        events.extend(list(self._events))
        events.dropped = self._dropped
        began = nanoseconds(self._began)
        return ReadableSpan(
            name=f"{operation or 'job'} {self._upstream}".strip()[:TEXT_LIMIT],
            context=context_of(self._job),
            resource=resource,
            attributes=attributes(self._attributes(record, operation)),
            events=events,
            links=[] if self._link is None else [Link(self._link)],
            kind=SpanKind.CLIENT,
            status=_status(record),
            start_time=began,
            end_time=max(began, nanoseconds(record.at)),
            instrumentation_scope=scope,
        )

    def _note(self, record: Record, values: Mapping[str, Any]) -> None:
        self._dropped += len(self._events) == EVENTS_KEPT
        event = record.event
        known = attributes({"relay.seq": record.seq, "relay.text": event.text, **values})
        self._events.append(Event(f"relay.{event.type}", attributes=known, timestamp=nanoseconds(record.at)))

    def _attributes(self, record: Record, operation: str) -> dict[str, Any]:
        event = record.event
        known: dict[str, Any] = {
            "relay.job": self._job,
            "relay.upstream": self._upstream or None,
            "relay.task": self._task,
            "relay.outcome": event.type,
            "relay.status": self._status,
            "relay.percent": self._percent,
            "relay.records": record.seq,
            "relay.polls": self._polls,
            "relay.retries": self._retries,
            "relay.partial": None if self._whole else True,
        }
        if operation:
            known |= {OPERATION_NAME: operation, PROVIDER_NAME: self._upstream or None, RESPONSE_ID: self._task}
        match event:
            case Done(urls=urls, media_types=types):
                known["relay.files"] = len(urls)
                known[OUTPUT_TYPE] = _output_type(types) if operation else None
            case Failed(kind=kind, retryable=retryable):
                known |= {ERROR_TYPE: kind, "relay.retryable": retryable}
            case Cancelled(by=by):
                known["relay.cancelled_by"] = by
            case _:
                pass
        return known


def _output_type(media_types: Sequence[str]) -> str | None:
    first = media_types[0] if media_types else ""
    return OUTPUT_TYPES.get(first) or OUTPUT_TYPES.get(first.partition("/")[0])


def _status(record: Record) -> Status:
    """Only a failure has a status: a cancelled job is no error, and success is what is not marked."""
    if isinstance(record.event, Failed):
        return Status(StatusCode.ERROR, _clean(record.event.message))
    return Status(StatusCode.UNSET)
