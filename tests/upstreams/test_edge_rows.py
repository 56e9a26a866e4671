"""Cases of tests/edge_cases.toml about upstreams that no single part shows by itself."""

import asyncio
import json
import tomllib
from datetime import datetime, timedelta
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path

import pytest

from relay import Pace, Record, Relay
from relay.errors import UpstreamError
from relay.events import Done, Log, Progress
from relay.testing import ManualClock
from relay.upstreams import Sora
from relay.upstreams.http.client import HttpClient
from tests.relay.scripted import RUNNING, OneStep, story
from tests.upstreams.stub import Stub, reply

ROOT = Path(__file__).parents[2]


class Jumping(ManualClock):
    """A clock whose time of day can be set, as people and time servers do."""

    offset = timedelta(0)

    def now(self) -> datetime:
        return super().now() + self.offset


@pytest.mark.parametrize(
    "target", ["http://169.254.169.254/latest/meta-data", "https://elsewhere.example/", "//127.0.0.1/", "/jobs"]
)
async def test_row_14_a_redirect_is_refused_wherever_it_leads(target: str) -> None:
    async with (
        Stub(reply("", "302 Found", location=target)) as stub,
        HttpClient(stub.url, "token", upstream="test") as http,
    ):
        with pytest.raises(UpstreamError) as caught:
            await http.request("GET", "jobs")
    assert (caught.value.kind, stub.paths) == ("refused", ["/jobs"])


async def test_row_16_ten_thousand_pending_tasks_are_one_request_and_each_is_told_of() -> None:
    clock = ManualClock(auto=True)
    upstream = OneStep(lambda tasks: dict.fromkeys(tasks, RUNNING))
    told: set[str] = set()
    everybody = asyncio.Event()

    def note(record: Record) -> None:
        if isinstance(record.event, Progress):
            told.add(record.job)
            if len(told) == 10_000:
                everybody.set()

    async with Relay([upstream], sinks=[note], clock=clock, max_running=10_000) as relay:
        for number in range(10_000):
            relay.follow("scripted", f"t{number}")
        await everybody.wait()
    assert [len(tasks) for tasks in upstream.asked] == [10_000]


async def test_rows_8_and_17_what_is_odd_about_a_list_is_told_once_a_job_and_the_rule_decides() -> None:
    clock = ManualClock(auto=True)
    twice = '[{"id": "t", "status": "queued"}, {"id": "t", "status": "running", "progress_pct": 0.4}]'
    items = [{"task_id": "t", "kind": "sora_draft", "url": f"https://v/{number}.mp4"} for number in (1, 2)]
    drafts = reply(json.dumps({"items": items}))
    records: list[Record] = []
    over = asyncio.Event()

    def note(record: Record) -> None:
        records.append(record)
        if record.terminal:
            over.set()

    async with (
        Stub(reply(twice), reply(twice), reply(twice), reply("[]"), reply("[]"), drafts) as stub,
        Relay([Sora(stub.url, "token", clock=clock)], sinks=[note], clock=clock) as relay,
    ):
        relay.follow("sora", "t")
        await over.wait()

    assert [record.event.text for record in records if isinstance(record.event, Log)] == [
        "the list of pending tasks holds this task more than once; the last counts",
        "there is more than one draft of this task; the first counts",
    ]
    assert [record.event.level for record in records if isinstance(record.event, Log)] == ["warning"] * 2
    assert [record.event.percent for record in records if isinstance(record.event, Progress)][:3] == [40] * 3
    assert records[-1].event == Done(urls=("https://v/1.mp4",), media_types=("video/mp4",))


@pytest.mark.parametrize("hours", [1, -1])
async def test_row_18_a_clock_that_is_set_and_a_machine_that_slept_cause_no_burst(hours: int) -> None:
    clock = Jumping(auto=True)
    upstream = OneStep(story({"t": RUNNING}))
    times: list[float] = []

    async with Relay(
        [upstream],
        sinks=[lambda record: times.append(clock.monotonic()) if record.event.type == "checking" else None],
        clock=clock,
        paces={"scripted": Pace(interval=2.5, deadline=100_000)},
    ) as relay:
        relay.follow("scripted", "t")
        await clock.sleep(10)
        clock.offset += timedelta(hours=hours)
        await clock.sleep(10)
        # The machine sleeps: every clock has gone on, and nobody was woken.
        clock._elapsed += 3_600
        await clock.sleep(10)

    assert all(later - earlier >= 2.5 for earlier, later in pairwise(times))
    assert 10 <= len(times) <= 14


def test_row_20_an_aiohttp_whose_parser_reads_out_of_bounds_cannot_be_installed() -> None:
    requirements = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert "aiohttp>=3.14.3" in requirements
    assert tuple(int(part) for part in version("aiohttp").split(".")[:3]) >= (3, 14, 3)
