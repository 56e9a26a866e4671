"""OpenTelemetry: a job as a trace, its records as logs, and metrics; by OTLP over HTTP, or to exporters of your own.

The SDK takes 0.23 s to import, so nothing here imports it before a sink is made.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Literal, Self, TypeAlias

from msgspec import Meta, Struct

from relay.errors import UsageError
from relay.events import LEVELS, Accepted, Level, Record, at_least
from relay.queue import Queued, RetryLater
from relay.secret import Secret
from sinks._otel_names import OPERATION

if TYPE_CHECKING:
    from opentelemetry.sdk._logs.export import LogRecordExporter
    from opentelemetry.sdk.metrics.export import MetricReader
    from opentelemetry.sdk.trace.export import SpanExporter

    from sinks._otel_meters import Meters

__all__ = ["OtelSettings", "OtelSink"]

_Signal: TypeAlias = Literal["traces", "logs", "metrics"]

TOGETHER: Final = (512, 1.0)
"""How many records, and for how many seconds, are exported at once, as the batches of the SDK are."""

JOBS: Final = 10_000
"""How many running jobs are folded; beyond that, the one that is quiet for longest has no whole span."""


class OtelSettings(Struct, frozen=True, kw_only=True):
    """A job as a trace, its records as logs, and metrics, sent to a collector by OTLP over HTTP."""

    kind: ClassVar[str] = "otel"

    level: Annotated[Level, Meta(description=f"one of {', '.join(LEVELS)}")] = "debug"
    endpoint: Annotated[
        str, Meta(pattern=r"^https?://[^\s@?#]+$", description="an http:// or https:// address without a password")
    ] = "http://127.0.0.1:4318"
    headers: Annotated[Mapping[str, Secret | str], Meta(description="a table of headers")] = {}
    service: Annotated[str, Meta(min_length=1, max_length=255, description="a name")] = "progress-relay"
    signals: Annotated[tuple[_Signal, ...], Meta(description='a list of "traces", "logs" and "metrics"')] = (
        "traces",
        "logs",
        "metrics",
    )
    log_level: Annotated[Level, Meta(description=f"one of {', '.join(LEVELS)}")] = "info"
    operation: Annotated[str, Meta(max_length=64, description="a gen_ai.operation.name, or empty")] = OPERATION


class OtelSink(Queued):
    """Exports each job as a span once it has ended, each record of *log_level* as a log record, and metrics of both.

    *spans* and *logs* are exporters of the SDK, *metrics* is a reader; a signal without one is not exported. They
    remain the caller's: the sink does not shut them down. They are called in a thread, with batches from the sink's own
    queue, which counts what it drops; the processors of the SDK drop with one warning.

    The ids of a span come from the id of its job. If a span is current where a job is accepted, as in an instrumented
    handler, the job's span has a link to it. Raises UsageError without the extra `otel`.
    """

    settings: ClassVar[type[OtelSettings]] = OtelSettings

    @classmethod
    def from_settings(cls, settings: OtelSettings) -> Self:
        """The sink of one table of [[sinks]]; its exporters are made when it is entered, and shut down at the end."""
        made = cls(service=settings.service, log_level=settings.log_level, operation=settings.operation)
        made._otlp = lambda: made._sdk.otlp(settings.endpoint, _revealed(settings.headers), settings.signals)
        return made

    def __init__(
        self,
        *,
        spans: "SpanExporter | None" = None,
        logs: "LogRecordExporter | None" = None,
        metrics: "MetricReader | None" = None,
        service: str = "progress-relay",
        log_level: Level = "info",
        operation: str = OPERATION,
        **options: Any,
    ) -> None:
        """*operation* is the `gen_ai.operation.name`; if it is empty, spans have no name of those conventions.

        *options* are those of `Queued`.
        """
        known: dict[str, Any] = {"on_full": "coalesce", "name": "otel", **options}
        super().__init__(self._export, batch=TOGETHER, **known)
        self._sdk = _sdk()
        self._service = service
        self._resource = self._sdk.resource_of(service)
        self._log_level: Level = log_level
        self._operation = operation
        self._otlp: Callable[[], tuple[Any, Any, Any]] | None = None
        self._jobs: OrderedDict[str, Any] = OrderedDict()
        self._links: OrderedDict[str, Any] = OrderedDict()
        self._batch: Sequence[Record] = ()
        self._use(spans, logs, metrics)

    def __repr__(self) -> str:
        return f"OtelSink({self._service!r})"

    def __call__(self, record: Record) -> None:
        # Here, and not in the thread: this is the context in which the job is submitted.
        if record.seq == 1 and isinstance(record.event, Accepted) and (link := self._sdk.current_span()) is not None:
            _put(self._links, record.job, link)
        super().__call__(record)

    async def __aenter__(self) -> Self:
        if self._otlp is not None:
            self._use(*await asyncio.to_thread(self._otlp))
        return await super().__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await super().__aexit__(kind, error, trace)
        if self._otlp is not None:
            await asyncio.to_thread(self._shut_down)

    def _use(self, spans: "SpanExporter | None", logs: "LogRecordExporter | None", metrics: Any) -> None:
        self._spans, self._logs = spans, logs
        self._meters: Meters | None = None
        self._new_spans: list[Any] = []
        self._new_logs: list[Any] = []
        if metrics is not None:
            self._meters = self._sdk.Meters(metrics, self._resource, self._operation)

    async def _export(self, records: Sequence[Record]) -> None:
        await asyncio.to_thread(self._export_here, records)

    def _export_here(self, records: Sequence[Record]) -> None:
        """Fold *records* once, also if this is another try, and export all that has come of it."""
        if records is not self._batch:
            self._batch = records
            self._new_spans, self._new_logs = [], []
            for record in records:
                self._fold(record)
        for new, exporter in ((self._new_spans, self._spans), (self._new_logs, self._logs)):
            if new and exporter is not None:
                if exporter.export(tuple(new)).name != "SUCCESS":
                    raise RetryLater("the collector did not accept a batch")
                new.clear()

    def _fold(self, record: Record) -> None:
        if self._meters is not None:
            self._meters.count(record)
        if self._logs is not None and (record.terminal or at_least(record.event.level, self._log_level)):
            self._new_logs.append(self._sdk.log_of(record, self._resource))
        trace = self._jobs.pop(record.job, None) or self._sdk.JobTrace(record, self._links.pop(record.job, None))
        trace.add(record)
        if not record.terminal:
            return _put(self._jobs, record.job, trace)
        if self._meters is not None:
            self._meters.ended(record, trace.upstream, trace.seconds(record))
        if self._spans is not None:
            self._new_spans.append(trace.end(record, self._operation, self._resource, self._sdk.SCOPE_OF_SPANS))

    def _shut_down(self) -> None:
        closing = [one.shutdown for one in (self._spans, self._logs) if one is not None]
        if self._meters is not None:
            closing.append(self._meters.shut_down)
        for close in closing:
            with suppress(Exception):
                close()


def _sdk() -> Any:
    try:
        from sinks import _otel_sdk
    except ImportError:
        raise UsageError('the sink otel needs an extra: pip install "progress-relay[otel]"') from None
    return _otel_sdk


def _revealed(headers: Mapping[str, Secret | str]) -> dict[str, str]:
    return {name: value if isinstance(value, str) else value.reveal() for name, value in headers.items()}


def _put(known: OrderedDict[str, Any], job: str, value: Any) -> None:
    known[job] = value
    if len(known) > JOBS:
        known.popitem(last=False)
