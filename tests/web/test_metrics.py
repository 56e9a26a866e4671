"""`/metrics`: every figure of the table, in both formats, each sample once, and equal to what has happened."""

import asyncio
import subprocess
from collections import Counter
from collections.abc import Sequence
from shutil import which
from typing import Any

import pytest
from aiohttp import ClientSession
from aiohttp.web import Application
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_prometheus

from relay import Done, Log, MemoryJournal, Position, Record, Relay, Retention
from relay.errors import UpstreamError
from relay.testing import ManualClock
from tests.relay.scripted import RUNNING, TwoStep, story
from tests.web.serving import serve, serve_app
from web import create_app
from web.metric_table import METRICS
from web.streaming.fanout import FanOut
from web.streaming.keys import STREAMS
from web.streaming.selection import Selection
from web.streaming.wire import SSE

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
FOLLOW = {"upstream": "scripted", "task": "t"}


class Figures:
    """One scrape: its families, and its samples by name and labels."""

    def __init__(self, families: Sequence[Metric]) -> None:
        self.families = {family.name: family for family in families}
        self.samples = [
            (sample.name, tuple(sorted(sample.labels.items())), sample.value)
            for family in families
            for sample in family.samples
        ]

    def __getitem__(self, key: Any) -> float:
        name, labels = key if isinstance(key, tuple) else (key, {})
        wanted = (f"relay_{name}", tuple(sorted(labels.items())))
        (value,) = [value for *known, value in self.samples if tuple(known) == wanted]
        return value

    def by(self, name: str, label: str) -> dict[str, float]:
        """The values of a family by one of its labels."""
        return {dict(labels)[label]: value for known, labels, value in self.samples if known == f"relay_{name}"}


async def scrape(client: ClientSession, accept: str = OPENMETRICS) -> Figures:
    async with client.get("/metrics", headers={"Accept": accept}) as response:
        assert response.status == 200
        text = await response.text()
        read = read_openmetrics if response.content_type.endswith("openmetrics-text") else read_prometheus
        return Figures(list(read(text)))


def busy_relay(*replies: Any) -> tuple[Relay, ManualClock]:
    clock = ManualClock()
    return Relay([TwoStep(story(*replies))], sinks=[nothing], clock=clock), clock


def nothing(record: Record) -> None: ...


@pytest.mark.parametrize("accept", [OPENMETRICS, "text/plain", "*/*", ""])
async def test_every_metric_of_the_table_is_there_with_its_type_and_no_sample_twice(accept: str) -> None:
    relay, _ = busy_relay({"t": RUNNING})
    async with serve(relay) as client:
        await client.post("/v1/jobs", json=FOLLOW)
        async with client.get("/v1/events") as stream:
            await stream.content.readuntil(b"event: progress")
            figures = await scrape(client, accept)

    ours = {name: family for name, family in figures.families.items() if name.startswith("relay_")}
    # The older format has no type of its own for it.
    known = {spec.name: spec.kind for key, spec in METRICS.items() if not key.startswith("cluster_")}
    if "openmetrics" not in accept:
        known["relay_build_info"] = known.pop("relay_build")
        known["relay_build_info"] = "gauge"
    assert {name: family.type for name, family in ours.items()} == known
    assert all(family.documentation for family in ours.values())
    assert all(family.samples for family in ours.values()), "a label that never has a value is a mistake"
    assert [key for key, count in Counter(sample[:2] for sample in figures.samples).items() if count > 1] == []
    assert {"process_open_fds", "process_resident_memory_bytes"} <= figures.families.keys()


@pytest.mark.skipif(which("promtool") is None, reason="promtool is not installed (Debian: prometheus)")
async def test_promtool_finds_nothing_wrong_with_names_types_and_help() -> None:
    relay, _ = busy_relay({"t": RUNNING})
    async with serve(relay) as client:
        await client.post("/v1/jobs", json=FOLLOW)
        async with client.get("/metrics") as response:
            text = await response.read()
    checked = await asyncio.to_thread(
        subprocess.run, ["promtool", "check", "metrics"], input=text, capture_output=True, check=False
    )

    assert (checked.returncode, checked.stdout + checked.stderr) == (0, b"")


def test_names_end_with_their_base_unit() -> None:
    for spec in METRICS.values():
        assert spec.unit in ("", "seconds", "bytes")
        assert spec.name.endswith(f"_{spec.unit}") or not spec.unit
        assert not spec.name.endswith(("_total", "_ms", "_milliseconds", "_kilobytes"))
        assert spec.help.endswith(".")


async def test_polls_are_counted_by_outcome_and_kind_of_error() -> None:
    refused, limited = UpstreamError("auth", "no"), UpstreamError("rate-limit", "later", retry_after=1.0)
    relay, clock = busy_relay({"t": RUNNING}, limited, refused, {"t": RUNNING})
    async with serve(relay) as client:
        await client.post("/v1/jobs", json=FOLLOW)
        while relay.pollers()["scripted"].counts.answered < 2:
            await clock.advance(1.0)
        figures = await scrape(client)

    labels = {"upstream": "scripted"}
    assert figures["upstream_polls_total", {**labels, "outcome": "failed", "kind": "rate-limit"}] == 1
    assert figures["upstream_polls_total", {**labels, "outcome": "failed", "kind": "auth"}] == 1
    answered = figures["upstream_polls_total", {**labels, "outcome": "answered", "kind": ""}]
    assert answered == figures["upstream_poll_seconds_count", labels] >= 2
    assert figures["upstream_jobs", {**labels, "status": "running"}] == 1


async def test_the_age_of_the_last_good_answer_grows_until_the_next_one() -> None:
    relay, clock = busy_relay({"t": RUNNING}, UpstreamError("network", "away"))
    async with serve(relay) as client:
        await client.post("/v1/jobs", json=FOLLOW)
        counts = relay.pollers()["scripted"].counts
        while not counts.answered:
            await clock.advance(0.5)
        answered = clock.monotonic() - counts.age(clock.monotonic())
        await clock.advance(90.0)
        ages = (await scrape(client)).by("upstream_answer_age_seconds", "upstream")

    assert ages == {"scripted": pytest.approx(clock.monotonic() - answered)}
    assert ages["scripted"] >= 90.0


async def test_a_delay_is_measured_from_the_answer_to_the_write_to_a_group_of_streams() -> None:
    class Member:
        fd, slow, reached = -1, False, Position("none", 0)

        def __init__(self) -> None:
            self.written: list[bytes] = []

        def write(self, data: bytes, /) -> None:
            self.written.append(data)

        def keep(self, rest: memoryview) -> None: ...

        def wake(self) -> None: ...

        def finish(self) -> None: ...

    clock = ManualClock()
    async with Relay([], clock=clock) as relay:
        fan_out, member, job = FanOut(relay.bus, 3_600.0, now=clock.monotonic), Member(), relay.registry.admit()
        group = fan_out.join_group(member, SSE, "debug", Selection(None), chunked=False)
        relay.bus.publish(job, Log(line="of nobody's answer"))
        group.flush()
        assert (fan_out.delays.total, len(member.written)) == (0.0, 1), "it was written, and is no delay"
        answered = clock.monotonic()
        relay.bus.publish(job, Log(line="no answer"))
        relay.bus.publish(job, Log(line="first"), answered=answered - 0.02)
        relay.bus.publish(job, Log(line="second"), answered=answered)
        group.flush()
        group.leave(member)

    assert fan_out.delays.total == pytest.approx(0.02), "one value a write: that of the first answer in it"
    assert dict(fan_out.delays.buckets())[float("inf")] == 1
    assert relay.bus.answered is None


async def test_what_follows_from_an_answer_carries_its_time_to_the_streams() -> None:
    relay, _ = busy_relay({"t": RUNNING})
    async with serve(relay) as client, client.get("/v1/events") as stream:
        await client.post("/v1/jobs", json=FOLLOW)
        while not (await scrape(client))["delivery_seconds_count"]:
            await stream.content.readany()
        figures = await scrape(client)

    assert figures["delivery_seconds_count"] >= 1
    assert figures["streams_opened_total"] == 1


async def test_streams_are_counted_by_state_and_by_what_they_lost() -> None:
    relay = Relay([], clock=ManualClock(), journal=MemoryJournal(Retention(records=3)))
    app = create_app(relay, max_streams=2)
    async with serve_app(app) as client:
        job = relay.registry.admit()
        for number in range(6):
            relay.bus.publish(job, Log(line=f"{number}"))
        async with client.get("/v1/events") as whole, client.get("/v1/events", headers=at(relay, 1)) as late:
            await late.content.readuntil(b"event: snapshot")
            await whole.content.readuntil(b"\n\n")
            await all_live(app, 2)
            async with client.get("/v1/events") as busy:
                assert b"event: busy" in await busy.read()
            figures = await scrape(client)

    assert figures.by("stream_states", "state") == {"live": 2, "catching-up": 0, "slow": 0}
    assert (figures["streams"], figures["streams_opened_total"], figures["streams_refused_total"]) == (2, 2, 1)
    assert figures["stream_gaps_total"] >= 1
    assert figures["stream_skipped_total"] == 0


def at(relay: Relay, offset: int) -> dict[str, str]:
    return {"Last-Event-ID": f"{relay.journal.epoch}-{offset}"}


async def all_live(app: Application, number: int) -> None:
    """Wait until that many streams are up to date."""
    while [stream.state for stream in app[STREAMS]] != ["live"] * number:  # noqa: ASYNC110 - no event says it
        await asyncio.sleep(0)


async def test_the_journal_counts_records_bytes_and_commits() -> None:
    journal = MemoryJournal(Retention(records=2))
    relay = Relay([], clock=ManualClock(), journal=journal)
    async with serve(relay) as client:
        job = relay.registry.admit()
        for number in range(3):
            relay.bus.publish(job, Log(line=f"{number}"))
        relay.bus.publish(job, Done())
        figures = await scrape(client)

    assert (figures["records_total"], figures["journal_records"]) == (4, 2)
    assert figures["journal_bytes"] == journal.kept.bytes > 0
    assert figures["journal_commit_seconds_count"] == 4
    assert (figures["journal_waiting"], figures["journal_blocked"]) == (0, 0)


async def test_a_sink_has_its_records_by_outcome_and_its_quarantine() -> None:
    def raises(record: Record) -> None:
        raise ValueError("no")

    relay = Relay([], sinks=[nothing, raises], clock=ManualClock(), notify=lambda _: None)
    async with serve(relay) as client:
        job = relay.registry.admit()
        for number in range(7):
            relay.bus.publish(job, Log(line=f"{number}"))
        figures = await scrape(client)

    good, bad = figures.by("sink_lag", "sink")
    outcomes = ("delivered", "coalesced", "dropped", "failed")
    assert [figures["sink_records_total", {"sink": good, "outcome": what}] for what in outcomes] == [7, 0, 0, 0]
    assert [figures["sink_records_total", {"sink": bad, "outcome": what}] for what in outcomes] == [0, 0, 2, 5]
    assert figures.by("sink_quarantined", "sink") == {good: 0, bad: 1}
    assert figures.by("sink_failures_total", "sink") == {good: 0, bad: 5}
    assert figures.by("sink_missed_total", "sink") == {good: 0, bad: 7}
