"""The instruments of the OpenTelemetry sink."""

from typing import Any, Final

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader
from opentelemetry.sdk.resources import Resource

from relay.events import Failed, Record
from sinks._otel_names import DURATION, ERROR_TYPE, OPERATION_NAME, PROVIDER_NAME, RECORDS, SCOPE

__all__ = ["Meters"]

BOUNDS: Final = (1, 5, 10, 30, 60, 120, 300, 600, 1_200, 3_600)
"""Seconds: jobs run from seconds to an hour. The buckets of the SDK are for milliseconds, and of the conventions for
answers of chats."""

SHUT_DOWN_WITHIN: Final = 2_000.0
"""Milliseconds."""


class Meters:
    """Counts records by type, and measures jobs from their acceptance to their end."""

    def __init__(self, reader: MetricReader, resource: Resource, operation: str) -> None:
        self._provider = MeterProvider([reader], resource, shutdown_on_exit=False)
        self._operation = operation
        meter = self._provider.get_meter(SCOPE)
        self._records = meter.create_counter(RECORDS, "{record}", "Records of jobs, by type.")
        self._durations = meter.create_histogram(
            DURATION,
            "s",
            "Time from the acceptance of a job to its end.",
            explicit_bucket_boundaries_advisory=BOUNDS,
        )

    def count(self, record: Record) -> None:
        """Count one record."""
        self._records.add(1, {"relay.type": record.event.type})

    def ended(self, record: Record, upstream: str, seconds: float) -> None:
        """Measure a job whose last record is *record*."""
        labels: dict[str, Any] = {"relay.outcome": record.event.type, PROVIDER_NAME: upstream}
        if self._operation:
            labels[OPERATION_NAME] = self._operation
        if isinstance(record.event, Failed):
            labels[ERROR_TYPE] = record.event.kind
        self._durations.record(seconds, labels)

    def shut_down(self) -> None:
        """Export what was counted, and end. Blocks for SHUT_DOWN_WITHIN at most."""
        self._provider.shutdown(SHUT_DOWN_WITHIN)
