"""What `relay doctor` says of an engine: on real servers, in the states that matter."""

import pytest
from msgspec.structs import replace

from relay.errors import ConfigError, JournalError
from relay.journal.redis.inspection import EngineReport, advice_on, inspect, problems_of
from tests.journal.redis.nodes import Story, joined
from tests.journal.redis.servers import ENGINES, EngineServer, Kind, free_ports, running_engine

GOOD = EngineReport(
    place="host:6379",
    server="Redis",
    version="7.0.15",
    role="master",
    replicas=0,
    appendonly=True,
    appendfsync="always",
    save="",
    maxmemory=2**30,
    used_memory=2**20,
    policy="noeviction",
    saved=True,
    loading=False,
    latency=0.001,
    slowest=0.002,
    clock=0.0,
    epoch="e",
    head=1,
    records=1,
    nodes=1,
    leases=64,
    may_read_info=True,
    may_read_config=True,
)


async def test_an_engine_with_a_cluster_is_described(engine: EngineServer) -> None:
    async with joined(engine.url, "a") as node:
        fence = await node.own()
        await node.append(*Story("j", fence).take(3))
        await node.journal.leases.beat({0: fence.token})
        before = await engine.call("DBSIZE")

        report = await inspect(engine.url, "relay")

        assert await engine.call("DBSIZE") == before
    version = report.version or ""
    assert (report.place, report.server) == (str(engine.socket), engine.kind.capitalize())
    assert [part.isdigit() for part in version.split(".")] == [True] * 3
    assert (report.role, report.replicas, report.policy, report.save) == ("master", 0, "noeviction", "")
    assert (report.appendonly, report.appendfsync, report.maxmemory) == (False, "everysec", 0)
    assert (report.epoch, report.head, report.records) == (node.journal.epoch, 3, 3)
    assert (report.nodes, report.leases) == (1, 1)
    assert 0 < report.latency <= report.slowest
    assert (report.may_read_info, report.may_read_config, report.problems) == (True, True, ())
    assert report.advice == (
        "appendonly is off: a server that is killed loses all that it has; set appendonly yes",
        "maxmemory is not set: a server that fills its machine is ended by the system; set maxmemory",
    )


async def test_an_engine_without_a_cluster_has_none(engine: EngineServer) -> None:
    report = await inspect(engine.url, "relay")

    assert (report.epoch, report.head, report.records, report.nodes, report.leases) == ("", 0, 0, 0, 0)
    assert await engine.call("DBSIZE") == 0


@pytest.mark.parametrize("kind", ENGINES)
async def test_what_will_break_is_said_of_a_real_server(kind: Kind) -> None:
    [port] = free_ports(1)
    with running_engine(kind, "--maxmemory", "1", "--maxmemory-policy", "allkeys-lru", port=port) as server:
        await server.call("REPLICAOF", "127.0.0.1", "1")
        report = await inspect(server.url, "relay")

    assert [problem.partition(";")[0] for problem in report.problems][:2] == [
        "it is a replica, which accepts no write",
        "maxmemory-policy is allkeys-lru, which removes the journal when the memory is full",
    ]
    assert "% of maxmemory are in use, and it stores nothing beyond" in report.problems[2]


async def test_an_engine_that_cannot_be_reached_or_used_is_an_error(engine: EngineServer) -> None:
    with pytest.raises(ConfigError, match="does not accept the user or the password"):
        await inspect(f"unix://ann:c4n4ry@{engine.socket}", "relay")
    with pytest.raises(JournalError, match="cannot be reached"):
        await inspect(f"unix://{engine.socket}-none", "relay")
    with pytest.raises(ConfigError, match="the name of a cluster is 1 to 64 letters"):
        await inspect(engine.url, "a b")


def test_a_good_engine_needs_nothing() -> None:
    assert (list(problems_of(GOOD)), list(advice_on(GOOD))) == ([], [])


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"version": "4.0.9"}, "Redis 4.0.9 has no streams; Redis 5 or later is needed"),
        ({"saved": False}, "it could not write its data to disk when it last tried; look at its log and its disk"),
        ({"loading": True}, "it is loading its data, and answers little until it has; wait for it"),
    ],
)
def test_a_problem_is_a_sentence(facts: dict[str, object], words: str) -> None:
    assert list(problems_of(replace(GOOD, **facts))) == [words]


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"appendonly": False, "save": "3600 1"}, "since its last snapshot, up to an hour by default; set appendonly"),
        ({"appendfsync": "no"}, "appendfsync is no: a power cut loses what the system had not written"),
        (
            {"appendfsync": "everysec"},
            "a power cut loses about a second of records, which are a gap",
        ),
        ({"replicas": 1}, "a failover may lose the newest records, which are a gap; with min-replicas-to-write 1"),
        ({"latency": 0.2}, "an answer comes after 200 ms; put the engine closer to the relay"),
        ({"clock": -30.0}, "its clock and the one here are 30 s apart; nothing of the relay hangs on that"),
        ({"may_read_config": False, "appendfsync": None}, "CONFIG GET is not permitted, so that appendfsync is not"),
    ],
)
def test_advice_is_a_sentence(facts: dict[str, object], words: str) -> None:
    report = replace(GOOD, **facts)

    [advice] = advice_on(report)
    assert words in advice
    assert list(problems_of(report)) == []
