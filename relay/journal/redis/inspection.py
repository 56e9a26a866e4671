"""What an engine is, how it keeps what it is given, and what an operator should change: read only."""

import re
import time
from collections.abc import Awaitable, Iterator, Mapping
from statistics import median
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from relay.journal.redis._client import EngineClient
from relay.journal.redis._keys import Keys, checked_name
from relay.journal.redis._place import read_url

__all__ = ["EngineReport", "advice_on", "inspect", "problems_of"]

ANSWER_WITHIN: Final = 5.0
"""Seconds for each answer."""

PINGS: Final = 9

_WRITES: Final = ("rdb_last_bgsave_status", "aof_last_bgrewrite_status", "aof_last_write_status")

OLDEST: Final = 5
"""The first version with streams."""

SLOW: Final = 0.05
"""Seconds for a PING above which every append is slow."""

NEARLY_FULL: Final = 0.9
"""The part of maxmemory in use from which on it is a problem."""

CLOCKS_APART: Final = 5.0
"""Seconds between two clocks that are worth a word."""


class EngineReport(Struct, frozen=True, kw_only=True):
    """What an engine states of itself. Text and numbers that it does not permit to read are None.

    *saved* is whether it could write to disk when it last tried. *latency* and *slowest* are those of a PING, in
    seconds, the median and the longest; *clock* is by how much the engine's clock is ahead of the one here, in seconds.
    *records*, *nodes* and *leases* are those of this name's cluster; *epoch* is "" where there is none yet. *problems*
    are sentences about what will break, *advice* about what may lose or cost more than it need.
    """

    place: str
    server: str | None
    version: str | None
    role: str | None
    replicas: int | None
    appendonly: bool | None
    appendfsync: str | None
    save: str | None
    maxmemory: int | None
    used_memory: int | None
    policy: str | None
    saved: bool | None
    loading: bool | None
    latency: float
    slowest: float
    clock: float
    epoch: str
    head: int
    records: int
    nodes: int
    leases: int
    may_read_info: bool
    may_read_config: bool
    problems: tuple[str, ...] = ()
    advice: tuple[str, ...] = ()


async def inspect(url: str, name: str) -> EngineReport:
    """Look at the engine that *url* names, and at the cluster *name* in it. Nothing is written.

    Raises ConfigError for a URL that cannot be one, and for what no retry mends, such as a wrong password; JournalError
    for an engine that cannot be reached, or that gives no answer within 5 seconds.
    """
    client = EngineClient(read_url(url), read_timeout=ANSWER_WITHIN)
    try:
        async with client.talk(opening=True) as redis:
            return await _inspected(str(client.place), redis, Keys(checked_name(name, "the name of a cluster")))
    finally:
        await client.close()


async def _inspected(place: str, redis: Redis, keys: Keys) -> EngineReport:
    client: Any = redis  # its own annotations do not describe what is awaited
    # First, as this leads to the node of a cluster that keeps the keys.
    epoch, head = await client.hmget(keys.meta, "epoch", "head")
    times = [await _ping(client) for _ in range(PINGS)]
    before = time.time()
    seconds, micros = await client.time()
    clock = seconds + micros / 1e6 - (before + time.time()) / 2
    info = await _permitted(client.info())
    config = await _permitted(client.config_get("appendfsync", "save")) or await _permitted(client.config_get("*"))
    stream = keys.of((epoch or b"").decode()).stream
    report = EngineReport(
        place=place,
        latency=median(times),
        slowest=max(times),
        clock=clock,
        epoch=(epoch or b"").decode(),
        head=int(head or 0),
        records=await client.xlen(stream),
        nodes=await client.scard(keys.nodes),
        leases=await client.hlen(keys.leases),
        may_read_info=bool(info),
        may_read_config=bool(config),
        **_facts(info, config),
    )
    return replace(report, problems=tuple(problems_of(report)), advice=tuple(advice_on(report)))


async def _ping(client: Any) -> float:
    start = time.perf_counter()
    await client.ping()
    return time.perf_counter() - start


async def _permitted(answer: Awaitable[Mapping[str, Any]]) -> Mapping[str, Any]:
    """What the engine answers; nothing where it does not permit that, or does not have the command."""
    try:
        return await answer
    except ResponseError:
        return {}


def _facts(info: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    valkey = info.get("valkey_version")
    enabled = info.get("aof_enabled")
    return {
        "server": ("Valkey" if valkey else "Redis") if info else None,
        "version": valkey or info.get("redis_version"),
        "role": info.get("role"),
        "replicas": info.get("connected_slaves"),
        "appendonly": None if enabled is None else bool(enabled),
        "appendfsync": config.get("appendfsync"),
        "save": config.get("save"),
        "maxmemory": info.get("maxmemory"),
        "used_memory": info.get("used_memory"),
        "policy": info.get("maxmemory_policy"),
        "saved": all(info.get(key, "ok") == "ok" for key in _WRITES) if info else None,
        "loading": bool(info["loading"]) if "loading" in info else None,
    }


def problems_of(report: EngineReport) -> Iterator[str]:
    """What will break, or is broken."""
    if report.role == "slave":
        yield "it is a replica, which accepts no write; name the primary in [journal] url, or the Sentinels"
    if report.policy not in (None, "noeviction"):
        yield (
            f"maxmemory-policy is {report.policy}, which removes the journal when the memory is full; set it to"
            " noeviction"
        )
    if report.version is not None and _major(report.version) < OLDEST:
        yield f"{report.server} {report.version} has no streams; Redis {OLDEST} or later is needed"
    if report.maxmemory and report.used_memory is not None and report.used_memory > NEARLY_FULL * report.maxmemory:
        yield (
            f"{report.used_memory / report.maxmemory:.0%} of maxmemory are in use, and it stores nothing beyond; raise"
            " maxmemory, or let [journal] keep less"
        )
    if report.saved is False:
        yield "it could not write its data to disk when it last tried; look at its log and its disk"
    if report.loading:
        yield "it is loading its data, and answers little until it has; wait for it"


def advice_on(report: EngineReport) -> Iterator[str]:
    """What may lose or cost more than it need."""
    if report.appendonly is False:
        lost = "all that it has" if report.save == "" else "what came since its last snapshot, up to an hour by default"
        yield f"appendonly is off: a server that is killed loses {lost}; set appendonly yes"
    elif report.appendfsync == "no":
        yield "appendfsync is no: a power cut loses what the system had not written; set appendfsync everysec or always"
    elif report.appendfsync == "everysec":
        yield "appendfsync is everysec: a power cut loses about a second of records, which are a gap; always loses none"
    if report.replicas:
        yield (
            "replication is asynchronous: a failover may lose the newest records, which are a gap; with"
            " min-replicas-to-write 1 a primary that is cut off stops accepting writes"
        )
    if report.maxmemory == 0:
        yield "maxmemory is not set: a server that fills its machine is ended by the system; set maxmemory"
    if report.latency > SLOW:
        yield f"an answer comes after {report.latency * 1000:.0f} ms; put the engine closer to the relay"
    if not report.may_read_info:
        yield "INFO is not permitted, so that a failover that lost records may be noticed late; permit INFO"
    if report.may_read_info and not report.may_read_config:
        yield "CONFIG GET is not permitted, so that appendfsync is not known; see that it is everysec or always"
    if abs(report.clock) > CLOCKS_APART:
        yield (
            f"its clock and the one here are {abs(report.clock):.0f} s apart; nothing of the relay hangs on that, but"
            " times in logs do"
        )


def _major(version: str) -> int:
    return int(re.match("[0-9]*", version)[0] or 0)  # type: ignore[index]
