"""`/metrics` of a node of several: its leases, and whether it reads the journal."""

from collections.abc import Iterator

import pytest

from relay import Relay
from relay.cluster import ClusterOptions
from relay.journal.redis import RedisJournal
from relay.journal.redis._leases import RedisLeases
from tests.journal.redis.servers import EngineServer, running_engine, until
from tests.relay.scripted import RUNNING, TwoStep, story
from tests.web.serving import serve
from tests.web.test_metrics import Figures, scrape
from web.metric_table import METRICS

SHARDS = 4


@pytest.fixture(scope="module")
def server() -> Iterator[EngineServer]:
    with running_engine("redis") as made:
        yield made


@pytest.mark.server
@pytest.mark.redis
async def test_every_figure_of_a_node_is_there_and_says_what_happened(server: EngineServer) -> None:
    await server.call("FLUSHALL")
    journal = RedisJournal(server.url, node="a")
    relay = Relay([TwoStep(story({"t": RUNNING}))], journal=journal, cluster=ClusterOptions(shards=SHARDS, lease=3.0))
    scrapes: list[Figures] = []
    async with serve(relay) as client:

        async def owns_all() -> bool:
            scrapes.append(await scrape(client))
            return scrapes[-1]["cluster_shards"] == SHARDS

        await until(owns_all)
        figures = scrapes[-1]
        ours = {name for name in figures.families if name.startswith("relay_cluster_")}
        assert ours == {spec.name for key, spec in METRICS.items() if key.startswith("cluster_")}
        counted = [figures[f"cluster_{name}_total"] for name in ("claims", "takeovers", "losses", "fences")]
        assert (figures["cluster_nodes"], counted) == (1, [SHARDS, 0, 0, 0])
        assert figures["cluster_renewal_age_seconds"] >= 0
        assert figures["cluster_tail_age_seconds"] >= 0
        assert [figures[name] for name in ("cluster_engine_problem", "cluster_breaks_total", "records_total")] == [
            0,
            0,
            0,
        ]

        thief = RedisLeases(journal._client, "relay", "b")

        async def steals() -> bool:
            return await thief.claim(0, (await thief.view()).leases[0]) is not None

        async def has_lost_one() -> bool:
            return (await scrape(client))["cluster_losses_total"] == 1

        await until(steals)
        await until(has_lost_one)
        await relay.requests.follow("scripted", "t")
        await server.call("FLUSHALL")

        async def has_a_break() -> bool:
            return (await scrape(client))["cluster_breaks_total"] > 0

        await until(has_a_break)
        before = (await scrape(client))["records_total"]
        assert 0 < before < 100, "an epoch begins far behind the last one"

        async def goes_on() -> bool:
            return (await scrape(client))["records_total"] > before

        await until(goes_on)
        assert (await scrape(client))["cluster_breaks_total"] == 1, "the state that was carried over is the one here"


async def test_a_relay_alone_has_no_figures_of_a_node() -> None:
    async with serve(Relay([TwoStep(story({"t": RUNNING}))])) as client:
        figures = await scrape(client)

    assert [name for name in figures.families if name.startswith("relay_cluster")] == []
