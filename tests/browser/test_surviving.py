"""A stream in a browser goes on through whatever lies between it and the relay: nothing lost, nothing twice."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from playwright.async_api import Browser

from relay import Relay
from relay.events import Log
from relay.testing import ManualClock
from sinks import notice_frame
from tests.browser.elsewhere import plain_page, served
from tests.browser.house import House, life, open_house
from tests.browser.proxy import Proxy, open_proxy
from tests.browser.watcher import FAST, NO_LOCKS, NO_WORKER, Tabs, lines, only, tabs

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

MUTE = {**FAST, "heartbeat": 100}


class Scene(NamedTuple):
    house: House
    proxy: Proxy
    tabs: Tabs


@asynccontextmanager
async def scene(browser: Browser, script: str = "") -> AsyncGenerator[Scene]:
    async with open_house() as house, open_proxy(house) as proxy, tabs(browser, script) as some:
        yield Scene(house, proxy, some)


ways = pytest.mark.parametrize(
    "script", [pytest.param("", id="worker"), pytest.param(NO_WORKER, id="locks"), pytest.param(NO_LOCKS, id="alone")]
)


@ways
async def test_while_the_line_is_cut_nothing_is_lost_or_repeated(browser: Browser, script: str) -> None:
    async with scene(browser, script) as (house, proxy, some):
        house.play("happy", "gap")
        tab = await some.open(proxy)
        await tab.watch()
        await house.clock.advance(10)
        await tab.heard(house.relay.journal.head)
        await proxy.cut()
        await tab.is_in("lost")
        await house.clock.advance(10)
        await proxy.start()
        await house.clock.advance(60)
        await tab.heard(house.relay.journal.head)
        assert await tab.story() == lines(house.relay)
        assert await tab.notices() == []
        assert await tab.states() == ["connecting", "live", "connecting", "lost", "live"]


@ways
async def test_a_relay_that_is_restarted_on_its_journal_goes_on_with_the_story(
    browser: Browser, script: str, tmp_path: Path
) -> None:
    journal = tmp_path / "relay.db"
    async with scene(browser, script) as (house, proxy, some):
        async with life(house, journal) as relay:
            relay.follow("sora", house.upstream.add_task("happy"))
            tab = await some.open(proxy)
            await tab.watch()
            await house.clock.advance(20)
            await tab.heard(relay.journal.head)
        async with life(house, journal) as relay:
            await house.clock.advance(40)
            await tab.heard(relay.journal.head)
            told = lines(relay)
        assert await tab.story() == told
        assert told[-1].text == "done, 1 file (video/mp4)"
        assert {notice["type"] for notice in await tab.notices()} <= {"bye"}


async def test_a_browser_that_was_offline_catches_up(browser: Browser) -> None:
    async with scene(browser, NO_WORKER) as (house, proxy, some):
        [job] = house.play("never-finishes")
        tab = await some.open(proxy)
        await tab.watch(timing={"retry": 60_000, "longest": 120_000})
        await house.clock.advance(10)
        await tab.heard(house.relay.journal.head)
        await some.context.set_offline(True)
        await proxy.cut(refuse=False)
        for number in range(50):
            house.relay.bus.publish(job, Log(line=f"while you were away, {number}"))
        await tab.is_in("connecting")
        await some.context.set_offline(False)
        await tab.heard(house.relay.journal.head)
        assert await tab.story() == lines(house.relay)


async def test_refusals_of_a_proxy_are_told_and_do_not_end_the_story(browser: Browser) -> None:
    async with scene(browser) as (house, proxy, some):
        house.play("happy")
        refusals = [
            (502, {}),
            (503, {"Retry-After": "soon"}),
            (401, {}),
            (429, {"Retry-After": "0"}),
            (404, {}),
            (200, {}),
        ]
        proxy.refusals.extend(refusals)
        tab = await some.open(proxy)
        await tab.watch()
        await house.clock.advance(60)
        await tab.heard(house.relay.journal.head)
        assert await tab.story() == lines(house.relay)
        assert [notice["status"] for notice in await tab.notices()] == [status for status, _ in refusals]
        assert await tab.states() == ["connecting", "lost", "live"]
        proxy.refusals.append((502, {}))
        await proxy.cut(refuse=False)
        house.play("happy")
        await house.clock.advance(60)
        await tab.heard(house.relay.journal.head)
        assert await tab.story() == lines(house.relay)
        assert proxy.resumed == [None] * 7 + proxy.resumed[-1:] * 2
        assert proxy.resumed[-1] is not None


async def test_a_204_while_a_job_runs_does_not_end_its_stream(browser: Browser) -> None:
    """A session had ended, and another tab has signed in again."""
    async with scene(browser) as (house, proxy, some):
        [job] = house.play("happy")
        proxy.refusals.append((204, {}))
        tab = await some.open(proxy)
        await tab.watch([job.id])
        await tab.heard(1)
        await house.clock.advance(60)
        await tab.is_in("ended")
        assert await tab.story() == lines(house.relay)
        assert await tab.states() == ["connecting", "lost", "live", "ended"]


@pytest.mark.parametrize(("foreign", "status"), [(False, 200), (True, 0)], ids=["same origin", "another origin"])
async def test_a_login_at_a_proxy_that_has_expired_is_told_from_a_relay_that_is_away(
    foreign: bool, status: int, browser: Browser
) -> None:
    async with scene(browser) as (house, proxy, some), served(plain_page()) as elsewhere:
        house.play("happy")
        proxy.login = elsewhere if foreign else "/shop"
        tab = await some.open(proxy)
        await tab.watch()
        assert await tab.was_told("refused") == {"type": "refused", "status": status, "redirected": True}
        assert "denied" not in await tab.states()
        proxy.login = None
        await house.clock.advance(60)
        await tab.heard(house.relay.journal.head)
        assert await tab.story() == lines(house.relay)


async def test_a_relay_that_asks_to_come_back_later_is_obeyed_and_no_cursor_is_lost(browser: Browser) -> None:
    async with scene(browser) as (house, proxy, some):
        house.play("never-finishes")
        await house.clock.advance(10)
        for word in ("busy", "bye"):
            proxy.instead.append(notice_frame(word, {"reason": "not now"}, "0-0", retry=1_000))
        tab = await some.open(proxy)
        # Only by what the relay asks for does it come back in time.
        await tab.watch(timing={"retry": 600_000, "longest": 600_000})
        await tab.heard(house.relay.journal.head)
        assert await tab.story() == lines(house.relay)
        assert await tab.states() == ["connecting", "busy", "closing", "live"]
        assert [notice["type"] for notice in await tab.notices()] == ["busy", "bye"]
        assert proxy.resumed == [None] * 3


async def test_a_stream_that_repeats_itself_is_heard_once(browser: Browser) -> None:
    async with scene(browser) as (house, proxy, some):
        house.play("happy", "violation")
        await house.clock.advance(20)
        proxy.mode = "twice"
        tab = await some.open(proxy)
        await tab.watch()
        await house.clock.advance(60)
        await tab.heard(house.relay.journal.head)
        assert await tab.story() == lines(house.relay)


async def test_a_stream_that_is_held_back_is_replaced_by_asking_until_it_flows_again(browser: Browser) -> None:
    async with scene(browser) as (house, proxy, some):
        [job] = house.play("never-finishes")
        await house.clock.advance(10)
        proxy.mode = "mute"
        tab = await some.open(proxy)
        await tab.watch(timing=MUTE)
        await tab.is_in("polling")
        assert len(proxy.resumed) >= 2
        state = await tab.was_told("snapshot")
        assert (state["polled"], [(one["job"], one["seq"]) for one in state["jobs"]]) == (
            True,
            [(job.id, job.state.seq)],
        )
        assert await tab.story() == []
        proxy.mode = "pass"
        await tab.is_in("live")
        await house.clock.advance(10)
        await tab.heard(house.relay.journal.head)
        assert await tab.story() == lines(house.relay)


async def test_a_live_stream_that_falls_silent_is_dropped_and_resumed(browser: Browser) -> None:
    async with scene(browser) as (house, proxy, some):
        house.play("never-finishes")
        tab = await some.open(proxy)
        # The relay's own heartbeat is 15 s: to this client, that is silence.
        await tab.watch(timing=MUTE)
        await tab.heard(house.relay.journal.head)
        # On a busy machine, connections may have been given up before the first record came.
        before = len(proxy.resumed)
        await tab.is_in("live")
        await tab.is_in("polling")
        await tab.is_in("live")
        await house.clock.advance(10)
        await tab.heard(house.relay.journal.head)
        assert await tab.story() == lines(house.relay)
        assert proxy.resumed[0] is None
        assert proxy.resumed[-1] is not None
        assert None not in proxy.resumed[before:]


async def test_silence_is_measured_by_the_heartbeat_the_relay_says_it_has(browser: Browser) -> None:
    async with scene(browser) as (house, proxy, some):
        house.play("never-finishes")
        await house.clock.advance(10)
        await house.server.stop()
        house.server.heartbeat = 0.2
        await house.server.start()
        proxy.mode = "stall"
        tab = await some.open(proxy)
        await tab.watch()
        await tab.is_in("live")
        # Without the relay's word for it, silence would be 30 s.
        async with asyncio.timeout(20):
            await tab.is_in("lost")
        proxy.mode = "pass"
        await house.clock.advance(10)
        await tab.heard(house.relay.journal.head)
        assert await tab.story() == lines(house.relay)


async def test_a_relay_that_was_started_anew_is_said_to_have_lost_the_past(browser: Browser) -> None:
    async with scene(browser) as (house, proxy, some):
        house.play("never-finishes")
        tab = await some.open(proxy)
        await tab.watch()
        await tab.heard(house.relay.journal.head)
        position = str(list(house.relay.journal.read(0))[-1].position)
        async with Relay([], clock=ManualClock()) as anew:
            await house.server.stop()
            house.server.relay = anew
            await house.server.start()
            gap = await tab.was_told("gap")
            assert gap == {"type": "gap", "from": position, "to": f"{anew.journal.epoch}-0", "missed": None}
            assert (await tab.was_told("snapshot"))["jobs"] == []
            await house.server.stop()


async def test_a_stream_of_named_jobs_ends_with_the_last_of_them_and_leaves_no_connection(browser: Browser) -> None:
    async with scene(browser) as (house, proxy, some):
        first, second, _ = house.play("happy", "violation", "never-finishes")
        tab = await some.open(proxy)
        await tab.watch([first.id, second.id], timing={})
        await house.clock.advance(60)
        await tab.is_in("ended")
        assert await tab.story() == lines(house.relay, first.id, second.id)
        assert proxy.resumed == [None]
        assert await only(house.server, 0) == 0
        await tab.watch([first.id, second.id])
        await tab.is_in("ended")
        assert await tab.story() == lines(house.relay, first.id, second.id)


async def test_an_unknown_job_is_said_to_be_gone_and_the_others_go_on(browser: Browser) -> None:
    async with scene(browser) as (house, proxy, some):
        [job] = house.play("happy")
        tab = await some.open(proxy)
        await tab.watch(["job_nobody_knows", job.id, "job_nor_this"])
        await house.clock.advance(60)
        await tab.is_in("ended")
        assert await tab.story() == lines(house.relay, job.id)
        assert await tab.notices() == [
            {"type": "gone", "job": "job_nobody_knows"},
            {"type": "gone", "job": "job_nor_this"},
        ]


@pytest.mark.parametrize("level", ["info", "warning", "error"])
async def test_a_level_leaves_out_what_is_below_it_but_no_end(browser: Browser, level: str) -> None:
    async with scene(browser) as (house, proxy, some):
        [job] = house.play("unauthorised")
        tab, other = await some.open(proxy), await some.open(proxy)
        await other.watch()
        await tab.watch([job.id], level=level)
        await house.clock.advance(120)
        assert job.ended
        await tab.is_in("ended")
        order = ["debug", "info", "warning", "error"]
        wanted = [
            (record.job, record.seq, record.event.text)
            for record in house.relay.journal.read(0)
            if record.terminal or order.index(record.event.level) >= order.index(level)
        ]
        assert await tab.story() == wanted
        await other.heard(house.relay.journal.head)
        assert await other.story() == lines(house.relay)


async def test_a_stream_of_a_level_goes_on_behind_what_it_passed_over(browser: Browser) -> None:
    """Else each reconnection would go through every debug record again."""
    async with open_house() as house, open_proxy(house) as proxy, tabs(browser) as some:
        [job] = house.play("never-finishes")
        await house.clock.advance(20)
        await house.server.stop()
        house.server.heartbeat = 0.05
        await house.server.start()
        tab = await some.open(proxy)
        # The client is patient, as a busy machine may be late with heartbeats that are so close together.
        await tab.watch(level="warning", timing={**FAST, "heartbeat": 30_000})
        await tab.is_in("live")
        for number in range(100):
            house.relay.bus.publish(job, Log(line=f"line {number}", severity="debug"))
        position = f"{house.relay.journal.epoch}-{house.relay.journal.head}"
        await tab.page.evaluate(
            "until => new Promise(go => setInterval(() => stream.position === until && go(), 10))", position
        )
        await proxy.cut(refuse=False)
        house.relay.bus.publish(job, Log(line="a warning", severity="warning"))
        await tab.heard(1)
        assert proxy.resumed[-1] == position
