"""The page and an element, while the journal of a cluster begins anew under their open stream."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import NamedTuple

import pytest
from playwright.async_api import expect

from relay import Job
from tests.browser.house import Server
from tests.browser.visit import Visit
from tests.cluster.house import cluster
from tests.web.nodes import INTERVAL, Served
from web.streaming.keys import STREAMS

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

MISSING = "Records are missing here: the relay was started anew, or keeps them no longer"


class Scene(NamedTuple):
    """Two nodes: the page is one's, and the job is polled by the other."""

    one: Served
    server: Server
    job: Job

    def opened(self) -> int:
        return self.server.app[STREAMS].counts.opened


@asynccontextmanager
async def scene() -> AsyncGenerator[Scene]:
    async with cluster(2) as nodes:
        here, there = nodes.houses
        server = Server(here.relay)
        await server.start()
        try:
            job = await there.relay.requests.follow("single", "t")
            one = Served(nodes, here, server.app, None)  # type: ignore[arg-type]
            await nodes.advance(INTERVAL)
            one.say(job, "before")
            await nodes.advance(0.1)
            yield Scene(one, server, job)
        finally:
            await server.stop()


async def test_the_page_shows_what_is_so_in_a_new_epoch_over_the_stream_that_it_has(visitor: Visit) -> None:
    async with scene() as (one, server, job):
        await visitor.page.goto(server.url)
        await visitor.live()
        card = visitor.card(job.id)
        await expect(card.locator(".text")).to_have_text("before")
        await one.all_live(1)
        await one.lose()
        await expect(visitor.page.locator("#lines .note", has_text=MISSING).first).to_be_visible()
        one.say(job, "behind")
        await one.nodes.advance(0.1)
        await expect(card.locator(".text")).to_have_text("behind")
        await expect(card.locator(".status")).to_have_text(job.state.status)
        await expect(visitor.page.locator("#connection")).to_have_text("Live")
        assert server.app[STREAMS].counts.opened == 1
    assert visitor.complaints == []


async def test_what_the_page_shows_and_no_node_has_any_more_gives_way_to_what_is_so(visitor: Visit) -> None:
    """The owner carries over an older state than the page shows: its next record has a number that the page knows."""
    async with scene() as (one, server, job):
        owner = one.nodes.owner(job)
        await visitor.page.goto(server.url)
        await visitor.live()
        await visitor.card(job.id).locator(".focus").click()
        shown = [visitor.card(job.id).locator(".text"), visitor.page.locator("relay-progress [part=text]")]
        one.gates(owner).tail.close()
        for _ in range(50):
            one.say(job, "lost with the engine")
        await one.nodes.advance(0.1)
        for place in shown:
            await expect(place).to_have_text("lost with the engine")
        seq = one.house.job(job).state.seq
        owner.relay.bus.withdraw(owner.job(job))
        one.engine.flush()
        one.gates(owner).tail.open()
        await one.lose()
        one.say(job, "another story")
        await one.nodes.advance(0.1)
        assert one.house.job(job).state.seq < seq
        for place in shown:
            await expect(place).to_have_text("another story")
    assert visitor.complaints == []
