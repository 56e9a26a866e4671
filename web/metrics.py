"""`GET /metrics`: the state of the relay in the text formats of Prometheus and OpenMetrics.

Nothing is counted for the metrics but a few integers and histograms where things happen; a scrape reads them, and all
else, from the objects that know. So a figure costs nothing while nobody looks, and no figure is kept twice.
"""

import asyncio
import math
import platform
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from aiohttp.web import Application, Request, Response

from relay import Relay
from relay.bus.histogram import Histogram
from web.app_keys import RELAY
from web.metric_table import METRICS
from web.middleware.problems import RequestError
from web.request_failures import FAILURES
from web.streaming.keys import FAN_OUT, STREAMS
from web.streaming.registry import STREAM_STATES

if TYPE_CHECKING:
    from prometheus_client import Metric

__all__ = ["metrics"]

JOBS_AT_ONCE: Final = 2_000
"""How many jobs are counted before others have their turn: under a millisecond."""

Samples: TypeAlias = Iterable[tuple[Sequence[str], float]]
"""The values of the labels of each sample, and its own."""

_NONE: Final = ""


async def metrics(request: Request) -> Response:
    """`GET /metrics`: the metrics in the text format that the client accepts, that of Prometheus by default."""
    try:
        from prometheus_client import CollectorRegistry, ProcessCollector
        from prometheus_client.exposition import choose_encoder
    except ImportError:
        raise RequestError(HTTPStatus.NOT_FOUND, "metrics need progress-relay[metrics]") from None
    counted = await _count_jobs(request.app[RELAY])
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Figures(request.app, counted))
    ProcessCollector(registry=registry)
    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    return Response(body=encode(registry), headers={"Content-Type": content_type})


async def _count_jobs(relay: Relay) -> Counter[tuple[str, str]]:
    """The number of jobs of each upstream and status; others have their turn in between."""
    counted: Counter[tuple[str, str]] = Counter()
    jobs = relay.jobs()
    for start in range(0, len(jobs), JOBS_AT_ONCE):
        states = (job.state for job in jobs[start : start + JOBS_AT_ONCE])
        counted.update((state.upstream, state.status) for state in states)
        await asyncio.sleep(0)
    return counted


class _Figures:
    """A collector: all metrics of METRICS, as of one moment."""

    def __init__(self, app: Application, jobs: Counter[tuple[str, str]]) -> None:
        self._relay = app[RELAY]
        self._streams = app[STREAMS]
        self._fan_out = app[FAN_OUT]
        self._failures = app[FAILURES]
        self._jobs = jobs

    def collect(self) -> Iterator["Metric"]:
        yield _family("build", [([_version(), platform.python_version()], 1)])
        yield from self._of_upstreams()
        yield from self._of_sinks()
        yield from self._of_streams()
        yield from self._of_the_journal()
        yield from self._of_the_cluster()
        yield _family("http_troubles", [([kind], count) for kind, count in self._failures.counts.items()])

    def _of_upstreams(self) -> Iterator["Metric"]:
        by_status: Counter[str] = Counter()
        for (_, status), count in self._jobs.items():
            by_status[status] += count
        yield _family("jobs", [([status], count) for status, count in sorted(by_status.items())])
        yield _family("upstream_jobs", sorted(self._jobs.items()))
        now = self._relay.clock.monotonic()
        polls = {name: poller.counts for name, poller in self._relay.pollers().items()}
        outcomes = [
            *(((name, "answered", _NONE), counts.answered) for name, counts in polls.items()),
            *(((name, "failed", kind), n) for name, counts in polls.items() for kind, n in counts.failed.items()),
        ]
        yield _family("upstream_polls", outcomes)
        yield _histograms("upstream_poll_seconds", [([name], counts.latency) for name, counts in polls.items()])
        yield _family("upstream_answer_age_seconds", [([name], counts.age(now)) for name, counts in polls.items()])

    def _of_sinks(self) -> Iterator["Metric"]:
        sinks = [sink.status() for sink in self._relay.sinks]
        outcomes = ("delivered", "coalesced", "dropped", "failed")
        yield _family("sink_records", [([one.name, what], getattr(one, what)) for one in sinks for what in outcomes])
        yield _family("sink_failures", [([one.name], one.failed) for one in sinks])
        yield _family("sink_missed", [([one.name], one.failed + one.dropped + one.coalesced) for one in sinks])
        yield _family("sink_waiting", [([one.name], one.waiting) for one in sinks])
        yield _family("sink_lag", [([one.name], one.lag) for one in sinks])
        yield _family("sink_quarantined", [([one.name], one.state != "closed") for one in sinks])
        yield _family("sink_slowest_seconds", [([one.name], one.slowest) for one in sinks])

    def _of_streams(self) -> Iterator["Metric"]:
        counts, states = self._streams.counts, Counter(stream.state for stream in self._streams)
        yield _family("streams", [([], len(self._streams))])
        yield _family("stream_states", [([state], states[state]) for state in STREAM_STATES])
        yield _family("streams_opened", [([], counts.opened)])
        yield _family("streams_refused", [([], counts.refused)])
        yield _family("stream_skipped", [([], counts.skipped)])
        yield _family("stream_gaps", [([], counts.gaps)])
        yield _histograms("delivery_seconds", [([], self._fan_out.delays)])

    def _of_the_journal(self) -> Iterator["Metric"]:
        bus, journal = self._relay.bus, self._relay.journal
        yield _family("records", [([], bus.sent)])
        if (kept := getattr(journal, "kept", None)) is not None:  # not every journal knows it
            yield _family("journal_records", [([], kept.records)])
            yield _family("journal_bytes", [([], kept.bytes)])
        yield _family("journal_waiting", [([], bus.waiting)])
        yield _family("journal_blocked", [([], bus.write_blocked.is_set())])
        yield _histograms("journal_commit_seconds", [([], bus.commit_times)])

    def _of_the_cluster(self) -> Iterator["Metric"]:
        if (node := self._relay.cluster) is None:
            return
        membership, counts = node.membership, node.membership.counts
        figures: dict[str, float] = {
            "nodes": len(membership.nodes),
            "shards": len(membership.owned),
            "claims": counts.claims,
            "takeovers": counts.takeovers,
            "longest_takeover_seconds": counts.longest_takeover,
            "hand_overs": counts.hand_overs,
            "losses": counts.losses,
            "fences": counts.fences,
            "unanswered": counts.unanswered,
            "renewal_age_seconds": membership.since_renewal,
            "engine_problem": node.journal.problem is not None,
            "breaks": self._relay.bus.breaks,
        }
        if (age := getattr(node.journal, "tail_age", None)) is not None:  # not every journal knows it
            figures["tail_age_seconds"] = age
        for key, figure in figures.items():
            yield _family(f"cluster_{key}", [([], figure)])


def _family(key: str, samples: Samples) -> "Metric":
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily

    spec = METRICS[key]
    family: Any
    match spec.kind:
        case "counter":
            family = CounterMetricFamily(spec.name, spec.help, labels=spec.labels, unit=spec.unit)
        case "info":
            family = InfoMetricFamily(spec.name, spec.help)
            for values, _ in samples:
                family.add_metric([], dict(zip(spec.labels, values, strict=True)))
            return family  # type: ignore[no-any-return]
        case _:
            family = GaugeMetricFamily(spec.name, spec.help, labels=spec.labels, unit=spec.unit)
    for values, value in samples:
        family.add_metric(values, float(value))
    return family  # type: ignore[no-any-return]


def _histograms(key: str, samples: Iterable[tuple[Sequence[str], Histogram]]) -> "Metric":
    from prometheus_client.core import HistogramMetricFamily

    spec = METRICS[key]
    family = HistogramMetricFamily(spec.name, spec.help, labels=spec.labels, unit=spec.unit)
    for values, histogram in samples:
        buckets = [(_bound(bound), float(count)) for bound, count in histogram.buckets()]
        family.add_metric(values, buckets, histogram.total)
    return family


def _bound(bound: float) -> str:
    return "+Inf" if math.isinf(bound) else repr(bound)


@cache
def _version() -> str:
    from importlib.metadata import version  # 75 ms where nothing else has imported it: at the first scrape alone

    return version("progress-relay")
