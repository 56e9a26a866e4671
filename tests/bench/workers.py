"""The part `workers`: what a second process adds, over one server of Redis, to readers that come and read a story."""

import asyncio
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from tests.bench.fanout.accounting import cpu_seconds, tree
from tests.bench.part import Findings, Plan, least, most, ratio
from tests.cli.asking import get, post
from tests.journal.redis.servers import running_engine

__all__ = ["measure"]

COUNTS: Final = (1, 2)
PATIENCE: Final = 120.0
MARK: Final = b"\nid: "
"""Begins the last line of each record of a stream."""


def measure(plan: Plan) -> Findings:
    """Let readers come and read whole stories, each over a connection of its own, from one process and from two."""
    if shutil.which("redis-server") is None or not sys.platform.startswith("linux"):
        return Findings(
            figures=[most("records missing at a reader of workers", "", [0], goal=0)],
            skipped=["workers, which needs redis-server and Linux"],
        )
    jobs, stories, readers = (4, 40, 4) if plan.quick else (100, 4_000, 32)
    times: dict[int, list[float]] = {count: [] for count in COUNTS}
    cpu: dict[int, list[float]] = {count: [] for count in COUNTS}
    missing: list[float] = []
    with ExitStack() as stack:
        server = stack.enter_context(running_engine("redis"))
        base_url, token = stack.enter_context(_upstream())
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="relay-")))
        (folder / "relay.toml").write_text(
            f'[server]\nport = 0\n[journal]\nurl = "{server.url}"\n[cluster]\nlease = "2s"\n'
            f'[[upstreams]]\nkind = "sora"\nbase_url = "{base_url}"\ntoken = "env:TOKEN"\ninterval = "100ms"\n'
        )
        with _serving(1, folder, token) as (address, _):
            records = _filled(address, jobs)
        wanted = list(islice(cycle(records), stories))
        for number in range(plan.rounds):
            for count in COUNTS if number % 2 == 0 else reversed(COUNTS):
                with _serving(count, folder, token) as (address, processes):
                    _read(address, wanted[:jobs], readers)  # each process has made the bytes of some records once
                    begun, used = time.perf_counter(), cpu_seconds(processes)
                    received = _read(address, wanted, readers)
                    times[count].append((time.perf_counter() - begun) / stories * 1e6)
                    cpu[count].append((cpu_seconds(processes) - used) / stories * 1e6)
                    missing.append(sum(map(records.__getitem__, wanted)) - received)
            plan.say(f"workers {number + 1}: {', '.join(f'{n}: {found[-1]:.0f} us' for n, found in times.items())}")
    one, two = times[1], times[2]
    average = sum(records.values()) // jobs
    return Findings(
        figures=[
            least("a story to a reader that connects, one worker", "us", one, note=f"{average} records a story"),
            least("a story to a reader that connects, two workers", "us", two, note=f"{os.cpu_count()} cores for all"),
            ratio("a story, two workers / one worker", two, one),
            least("CPU of the relay for a story, one worker", "us", cpu[1]),
            least("CPU of the relay for a story, two workers", "us", cpu[2]),
            ratio("CPU of the relay for a story, two workers / one worker", cpu[2], cpu[1]),
            most("records missing at a reader of workers", "", missing, goal=0),
        ],
        rows=[{"us": times, "cpu_us": cpu}],
    )


@contextmanager
def _command(*arguments: str, folder: Path | None = None, **environ: str) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-m", "relay", *arguments]
    options: Mapping[str, str] = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), **environ}
    with subprocess.Popen(
        command, cwd=folder, env=options, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.terminate()


def _line(process: "subprocess.Popen[str]", begins: str) -> str:
    """The word behind *begins*, in the next line that has it."""
    assert process.stderr is not None
    for line in process.stderr:
        if begins in line:
            return line.partition(begins)[2].split()[0].rstrip("/;")
    raise RuntimeError(f"it ended without a line with {begins!r}")


@contextmanager
def _upstream() -> Iterator[tuple[str, str]]:
    with _command("fake", "--port", "0", "--speed", "50") as process:
        yield _line(process, "base_url "), _line(process, "token ")


@contextmanager
def _serving(workers: int, folder: Path, token: str) -> Iterator[tuple[str, list[int]]]:
    """The address of a relay, and its processes."""
    with _command("serve", "--workers", str(workers), folder=folder, TOKEN=token) as process:
        yield _line(process, "serving on "), tree(process.pid)


def _filled(address: str, jobs: int) -> dict[str, int]:
    """Run *jobs* to their ends; how many records each of them has."""
    accepted = [
        post(f"{address}/v1/jobs", {"upstream": "sora", "input": {"prompt": "[happy] a cat"}})["job"]
        for _ in range(jobs)
    ]
    # A stream of a job ends with it.
    return {job: get(f"{address}/v1/jobs/{job}/events?level=debug").count(MARK) for job in accepted}


def _read(address: str, wanted: Sequence[str], readers: int) -> int:
    """Read the stories of the jobs in *wanted*, up to *readers* at a time; how many records they have together."""
    return asyncio.run(_received(address.removeprefix("http://"), wanted, readers))


async def _received(place: str, wanted: Sequence[str], readers: int) -> int:
    host, _, port = place.partition(":")
    left = iter(wanted)

    async def stories() -> int:
        found = 0
        for job in left:
            reader, writer = await asyncio.open_connection(host, int(port))
            path = f"/v1/jobs/{job}/events?level=debug"
            writer.write(f"GET {path} HTTP/1.1\r\nHost: {place}\r\nConnection: close\r\n\r\n".encode())
            found += (await reader.read(-1)).count(MARK)
            writer.close()
        return found

    async with asyncio.timeout(PATIENCE):
        return sum(await asyncio.gather(*(stories() for _ in range(readers))))
