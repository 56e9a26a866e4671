"""What is measured: the relay as it is shipped, or the loop that people write. It prints a line when it is under way.

Then it answers each line `hold` with the same word and the longest times that the event loop was held since the last
such line, in milliseconds; any other line ends it.
"""

import argparse
import asyncio
import os
import signal
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import aiohttp

from relay.cli.build import build_relay
from relay.cli.gc_tuning import tuned_gc
from relay.config.settings import (
    ConfiguredSink,
    JournalSettings,
    Settings,
)
from relay.secret import Secret
from relay.upstreams import PollRequest
from relay.upstreams.declared.declaration import HttpSettings
from relay.upstreams.dialects.runway import RunwaySettings
from relay.upstreams.dialects.sora import SoraSettings
from relay.upstreams.settings import PaceSettings, UpstreamSettings
from sinks.console import ConsoleSettings
from tests.bench.fanout.control import EXIT_AFTER
from tests.bench.polling.upstream import TOKEN, task_name

__all__: list[str] = []

TICK: Final = 0.001

LISTED: Final = PollRequest(
    path="nf/pending/v2",
    items="@",
    id="id",
    status="status",
    progress="progress_pct",
    scale=1,
    queue_position="progress_pos_in_queue",
    eta="estimated_queue_wait_time",
    urls="generations[].url",
    error="failure_reason",
)
"""The same list, by declaration."""


class Probe:
    """Notes how long the loop is held: a timer that should come every millisecond, and comes late.

    Two figures: by the clock on the wall, which counts what else the machine does, and by the CPU time of the loop's
    own thread, which leaves out waiting for the interpreter's lock.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._last = time.perf_counter(), time.thread_time()
        self._worst = 0.0, 0.0
        self._tick()

    def take(self) -> tuple[float, float]:
        """The longest of each since the last time, in milliseconds."""
        (wall, cpu), self._worst = self._worst, (0.0, 0.0)
        return round(1000 * wall, 3), round(1000 * cpu, 3)

    def _tick(self) -> None:
        now = time.perf_counter(), time.thread_time()
        wall, cpu = now[0] - self._last[0] - TICK, now[1] - self._last[1]
        self._worst = max(self._worst[0], wall), max(self._worst[1], cpu)
        self._last = now
        self._loop.call_later(TICK, self._tick)


async def naive(base: str, options: argparse.Namespace) -> None:
    """One task, one sleep, one request for each job, over one session."""

    async def follow(session: aiohttp.ClientSession, number: int) -> None:
        url = f"{base}/v1/tasks/{task_name(number)}"
        await asyncio.sleep(options.interval * number / options.jobs)
        while True:
            async with session.get(url) as response:
                task = await response.json()
            if task["status"] in ("SUCCEEDED", "FAILED", "CANCELLED"):
                return
            await asyncio.sleep(options.interval)

    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {TOKEN}"}) as session:
        tasks = [asyncio.create_task(follow(session, number)) for number in range(options.jobs)]
        await ordered(options)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def relay(base: str, options: argparse.Namespace) -> None:
    """`relay serve` without its web server: settings, journal, console."""
    token = Secret(TOKEN)
    every = options.interval
    # Without the jitter, which is meant: what is left of an error is the engine's own.
    steady = PaceSettings(jitter=0.0)
    upstream: UpstreamSettings = SoraSettings(name="up", base_url=base, token=token, interval=every, pace=steady)
    if options.client == "declared":
        upstream = HttpSettings(name="up", base_url=base, token=token, interval=every, poll=LISTED, pace=steady)
    if options.client == "item":
        # As many connections as aiohttp opens by itself for the other loop.
        upstream = RunwaySettings(name="up", base_url=base, token=token, interval=every, concurrency=100, pace=steady)
    journal = JournalSettings(url="memory:" if options.memory else f"sqlite:{options.work / 'relay.db'}")
    async with AsyncExitStack() as stack:
        stack.enter_context(tuned_gc())
        built = build_relay(
            Settings(
                upstreams=(upstream,), journal=journal, sinks=(ConfiguredSink(settings=ConsoleSettings(format="json")),)
            )
        )
        await stack.enter_async_context(built)
        for number in range(options.jobs):
            built.follow("up", task_name(number))
        await ordered(options)


async def ordered(options: argparse.Namespace) -> None:
    """Act on each line that comes, until the last."""
    probe = Probe() if options.probe else None
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    print("ready", file=sys.stderr, flush=True)
    while (await reader.readline()) == b"hold\n":
        print("hold", *(probe.take() if probe else ()), file=sys.stderr, flush=True)


async def main(options: argparse.Namespace) -> None:
    base = f"http://127.0.0.1:{options.port}"
    await (naive if options.client == "naive" else relay)(base, options)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("client", choices=("naive", "item", "list", "declared"))
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--jobs", type=int, required=True)
    parser.add_argument("--interval", type=float, default=2.5)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--cpu", type=int)
    parser.add_argument("--probe", action="store_true")
    parser.add_argument("--memory", action="store_true")
    options = parser.parse_args()
    if options.cpu is not None:
        os.sched_setaffinity(0, {options.cpu})
    signal.alarm(EXIT_AFTER)
    asyncio.run(main(options))
