"""The client's tokens: asked for in the tab, used by the worker, renewed in time, and shared with nobody else."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import NamedTuple

import pytest
from msgspec.structs import replace
from playwright.async_api import Browser, BrowserContext

from relay import Job
from relay.events import Log
from tests.browser.house import House, open_house
from tests.browser.native import plain
from tests.browser.proxy import open_proxy
from tests.browser.watcher import NO_WORKER, Watcher, agree, lines, only
from tests.web.access.keys import ANN, BOB, SETTINGS, bearer
from web.access.guard import GUARD

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

WRONG = "rlk_wrong-0123456789-0123456789-0123456"

ways = pytest.mark.parametrize("script", [pytest.param("", id="worker"), pytest.param(NO_WORKER, id="locks")])


class Scene(NamedTuple):
    house: House
    context: BrowserContext

    async def tab(self) -> Watcher:
        return Watcher(await plain(await self.context.new_page(), self.house))

    def link(self, job: Job, seconds: int) -> str:
        """A token that reads *job* and expires."""
        return self.house.server.app[GUARD].signer.sign_watch(job.id, int(self.house.clock.now().timestamp()) + seconds)


@asynccontextmanager
async def scene(browser: Browser, script: str = "") -> AsyncGenerator[Scene]:
    async with open_house(access=SETTINGS) as house, await browser.new_context() as context:
        await context.add_init_script(script)
        yield Scene(house, context)


@ways
async def test_before_a_token_expires_the_stream_goes_on_with_another_without_a_gap(
    browser: Browser, script: str
) -> None:
    async with scene(browser, script) as here:
        [job] = here.house.play("never-finishes")

        def say(when: str) -> None:
            for number in range(100):
                here.house.relay.bus.publish(job, Log(line=f"{when}, {number}"))

        async def give(count: int) -> str:
            say(f"while token {count} was asked for")
            return here.link(job, 50 if count == 1 else 3_600)

        tab = await here.tab()
        asked = await tab.proves_itself(give)
        await tab.watch([job.id])
        await tab.heard(201)
        await tab.page.evaluate("new Promise((resolve) => setTimeout(resolve))")
        say("at the end")
        await agree(tab, here.house.relay)
        assert asked == [{"jobs": [job.id], "fresh": False}, {"jobs": [job.id], "fresh": True}]
        assert await tab.notices() == [{"type": "expiring", "expires": "2026-01-01T00:00:50Z"}]
        assert await tab.states() == ["connecting", "live"]
        assert await only(here.house.server, 1) == 1


async def test_a_token_that_stays_the_same_is_used_until_its_end(browser: Browser) -> None:
    async with scene(browser) as here:
        [job] = here.house.play("never-finishes")
        second = asyncio.Event()

        async def give(count: int) -> str:
            if count == 2:
                second.set()
            return here.link(job, 50)

        tab = await here.tab()
        asked = await tab.proves_itself(give)
        await tab.watch([job.id])
        await second.wait()
        here.house.relay.bus.publish(job, Log(line="still here"))
        await agree(tab, here.house.relay)
        assert [how["fresh"] for how in asked] == [False, True]
        assert await only(here.house.server, 1) == 1
        here.house.server.app[GUARD].revoke(subject=f"watch:{job.id}")
        await tab.is_in("denied")
        assert await tab.states() == ["connecting", "live", "connecting", "denied"]


async def test_a_token_that_is_refused_is_asked_for_once_more(browser: Browser) -> None:
    async with scene(browser) as here:
        here.house.play("never-finishes", owner="key:ann")

        async def give(count: int) -> str:
            return WRONG if count == 1 else ANN

        tab = await here.tab()
        asked = await tab.proves_itself(give)
        await tab.watch()
        await tab.heard(1)
        assert [how["fresh"] for how in asked] == [False, True]
        assert (await tab.notices(), await tab.states()) == ([], ["connecting", "live"])


@pytest.mark.parametrize(
    ("given", "asked_for"),
    [
        pytest.param([WRONG, f"{WRONG}-too"], 2, id="two wrong ones"),
        pytest.param([WRONG, WRONG], 2, id="the same again"),
        pytest.param([None], 1, id="none"),
    ],
)
async def test_a_stream_is_denied_until_there_is_another_token(
    given: list[str | None], asked_for: int, browser: Browser
) -> None:
    async with scene(browser) as here:
        here.house.play("never-finishes", owner="key:ann")

        async def give(count: int) -> str | None:
            return given[count - 1]

        tab = await here.tab()
        asked = await tab.proves_itself(give)
        await tab.watch()
        await tab.is_in("denied")
        assert (await tab.notices(), await tab.states()) == (
            [{"type": "refused", "status": 401}],
            ["connecting", "denied"],
        )
        assert len(asked) == asked_for
        await tab.page.evaluate("token => { stream.token = token }", ANN)
        await agree(tab, here.house.relay)


async def test_a_token_that_does_not_allow_to_read_is_denied_with_its_status(browser: Browser) -> None:
    submitter = replace(SETTINGS.keys[0], scopes="jobs:submit")
    async with (
        open_house(access=replace(SETTINGS, keys=(submitter,))) as house,
        await browser.new_context() as context,
    ):
        tab = Watcher(await plain(await context.new_page(), house))
        await tab.page.evaluate("token => { window.proof = { token } }", ANN)
        await tab.watch()
        await tab.is_in("denied")
        assert await tab.notices() == [{"type": "refused", "status": 403}]


async def test_a_function_that_fails_is_called_again_later(browser: Browser) -> None:
    async with scene(browser) as here:
        here.house.play("never-finishes", owner="key:ann")

        async def give(count: int) -> str:
            if count < 3:
                raise ConnectionError("the session of the application cannot be reached")
            return ANN

        tab = await here.tab()
        asked = await tab.proves_itself(give)
        await tab.watch()
        await tab.heard(1)
        assert len(asked) == 3
        assert (await tab.notices(), await tab.states()) == ([], ["connecting", "lost", "live"])


@ways
async def test_streams_with_other_tokens_share_no_connection_and_see_their_own_jobs(
    browser: Browser, script: str
) -> None:
    async with scene(browser, script) as here:
        [of_ann] = here.house.play("never-finishes", owner="key:ann")
        [of_bob] = here.house.play("never-finishes", owner="key:bob")
        tabs = []
        for token in (ANN, BOB, ANN):
            tab = await here.tab()
            await tab.page.evaluate("token => { window.proof = { token } }", token)
            await tab.watch()
            tabs.append(tab)
        for job in (of_ann, of_bob):
            for number in range(20):
                here.house.relay.bus.publish(job, Log(line=f"{job.id}, {number}"))
        for tab, job in zip(tabs, (of_ann, of_bob, of_ann), strict=True):
            await agree(tab, here.house.relay, job.id)
        assert await only(here.house.server, 2) == 2


@ways
async def test_the_tabs_of_one_user_share_a_connection_and_another_tab_is_asked_when_one_closes(
    browser: Browser, script: str
) -> None:
    async with scene(browser, script) as here:
        [job] = here.house.play("never-finishes", owner="key:ann")

        async def give(_: int) -> str:
            return ANN

        first, second = await here.tab(), await here.tab()
        asked = [await tab.proves_itself(give, user="ann") for tab in (first, second)]
        for tab in (first, second):
            await tab.watch()
            await tab.heard(len(lines(here.house.relay)))
        assert await only(here.house.server, 1) == 1
        before = len(asked[1])
        # The turn of the other one comes while the relay is away, so that nothing more can be loaded.
        await second.page.route("**/relay-worker.js", lambda route: route.abort())
        await first.page.close()
        await here.house.server.stop()
        await here.house.server.start()
        await second.is_in("live")
        here.house.relay.bus.publish(job, Log(line="after the first tab"))
        await agree(second, here.house.relay)
        assert len(asked[1]) > before


async def test_a_token_that_is_a_text_ends_with_its_access(browser: Browser) -> None:
    async with scene(browser) as here:
        [job] = here.house.play("never-finishes")
        tab = await here.tab()
        await tab.page.evaluate("token => { window.proof = { token } }", here.link(job, 3_600))
        await tab.watch([job.id])
        await tab.heard(len(lines(here.house.relay)))
        here.house.server.app[GUARD].revoke(subject=f"watch:{job.id}")
        await tab.is_in("denied")
        assert await tab.notices() == [
            {"type": "denied", "reason": "the access to this stream was withdrawn"},
            {"type": "refused", "status": 401},
        ]
        assert await only(here.house.server, 0) == 0


async def test_a_session_that_has_ended_is_told_from_jobs_that_have(browser: Browser) -> None:
    """Both are answered 204."""
    async with scene(browser) as here:
        [job] = here.house.play("happy", owner="key:ann")
        [other] = here.house.play("never-finishes", owner="key:ann")
        page = await plain(await here.context.new_page(), here.house)
        await page.evaluate("headers => fetch('/v1/session', { method: 'POST', headers })", bearer(ANN))
        token, session = await here.tab(), Watcher(page)
        # All that this token sees is one job, which the stream does not know.
        await token.page.evaluate("token => { window.proof = { token } }", here.link(job, 3_600))
        await token.watch()
        await session.watch([other.id])
        await session.heard(1)
        await here.house.clock.advance(60)
        await token.is_in("ended")
        await agree(token, here.house.relay, job.id)
        here.house.server.app[GUARD].revoke(subject="key:ann")
        await session.is_in("denied")
        assert [notice["type"] for notice in await session.notices()] == ["denied"]


async def test_calls_carry_the_token_and_ask_once_more_where_it_is_refused(browser: Browser) -> None:
    async with scene(browser) as here:
        [job] = here.house.play("never-finishes", owner="key:ann")

        async def give(count: int) -> str:
            return ANN if count % 2 == 0 else WRONG

        tab = await here.tab()
        asked = await tab.proves_itself(give)
        shown, cancelled, created = await tab.page.evaluate(
            """async ([job, task]) => {
              const { show, cancel, create } = await import("/static/relay.js");
              const how = window.proof;
              const shown = await show(job, how);
              const cancelled = await cancel(job, how);
              return [shown, cancelled, await create({ upstream: "sora", task }, null, how)];
            }""",
            [job.id, here.house.upstream.add_task("happy")],
        )
        assert (shown["job"], cancelled["status"]) == (job.id, "cancelled")
        assert here.house.relay.job(created["job"]).owner == "key:ann"
        assert asked == [{"fresh": False}, {"fresh": True}] * 3
        refusal = await tab.page.evaluate(
            """async ([job, token]) => {
              const { show } = await import("/static/relay.js");
              return show(job, { token }).catch(({ message, status }) => [message, status]);
            }""",
            [job.id, WRONG],
        )
        assert refusal == ["this token is not valid here, or has expired", 401]


async def test_a_token_is_in_no_address_and_no_referer_that_a_page_or_a_server_sees(browser: Browser) -> None:
    async with scene(browser) as here, open_proxy(here.house) as proxy:
        [job] = here.house.play("never-finishes", owner="key:ann")
        tab = Watcher(await here.context.new_page())
        await tab.page.goto(f"{proxy.url}shop")
        await tab.page.evaluate("token => { window.proof = { token } }", ANN)
        await tab.watch([job.id])
        await tab.heard(1)
        await tab.page.evaluate(
            """async (job) => {
              const element = document.createElement("relay-progress");
              element.setAttribute("job", job);
              element.token = window.proof.token;
              document.body.append(element);
              await new Promise((resolve) => element.addEventListener("change", resolve, { once: true }));
              await client.show(job, window.proof);
            }""",
            job.id,
        )
        seen = await tab.page.evaluate(
            """() => [document.URL, document.referrer, document.documentElement.outerHTML, document.cookie,
              JSON.stringify(performance.getEntries()), JSON.stringify({ ...localStorage, ...sessionStorage })]"""
        )
        assert any(ANN in sent.headers.get("Authorization", "") for sent in proxy.requests)
        leaks = [sent.path_qs for sent in proxy.requests if ANN in sent.path_qs + sent.headers.get("Referer", "")]
        assert (leaks, [text for text in seen if ANN in text]) == ([], [])
