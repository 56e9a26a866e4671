"""A job as a trace: one span of the same ids wherever it is exported, in the SDK's own exporters and over OTLP."""

import asyncio
import json
import logging
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from aiohttp.web import Application, AppRunner, Request, Response, TCPSite
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from relay import (
    Accepted,
    Cancelled,
    Checking,
    Done,
    DraftsFetch,
    Event,
    Failed,
    Log,
    Position,
    Progress,
    Received,
    Record,
    Relay,
    Retrying,
    Stalled,
)
from relay.secret import Secret
from relay.testing import check_sink
from relay.wire.record_json import stamp
from sinks import OtelSink
from sinks._otel_spans import attributes, context_of, nanoseconds
from sinks.otel import OtelSettings

START = datetime(2026, 1, 1, 12, 0, 0, 123_456, tzinfo=UTC)
STORY: tuple[Event, ...] = (
    Accepted(upstream="sora"),
    Accepted(upstream="sora", task="task_1"),
    Checking(attempt=1, of=9),
    Received(listed=1, seconds=0.1),
    Progress(percent=None, status="queued"),
    Retrying(kind="network", message="away", attempt=1, next_in=2.5),
    Retrying(kind="network", message="away", attempt=2, next_in=5.0),
    Checking(attempt=2, of=9),
    Progress(percent=10, status="running", raw_status="processing"),
    Progress(percent=40, status="running"),
    Stalled(seconds=60.0),
    Log(line="a line"),
    Log(line="an oddity", severity="warning"),
    DraftsFetch(attempt=1),
    Done(urls=("https://files.example/a.png?sig=s3cret",), media_types=("image/png",)),
)
SHOWN = ["accepted", "accepted", "progress", "retrying", "progress", "stalled", "log", "drafts-fetch", "done"]
PATIENT: Any = {"drain_within": 60.0}


def records(*events: Event, job: str = "job_1", first: int = 1) -> list[Record]:
    """One record a second."""
    return [
        stamp(job, seq, START + timedelta(seconds=seq - 1), event, Position("e", seq))
        for seq, event in enumerate(events, first)
    ]


def kept_logs() -> Any:
    """An exporter in memory, which the SDK has not typed."""
    return InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]


async def spans_of(*given: Record, **options: Any) -> list[ReadableSpan]:
    exporter = InMemorySpanExporter()
    async with OtelSink(spans=exporter, **PATIENT, **options) as sink:
        for record in given:
            sink(record)
    return list(exporter.get_finished_spans())


async def test_a_job_is_one_span_from_its_acceptance_to_its_end() -> None:
    (span,) = await spans_of(*records(*STORY))

    assert (span.name, span.kind, span.status.status_code) == (
        "generate_content sora",
        SpanKind.CLIENT,
        StatusCode.UNSET,
    )
    assert (span.start_time, span.end_time) == (nanoseconds(START), nanoseconds(START + timedelta(seconds=14)))
    assert dict(span.attributes or {}) == {
        "gen_ai.operation.name": "generate_content",
        "gen_ai.provider.name": "sora",
        "gen_ai.response.id": "task_1",
        "gen_ai.output.type": "image",
        "relay.job": "job_1",
        "relay.upstream": "sora",
        "relay.task": "task_1",
        "relay.outcome": "done",
        "relay.status": "running",
        "relay.percent": 40,
        "relay.records": 15,
        "relay.polls": 2,
        "relay.retries": 2,
        "relay.files": 1,
    }
    assert [event.name for event in span.events] == [f"relay.{name}" for name in SHOWN], "changes, and no polls"
    assert span.events[-1].timestamp == span.end_time
    assert span.resource.attributes["service.name"] == "progress-relay"
    assert "s3cret" not in span.to_json(), "a signed address is a secret"


async def test_the_page_of_the_sink_lists_every_attribute_and_no_other() -> None:
    page = (Path(__file__).parents[2] / "docs/reference/sinks/otel.md").read_text("utf-8")
    table = page.partition("| attribute | |\n| --- | --- |\n")[2].partition("\n\n")[0]
    listed = {name for row in table.splitlines() for name in re.findall(r"`([\w.]+)`", row.split("|")[1])}
    ends: tuple[Event, ...] = Done(), Failed(kind="policy", message="no"), Cancelled(by="caller")
    spans = await spans_of(
        *records(*STORY),
        *(record for number, end in enumerate(ends) for record in records(end, job=f"job_{number}", first=2)),
    )

    assert {name for span in spans for name in span.attributes or {}} == listed


async def test_a_job_that_failed_has_an_error_with_its_kind_and_a_cancelled_one_has_none() -> None:
    failed = records(STORY[0], Failed(kind="policy", message="not allowed", retryable=True))
    cancelled = records(STORY[0], Cancelled(by="caller"), job="job_2")
    first, second = await spans_of(*failed, *cancelled)

    assert (first.status.status_code, first.status.description) == (StatusCode.ERROR, "not allowed")
    assert (first.attributes or {})["error.type"] == "policy"
    assert second.status.status_code is StatusCode.UNSET
    assert (second.attributes or {})["relay.cancelled_by"] == "caller"


async def test_the_ids_come_from_the_id_of_the_job_and_are_the_same_in_every_process() -> None:
    (once,), (again,) = await spans_of(*records(*STORY)), await spans_of(*records(*STORY))
    assert once.context is not None
    program = "from sinks._otel_spans import context_of; c = context_of('job_1'); print(c.trace_id, c.span_id)"
    found = (await asyncio.to_thread(run, program)).split()

    assert once.context == again.context == context_of("job_1")
    assert [once.context.trace_id, once.context.span_id] == [int(id) for id in found]
    assert context_of("job_1") != context_of("job_2")
    assert context_of("\ud800").is_valid, "of any id"


async def test_of_more_than_128_events_the_oldest_are_dropped_and_counted() -> None:
    lines = [Log(line=f"{number}", severity="warning") for number in range(500)]
    (span,) = await spans_of(*records(STORY[0], *lines, Done()))

    assert (len(span.events), span.dropped_events) == (128, 502 - 128)
    assert span.events[-1].name == "relay.done"
    assert (span.events[0].attributes or {})["relay.message"] == "373"


async def test_what_the_sdk_would_drop_is_made_fit() -> None:
    caught: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.addFilter(caught.append)  # type: ignore[arg-type]
    logging.getLogger("opentelemetry").addHandler(handler)
    try:
        made = attributes({"a": "x\ud800y", "b": 2**63, "c": -(2**70), "d": "t" * 5_000, "e": None, "f": [True, 1.5]})
        (span,) = await spans_of(*records(Accepted(upstream="up\udfff"), Log(line="\ud83d", severity="error"), Done()))
    finally:
        logging.getLogger("opentelemetry").removeHandler(handler)

    assert made == {"a": "x\ufffdy", "b": hex(2**63), "c": hex(-(2**70)), "d": "t" * 1_024, "f": [True, 1.5]}
    assert attributes({"n": 10**10_000})["n"].startswith("0x")
    span.to_json().encode("utf-8")
    assert caught == []


async def test_a_job_whose_beginning_was_missed_is_marked() -> None:
    (span,) = await spans_of(*records(Progress(percent=90, status="running"), Done(), first=7))

    assert (span.attributes or {})["relay.partial"] is True
    assert span.name == "generate_content"
    assert (span.start_time, span.end_time) == tuple(nanoseconds(START + timedelta(seconds=n)) for n in (6, 7))


async def test_a_clock_that_was_set_back_makes_no_span_that_ends_before_it_begins() -> None:
    first, last = records(STORY[0], Done())
    early = stamp(last.job, 2, START - timedelta(hours=1), Done(), last.position)
    (span,) = await spans_of(first, early)

    assert span.start_time == span.end_time == nanoseconds(START)


async def test_without_an_operation_no_name_of_the_conventions_is_used() -> None:
    (span,) = await spans_of(*records(*STORY), operation="")

    assert span.name == "job sora"
    assert [name for name in span.attributes or {} if name.startswith("gen_ai.")] == []


async def test_the_span_that_is_current_when_a_job_is_accepted_is_linked_and_no_parent() -> None:
    exporter, tracer = InMemorySpanExporter(), TracerProvider().get_tracer("test")
    async with Relay([], sinks=[OtelSink(spans=exporter, **PATIENT)], leave_within=60.0) as relay:
        with tracer.start_as_current_span("POST /videos") as request:
            job = relay.registry.admit()
            relay.bus.publish(job, Accepted(upstream="sora"))
        other = relay.registry.admit()
        relay.bus.publish(other, Accepted(upstream="sora"))
        for ended in (job, other):
            relay.bus.publish(ended, Done())
    linked, alone = exporter.get_finished_spans()

    assert [link.context for link in linked.links] == [request.get_span_context()]
    assert (linked.parent, list(alone.links)) == (None, [])


async def test_records_are_logs_within_the_span_of_their_job() -> None:
    exporter = kept_logs()
    async with OtelSink(logs=exporter, **PATIENT) as sink:
        for record in records(*STORY):
            sink(record)
    logs = [one.log_record for one in exporter.get_finished_logs()]

    shown = [record for record in records(*STORY) if record.event.level != "debug"]
    assert [log.body for log in logs] == [record.event.text for record in shown]
    assert [log.severity_text for log in logs] == [record.event.level for record in shown]
    assert {(log.trace_id, log.span_id) for log in logs} == {
        (context_of("job_1").trace_id, context_of("job_1").span_id)
    }
    assert (logs[-1].attributes, logs[-1].timestamp) == (
        {"relay.job": "job_1", "relay.seq": 15, "relay.type": "done"},
        nanoseconds(shown[-1].at),
    )


async def test_records_are_counted_by_type_and_jobs_are_measured_in_seconds() -> None:
    reader = InMemoryMetricReader()
    async with OtelSink(metrics=reader, **PATIENT) as sink:
        for record in [*records(*STORY), *records(STORY[0], Failed(kind="policy", message="no"), job="job_2")]:
            sink(record)
    data = reader.get_metrics_data()
    assert data is not None
    metrics = {metric.name: metric for metric in data.resource_metrics[0].scope_metrics[0].metrics}
    counted = {point.attributes["relay.type"]: point.value for point in points(metrics["relay.records"])}
    durations = {
        point.attributes["relay.outcome"]: point for point in points(metrics["gen_ai.client.operation.duration"])
    }

    assert (counted["accepted"], counted["checking"], counted["done"], counted["failed"]) == (3, 2, 1, 1)
    assert (durations["done"].count, durations["done"].sum) == (1, 14.0)
    assert durations["failed"].attributes["error.type"] == "policy"
    assert metrics["gen_ai.client.operation.duration"].unit == "s"


def points(metric: Any) -> list[Any]:
    return list(metric.data.data_points)


class Refusing(SpanExporter):
    """Refuses a number of batches, and takes the next."""

    def __init__(self, refused: int) -> None:
        self.refused = refused
        self.exported: list[ReadableSpan] = []

    def export(self, spans: Any) -> SpanExportResult:
        if self.refused:
            self.refused -= 1
            return SpanExportResult.FAILURE
        self.exported.extend(spans)
        return SpanExportResult.SUCCESS


async def test_a_batch_that_the_collector_refused_is_tried_again_and_no_job_is_exported_twice() -> None:
    exporter, logs, reader = Refusing(1), kept_logs(), InMemoryMetricReader()
    async with OtelSink(spans=exporter, logs=logs, metrics=reader, **PATIENT) as sink:
        for record in records(*STORY):
            sink(record)
    data = reader.get_metrics_data()
    assert data is not None
    (counter,) = [m for m in data.resource_metrics[0].scope_metrics[0].metrics if m.name == "relay.records"]

    assert [span.name for span in exporter.exported] == ["generate_content sora"]
    assert len(logs.get_finished_logs()) == len([record for record in records(*STORY) if record.event.level != "debug"])
    assert sum(point.value for point in points(counter)) == len(STORY), "folded once"
    assert sink.counts().delivered == len(STORY)


async def test_a_collector_that_is_away_costs_records_that_are_counted_and_nothing_else() -> None:
    exporter = Refusing(1_000_000)
    sink = OtelSink(spans=exporter, capacity=10, on_full="drop-oldest", drain_within=0.05)
    async with sink:
        for record in records(*(Log(line=f"{number}") for number in range(100))):
            sink(record)
    counts = sink.counts()

    assert counts.delivered + counts.dropped + counts.failed + counts.coalesced + counts.waiting == 100
    assert counts.dropped >= 90


async def test_a_sink_may_be_entered_again_and_exporters_of_the_caller_stay_open() -> None:
    exporter = InMemorySpanExporter()
    sink = OtelSink(spans=exporter, **PATIENT)
    for job in ("job_1", "job_2"):
        async with sink:
            for record in records(*STORY, job=job):
                sink(record)

    assert [(span.attributes or {})["relay.job"] for span in exporter.get_finished_spans()] == ["job_1", "job_2"]


async def test_the_settings_export_all_signals_by_otlp_with_secret_headers() -> None:
    received: dict[str, tuple[str, bytes]] = {}

    async def collect(request: Request) -> Response:
        received[request.path] = (request.headers["Authorization"], await request.read())
        return Response(content_type="application/x-protobuf")

    app = Application()
    app.router.add_post("/base/v1/{signal}", collect)
    runner = AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await TCPSite(runner, "127.0.0.1", 0).start()
        endpoint = f"http://127.0.0.1:{runner.addresses[0][1]}/base"
        settings = OtelSettings(endpoint=endpoint, headers={"Authorization": Secret("Bearer s3cret")}, service="films")
        for job in ("job_1", "job_2"):  # entered twice: each time with exporters of its own
            async with OtelSink.from_settings(settings) as sink:
                for record in records(*STORY, job=job):
                    sink(record)
            assert "s3cret" not in repr(sink) + repr(settings)
    finally:
        await runner.cleanup()

    assert {authorization for authorization, _ in received.values()} == {"Bearer s3cret"}
    traces = ExportTraceServiceRequest.FromString(received["/base/v1/traces"][1])
    (span,) = traces.resource_spans[0].scope_spans[0].spans
    assert span.trace_id == context_of("job_2").trace_id.to_bytes(16, "big")
    resource = {one.key: one.value.string_value for one in traces.resource_spans[0].resource.attributes}
    assert resource["service.name"] == "films"
    logs = ExportLogsServiceRequest.FromString(received["/base/v1/logs"][1])
    assert logs.resource_logs[0].scope_logs[0].log_records[0].span_id == span.span_id
    metrics = ExportMetricsServiceRequest.FromString(received["/base/v1/metrics"][1])
    names = [metric.name for metric in metrics.resource_metrics[0].scope_metrics[0].metrics]
    assert names == ["relay.records", "gen_ai.client.operation.duration"]


def run(program: str) -> str:
    """The output of *program* in a process of its own."""
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout


class Written(LogRecordExporter):
    """Writes log records as JSON lines, as a collector might."""

    def __init__(self) -> None:
        self.written = bytearray()

    def export(self, batch: Any) -> LogRecordExportResult:
        for one in batch:
            known = one.log_record.attributes
            line = {"job": known["relay.job"], "seq": known["relay.seq"], "text": one.log_record.body}
            self.written += json.dumps(line).encode() + b"\n"
        return LogRecordExportResult.SUCCESS

    def force_flush(self, timeout_millis: int = 0) -> bool:
        return True

    def shutdown(self) -> None: ...


def test_it_keeps_the_laws_of_sinks() -> None:
    logs = Written()

    def make() -> OtelSink:
        return OtelSink(spans=InMemorySpanExporter(), logs=logs, metrics=InMemoryMetricReader(), log_level="debug")

    report = check_sink(make, output=lambda: bytes(logs.written))
    assert {"once", "ordered", "drains", "hostile", "leftovers"} - set(report.kept) == set(), report


def test_nothing_of_the_sdk_is_imported_before_a_sink_is_made() -> None:
    program = "import sys, sinks.otel, sinks.kinds; print('opentelemetry' in sys.modules)"
    assert run(program) == "False\n"


def test_without_the_extra_one_sentence_says_what_to_install() -> None:
    program = (
        "import sys; sys.modules['opentelemetry'] = None\n"
        "from sinks.otel import OtelSink\n"
        "try: OtelSink()\n"
        "except Exception as error: print(type(error).__name__, error)\n"
    )
    assert run(program) == 'UsageError the sink otel needs an extra: pip install "progress-relay[otel]"\n'
