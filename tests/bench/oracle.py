"""Whether the time of an answer tells that a job exists which the client may not see: a part of the part `access`."""

import asyncio
import random
import time
from collections.abc import Iterator
from statistics import median
from typing import Final
from urllib.parse import urlsplit

from relay import Relay
from relay.cli.serving import serving
from relay.config.access_settings import AccessSettings, KeySettings
from relay.secret import Secret
from tests.bench.child import in_child
from tests.bench.fanout.silent import Silent
from tests.bench.part import Figure, Plan
from web import create_app

__all__ = ["timing"]

KEY: Final = "rlk_bench-0123456789-0123456789-0123456789"
GOAL: Final = 1.1
JOBS: Final = 1_000

ROUTES: Final = {
    "a job": ("GET /v1/jobs/{}", ""),
    "a stream": ("GET /v1/jobs/{}/events", "Accept: text/event-stream\r\n"),
    "a cancellation": ("POST /v1/jobs/{}/cancel", "Content-Length: 0\r\n"),
}


def timing(plan: Plan) -> Iterator[Figure]:
    """How far the median times of forbidden and of unknown jobs lie apart, which take turns in one process.

    The larger over the smaller; the median of all rounds.
    """
    requests = 50 if plan.quick else 3_000
    runs = [in_child(_run, requests) for _ in range(plan.rounds)]
    for name in ROUTES:
        found = [run[name] for run in runs]
        plan.say(f"access: time of {name}, forbidden and unknown: {found}")
        ratios = [max(one / other, other / one) for one, other in found]
        spread = (max(ratios) - min(ratios)) / median(ratios)
        yield Figure(
            name=f"time of {name}, forbidden / unknown or the other way round",
            value=median(ratios),
            unit="x",
            goal=GOAL,
            spread=spread,
            note=f"{median(one for one, _ in found):.0f} and {median(other for _, other in found):.0f} us",
        )


def _run(requests: int) -> dict[str, tuple[float, float]]:
    return asyncio.run(_timed(requests))


async def _timed(requests: int) -> dict[str, tuple[float, float]]:
    relay, draw = Relay([Silent()]), random.Random(1)
    access = AccessSettings(keys=(KeySettings(name="bench", key=Secret(KEY), scopes="jobs:read jobs:cancel"),))
    found = {}
    async with serving(create_app(relay, access=access), "127.0.0.1", 0) as address:
        forbidden = [relay.follow("silent", f"t{number}", "key:else").id for number in range(JOBS)]
        unknown = [id[:-4] + f"{number:04x}" for number, id in enumerate(forbidden)]
        reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(address).port)
        for name, (line, fields) in ROUTES.items():
            times: tuple[list[float], list[float]] = ([], [])
            for number in range(2 * requests):
                which = number % 2
                id = draw.choice((forbidden, unknown)[which])
                head = f"{line.format(id)} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\n{fields}\r\n"
                times[which].append(await _time_of(reader, writer, head.encode()))
            found[name] = (median(times[0]) * 1e6, median(times[1]) * 1e6)
        writer.close()
    return found


async def _time_of(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> float:
    began = time.perf_counter()
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    took = time.perf_counter() - began
    length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    await reader.readexactly(int(length.partition(b":")[2]))
    return took
