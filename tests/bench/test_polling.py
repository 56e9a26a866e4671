"""The benchmark of polling still works, and counts what it should; how long anything takes is not looked at here."""

from collections.abc import Iterator

import pytest

from tests.bench.polling.part import Sizes, Upstream, client, upstream

SIZES = Sizes(listed=20, crowd=20, single=20, interval=0.25, watched=2)


@pytest.fixture(scope="module")
def started() -> Iterator[Upstream]:
    with upstream() as server:
        yield server


@pytest.fixture
def server(started: Upstream) -> Upstream:
    started.ask("reset")
    return started


@pytest.mark.parametrize("kind", ["item", "naive"])
def test_each_single_job_is_asked_for_again_and_again(server: Upstream, kind: str) -> None:
    with client(kind, server, 20, SIZES):
        report = server.until("polls", 60)

    assert (report["tasks"], report["lists"]) == (20, 0)


@pytest.mark.parametrize("kind", ["list", "declared"])
def test_the_jobs_of_one_list_share_each_request(server: Upstream, kind: str) -> None:
    server.ask("list?jobs=20&turn=1")

    with client(kind, server, 20, SIZES, "--probe") as polling:
        report = server.until("lists", 3)
        wall, cpu = polling.holds()

    assert report["polls"] == 0
    assert wall >= 0
    assert cpu > 0
