"""The benchmark of the fan-out still works: a few clients and a few events, and every story is whole."""

import pytest

from tests.bench.fanout.events import frame_size
from tests.bench.fanout.measure import Row, measure
from tests.bench.fanout.scenarios import Fan, Idle, Scenario, Stuck
from tests.bench.fanout.servers import SERVERS, missing
from tests.bench.fanout.tables import tables

SMALL: dict[str, Scenario] = {
    "steady": Fan(title="steady", clients=3, events=5, rate=100),
    "burst": Fan(title="burst", clients=6, topics=3, events=30, mode="tight"),
    "idle": Idle(title="idle", steps=(2, 4), watch=0),
    "stuck": Stuck(title="stuck", clients=3, events=20, pad=100),
}


def measured(scenario: str, server: str) -> Row:
    (row,) = measure([scenario], [server], 1, print, SMALL)
    assert row.error is None
    return row


@pytest.fixture(params=["relay", "nchan", "c-limit", "aiohttp-sse", "sse-starlette"])
def server(request: pytest.FixtureRequest) -> str:
    name = str(request.param)
    if (lacking := missing(name)) is not None:
        pytest.skip(f"{name} is not measured: it needs {lacking}")
    return name


def test_each_client_is_sent_each_event_once_and_frames_are_equally_long(server: str) -> None:
    figures = measured("steady", server).figures

    told = {name: figures[name] for name in ("clients", "refused", "frames", "missing", "gaps", "dups")}
    assert told == {"clients": 3, "refused": 0, "frames": 15, "missing": 0, "gaps": 0, "dups": 0}
    assert figures["bytes_a_frame"] == pytest.approx(frame_size(), abs=8)


@pytest.mark.skipif(missing("relay") is not None, reason=f"the relay is not measured: it needs {missing('relay')}")
@pytest.mark.parametrize(("scenario", "frames"), [("burst", 60), ("stuck", 40)])
def test_no_scenario_loses_or_repeats_anything_of_the_relay(scenario: str, frames: int) -> None:
    figures = measured(scenario, "relay").figures

    told = {name: figures[name] for name in ("frames", "missing", "gaps", "dups")}
    assert told == {"frames": frames, "missing": 0, "gaps": 0, "dups": 0}


@pytest.mark.skipif(missing("relay") is not None, reason=f"the relay is not measured: it needs {missing('relay')}")
def test_idle_connections_are_all_accepted() -> None:
    figures = measured("idle", "relay").figures

    assert (figures["clients"], figures["refused"]) == (4, 0)


def test_what_is_not_installed_is_skipped_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    said: list[str] = []

    rows = measure(["steady"], list(SERVERS), 1, said.append, SMALL)

    assert rows == []
    assert said == [f"{name} is skipped: it needs a C compiler (cc), for the load client" for name in SERVERS]


def test_a_table_compares_the_least_of_all_rounds() -> None:
    def row(server: str, number: int, cpu: float) -> Row:
        figures = dict.fromkeys(("frames", "missing", "refused", "gaps", "dups", "bytes_a_frame"), 0)
        times = dict.fromkeys(("deliveries_per_s", "p50_ms", "p99_ms"), 1.0)
        return Row("steady", server, number, {**figures, **times, "cpu_us": cpu})

    rows = [row("relay", 0, 6.0), row("nchan", 0, 9.0), row("nchan", 1, 8.0), row("relay", 1, 7.0)]
    broken = Row("steady", "c-limit", 0, {}, "RuntimeError: c-limit does not start")

    assert tables([*rows, broken], SMALL) == (
        "### steady: steady\n\n"
        "| server | rounds | CPU us a delivery | x nchan | p50 ms | p99 ms | deliveries/s | bytes a frame | missing |"
        " gaps, repeats |\n"
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n"
        "| relay | 2 | 6.00 (median 6.50) | 0.75 | 1.00 | 1.00 | 1 | 0 | 0 | 0 |\n"
        "| nchan | 2 | 8.00 (median 8.50) | 1.00 | 1.00 | 1.00 | 1 | 0 | 0 | 0 |\n"
        "| c-limit | 0 |  |  |  |  |  |  |  |  |\n"
        "\nc-limit, round 1: RuntimeError: c-limit does not start\n"
    )
