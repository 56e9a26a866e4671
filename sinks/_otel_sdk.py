"""What the OpenTelemetry sink uses of the SDK beside spans: log records, the current span, and exporters of OTLP."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import NonRecordingSpan, SpanContext, get_current_span, set_span_in_context

from relay.events import Record
from sinks._otel_meters import Meters
from sinks._otel_names import SCOPE
from sinks._otel_spans import JobTrace, attributes, context_of, nanoseconds

if TYPE_CHECKING:
    from opentelemetry.sdk._logs.export import LogRecordExporter
    from opentelemetry.sdk.metrics.export import MetricReader
    from opentelemetry.sdk.trace.export import SpanExporter

__all__ = ["SCOPE_OF_SPANS", "JobTrace", "Meters", "current_span", "log_of", "otlp", "resource_of"]

SCOPE_OF_SPANS: Final = InstrumentationScope(SCOPE)

TIMEOUT: Final = 5.0
"""Seconds for one export, its own retries included. At the end of the program, one may still be under way."""

EVERY: Final = 60_000.0
"""Milliseconds between two exports of metrics."""

_SEVERITIES: Final = {
    "debug": SeverityNumber.DEBUG,
    "info": SeverityNumber.INFO,
    "warning": SeverityNumber.WARN,
    "error": SeverityNumber.ERROR,
}


def resource_of(service: str) -> Resource:
    """The resource of all signals: *service*, and what the environment says (OTEL_RESOURCE_ATTRIBUTES)."""
    return Resource.create({"service.name": service})


def current_span() -> SpanContext | None:
    """The span that is current where this is called, if there is one."""
    context = get_current_span().get_span_context()
    return context if context.is_valid else None


def log_of(record: Record, resource: Resource) -> ReadableLogRecord:
    """*record* as a log record within the span of its job."""
    event, at = record.event, nanoseconds(record.at)
    log = LogRecord(
        timestamp=at,
        observed_timestamp=at,
        context=set_span_in_context(NonRecordingSpan(context_of(record.job))),
        severity_text=event.level,
        severity_number=_SEVERITIES[event.level],
        body=attributes({"text": event.text})["text"],
        attributes=attributes({"relay.job": record.job, "relay.seq": record.seq, "relay.type": event.type}),
        event_name=f"relay.{event.type}",
    )
    return ReadableLogRecord(log, resource, SCOPE_OF_SPANS)


def otlp(
    endpoint: str, headers: Mapping[str, str], signals: tuple[str, ...]
) -> "tuple[SpanExporter | None, LogRecordExporter | None, MetricReader | None]":
    """Exporters to a collector at *endpoint*, of the *signals* that are wanted."""
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

    base, sent = endpoint.rstrip("/"), dict(headers)
    spans = logs = metrics = None
    if "traces" in signals:
        spans = OTLPSpanExporter(f"{base}/v1/traces", headers=sent, timeout=TIMEOUT)
    if "logs" in signals:
        logs = OTLPLogExporter(f"{base}/v1/logs", headers=sent, timeout=TIMEOUT)
    if "metrics" in signals:
        exporter = OTLPMetricExporter(f"{base}/v1/metrics", headers=sent, timeout=TIMEOUT)
        metrics = PeriodicExportingMetricReader(exporter, export_interval_millis=EVERY)
    return spans, logs, metrics
