"""What `/metrics` exposes: the one table of names, from which docs/reference/metrics.md is made."""

from collections.abc import Mapping
from typing import Final, Literal, TypeAlias

from msgspec import Struct

__all__ = ["METRICS", "MetricKind", "MetricSpec"]

MetricKind: TypeAlias = Literal["counter", "gauge", "histogram", "info"]


class MetricSpec(Struct, frozen=True):
    """One family of samples: its labels, and its base *unit*, with which its name ends."""

    kind: MetricKind
    help: str
    labels: tuple[str, ...] = ()
    unit: str = ""
    name: str = ""

    def sample(self) -> str:
        """The name under which Prometheus stores it; a histogram has three, with `_bucket`, `_sum` and `_count`."""
        return self.name + {"counter": "_total", "info": "_info"}.get(self.kind, "")


def _named(**specs: MetricSpec) -> Mapping[str, MetricSpec]:
    return {
        key: MetricSpec(spec.kind, spec.help, spec.labels, spec.unit, f"relay_{key}") for key, spec in specs.items()
    }


METRICS: Final = _named(
    build=MetricSpec("info", "The version of the relay and of Python. Its value is 1.", ("version", "python")),
    jobs=MetricSpec("gauge", "Jobs known here, by status.", ("status",)),
    upstream_jobs=MetricSpec("gauge", "Jobs known here, by upstream and status.", ("upstream", "status")),
    upstream_polls=MetricSpec(
        "counter",
        "Requests for the state or the result of jobs, by outcome (answered, failed) and, if failed, kind of error.",
        ("upstream", "outcome", "kind"),
    ),
    upstream_poll_seconds=MetricSpec("histogram", "Time from a poll to its good answer.", ("upstream",), "seconds"),
    upstream_answer_age_seconds=MetricSpec(
        "gauge",
        "Time since the last good answer, or since polling began. It grows as well while no job is polled.",
        ("upstream",),
        "seconds",
    ),
    sink_records=MetricSpec(
        "counter",
        "Records of a sink by outcome: delivered, coalesced (replaced by a later one), dropped, failed.",
        ("sink", "outcome"),
    ),
    sink_failures=MetricSpec("counter", "Records a sink failed on.", ("sink",)),
    sink_missed=MetricSpec("counter", "Records a sink did not get, or could not put out.", ("sink",)),
    sink_waiting=MetricSpec("gauge", "Records that wait in the queue of a sink.", ("sink",)),
    sink_lag=MetricSpec(
        "gauge",
        "Records between a sink and the newest one: in the journal if it is durable, else in its queue.",
        ("sink",),
    ),
    sink_quarantined=MetricSpec("gauge", "1 while a sink is set aside, because it kept failing; else 0.", ("sink",)),
    sink_slowest_seconds=MetricSpec(
        "gauge", "The longest time for which a sink has held the event loop.", ("sink",), "seconds"
    ),
    streams=MetricSpec("gauge", "Streams open now."),
    stream_states=MetricSpec(
        "gauge", "Streams by state: live, catching-up, or slow (the client reads too little).", ("state",)
    ),
    streams_opened=MetricSpec("counter", "Streams that were opened."),
    streams_refused=MetricSpec("counter", "Streams that were refused, since too many were open."),
    stream_skipped=MetricSpec(
        "counter", "Records left out of streams of slow clients; each stream has a notice of it."
    ),
    stream_gaps=MetricSpec("counter", "Gaps in streams: records that the journal no longer kept when they were due."),
    delivery_seconds=MetricSpec(
        "histogram",
        "Time from an upstream's answer to the write of what follows from it: one value a write to a group of streams.",
        unit="seconds",
    ),
    records=MetricSpec(
        "counter",
        "Records published in this epoch; at one of several nodes, those of all that it has read since its start.",
    ),
    journal_records=MetricSpec("gauge", "Records that the journal keeps."),
    journal_bytes=MetricSpec("gauge", "Size of the records that the journal keeps.", unit="bytes"),
    journal_waiting=MetricSpec("gauge", "Records that wait for the journal; many only while it cannot be written."),
    journal_blocked=MetricSpec("gauge", "1 while the journal cannot be written; else 0."),
    journal_commit_seconds=MetricSpec("histogram", "Time that a commit of records takes.", unit="seconds"),
    cluster_nodes=MetricSpec("gauge", "Nodes that are alive as this one sees it, this one included."),
    cluster_shards=MetricSpec("gauge", "Shards that this node owns, without those that it is about to hand over."),
    cluster_claims=MetricSpec("counter", "Shards that this node has claimed."),
    cluster_takeovers=MetricSpec("counter", "Shards that this node has claimed from an owner that had stopped."),
    cluster_longest_takeover_seconds=MetricSpec(
        "gauge",
        "The longest time from the last renewal of an owner that had stopped, as this node saw it, to the claim.",
        unit="seconds",
    ),
    cluster_hand_overs=MetricSpec("counter", "Shards that this node has handed over."),
    cluster_losses=MetricSpec("counter", "Shards that this node has lost without a hand-over."),
    cluster_fences=MetricSpec("counter", "Shards whose loss this node noticed by an append that was refused."),
    cluster_unanswered=MetricSpec("counter", "Requests about leases to the engine whose outcome is unknown."),
    cluster_renewal_age_seconds=MetricSpec(
        "gauge",
        "Time since the leases of this node were last renewed; behind two thirds of a lease it polls nothing.",
        unit="seconds",
    ),
    cluster_engine_problem=MetricSpec("gauge", "1 while this node cannot read the engine; else 0."),
    cluster_breaks=MetricSpec(
        "counter",
        "Times that each stream of this node got a gap, since the engine lost records or removed them too soon.",
    ),
    cluster_tail_age_seconds=MetricSpec(
        "gauge", "Time since the engine last answered a read of its streams; about a second at rest.", unit="seconds"
    ),
    http_troubles=MetricSpec("counter", "Requests that could not be read, or not be answered.", ("kind",)),
)
"""Every family by its name without `relay_`; those of `cluster_` are there for one of several nodes alone. Beside them,
`process_*` are those of prometheus_client."""
