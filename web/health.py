"""Liveness, readiness, and the metrics for Prometheus."""

import os
import socket
from collections.abc import Iterator
from http import HTTPStatus
from typing import TYPE_CHECKING

from aiohttp.web import Application, Request, Response

from web.app_keys import RELAY
from web.middleware.problems import RequestError, problem_response
from web.request_failures import FAILURES
from web.streaming.keys import STREAMS

if TYPE_CHECKING:
    from prometheus_client import Metric

__all__ = ["healthz", "metrics", "readyz"]


async def healthz(_: Request) -> Response:
    """`GET /healthz`: 200 while the process answers."""
    return Response(text="ok\n")


async def readyz(request: Request) -> Response:
    """`GET /readyz`: 200 while the relay accepts new work, 503 before start-up, from the start of the shutdown, while
    the relay has a problem (`Relay.problems`), and if no file descriptor is left for a new connection."""
    if not request.app[RELAY].running or request.app[STREAMS].closing:
        return problem_response(HTTPStatus.SERVICE_UNAVAILABLE, "the relay is starting or shutting down")
    if wrong := request.app[RELAY].problems():
        return problem_response(HTTPStatus.SERVICE_UNAVAILABLE, ". ".join(wrong))
    try:
        socket.socket().close()
    except OSError as error:
        return problem_response(
            HTTPStatus.SERVICE_UNAVAILABLE, f"no connection can be accepted: {os.strerror(error.errno or 0)}"
        )
    return Response(text="ready\n")


async def metrics(request: Request) -> Response:
    """`GET /metrics`: the metrics in the text format of Prometheus."""
    try:
        from prometheus_client import CollectorRegistry
        from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
    except ImportError:
        raise RequestError(HTTPStatus.NOT_FOUND, "metrics need progress-relay[metrics]") from None
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Figures(request.app))
    return Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})


class _Figures:
    """Metrics that are read from the state of the relay at each scrape; nothing is counted twice."""

    def __init__(self, app: Application) -> None:
        self._relay = app[RELAY]
        self._streams = app[STREAMS]
        self._failures = app[FAILURES]

    def collect(self) -> Iterator["Metric"]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        jobs = GaugeMetricFamily("relay_jobs", "Jobs known here, by status.", labels=["status"])
        statuses = [job.state.status for job in self._relay.jobs()]
        for status in sorted(set(statuses)):
            jobs.add_metric([status], statuses.count(status))
        yield jobs
        yield CounterMetricFamily("relay_records", "Records published in this epoch.", self._relay.journal.head)
        yield GaugeMetricFamily("relay_streams", "Streams open now.", len(self._streams))
        failures = CounterMetricFamily("relay_sink_failures", "Records a sink failed on.", labels=["sink"])
        missed = CounterMetricFamily(
            "relay_sink_missed", "Records a sink did not get, or could not put out.", labels=["sink"]
        )
        for sink in (attached.status() for attached in self._relay.sinks):
            failures.add_metric([sink.name], sink.failed)
            missed.add_metric([sink.name], sink.failed + sink.dropped + sink.coalesced)
        yield failures
        yield missed
        unanswered = CounterMetricFamily(
            "relay_http_troubles", "Requests that could not be read, or not be answered.", labels=["kind"]
        )
        for kind, count in self._failures.counts.items():
            unanswered.add_metric([kind], count)
        yield unanswered
