"""What polling costs: a list that tells of many jobs, and many jobs that are each asked for by themselves.

The same upstream answers the relay and the loop that people write: one task, one sleep, one request for each job.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, Final
from urllib.request import urlopen

from msgspec import Struct

from tests.bench.fanout.accounting import cpu_seconds
from tests.bench.fanout.tools import ROOT
from tests.bench.part import Findings, Plan, least, most, ratio

__all__ = ["Sizes", "measure"]

INTERVAL: Final = 2.5
LISTS: Final = {"list": "", "declared": ", by declaration"}
TURNS: Final = {"nothing has changed": 1, "all have changed": 2, "all have ended": 100}
PATIENCE: Final = 60.0


class Sizes(Struct, frozen=True, kw_only=True):
    """How much is polled, how often, and for how many intervals it is watched."""

    listed: int = 1_000
    crowd: int = 10_000
    single: int = 5_000
    interval: float = INTERVAL
    watched: int = 4


FULL: Final = Sizes()
QUICK: Final = Sizes(listed=40, crowd=200, single=40, interval=0.25, watched=2)


class Upstream:
    """The upstream, in a process of its own."""

    def __init__(self, port: int) -> None:
        self.port = port

    def ask(self, path: str) -> Any:
        with urlopen(f"http://127.0.0.1:{self.port}/bench/{path}", timeout=PATIENCE) as answer:
            return json.loads(answer.read())

    def until(self, key: str, least: int) -> dict[str, Any]:
        """The report, as soon as its *key* is that much. Raises TimeoutError."""
        end = time.monotonic() + PATIENCE
        while (count := self.ask("count")[key]) < least:
            if time.monotonic() > end:
                raise TimeoutError(f"the upstream has seen {count:,} {key} instead of {least:,}")
            time.sleep(0.05)
        return dict(self.ask("report"))


class Client:
    """What polls, in a process of its own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.pid = process.pid

    def holds(self) -> tuple[float, float]:
        """The longest times that its loop was held since the last call, in ms: on the wall, and in CPU time."""
        assert self._process.stdin is not None
        self._process.stdin.write("hold\n")
        self._process.stdin.flush()
        wall, cpu = self.reply("hold").split()
        return float(wall), float(cpu)

    def reply(self, word: str) -> str:
        """The rest of the next line that begins with *word*; the relay's notices stand between such lines."""
        assert self._process.stderr is not None
        notices = []
        for line in self._process.stderr:
            first, _, rest = line.rstrip("\n").partition(" ")
            if first == word:
                return rest
            notices.append(line)
        raise RuntimeError(f"the client ended before it was {word}: {''.join(notices)}")


def measure(plan: Plan) -> Findings:
    """The part `polling`."""
    sizes = QUICK if plan.quick else FULL
    singles: dict[str, list[dict[str, float]]] = {"naive": [], "item": []}
    lists: list[float] = []
    kinds = {"list": LISTS["list"]} if plan.goals else LISTS
    holds: dict[str, list[tuple[float, float]]] = {f"{turn}{how}": [] for how in kinds.values() for turn in TURNS}
    with upstream() as server:
        for number in range(plan.rounds):
            for kind in ("naive", "item") if number % 2 else ("item", "naive"):
                singles[kind].append(_single(kind, server, sizes))
                plan.say(f"round {number + 1}, {kind}: {_line(singles[kind][-1])}")
            if not plan.goals:
                lists.append(_requests_an_interval(server, sizes))
            passes = [
                (f"{turn}{how}", hold) for kind, how in kinds.items() for turn, hold in _passes(kind, server, sizes)
            ]
            for turn, hold in passes:
                holds[turn].append(hold)
                plan.say(f"round {number + 1}, {sizes.crowd:,} listed, {turn}: held {hold[0]} ms, {hold[1]} ms of CPU")
    item, naive = singles["item"], singles["naive"]
    costs = [[each["cpu"] for each in kind] for kind in (item, naive)]
    return Findings(
        figures=[
            *[most(f"requests an interval, {sizes.listed:,} jobs on one list", "", lists, goal=1.0) for _ in lists[:1]],
            *[
                least(
                    f"loop held, a pass over {sizes.crowd:,} jobs, {turn}",
                    "ms",
                    [wall for wall, _ in held],
                    goal=50.0,
                    note=f"{min(cpu for _, cpu in held):g} ms of it CPU",
                )
                for turn, held in holds.items()
            ],
            least(
                f"cadence, {sizes.single:,} single jobs, median error",
                "%",
                _all(item, "error"),
                goal=10.0,
                note="with a jitter of 0; the default adds its 10 %",
            ),
            least(f"cadence, {sizes.single:,} single jobs, p95 error", "%", _all(item, "p95"), goal=10.0),
            most(
                "single jobs that were starved", "", [sizes.single - tasks for tasks in _all(item, "tasks")], goal=0.0
            ),
            least(f"CPU, {sizes.single:,} single jobs", "cores", _all(item, "core"), goal=1.0),
            least("CPU a poll, relay", "us", costs[0], note="journal and console included"),
            least("CPU a poll, a task and a sleep for each job", "us", costs[1], note="it tells nobody"),
            ratio("CPU a poll, relay / a task for each job", *costs, goal=0.8),
        ],
        rows=[{"singles": singles, "requests": lists, "holds": holds}],
    )


@contextmanager
def upstream() -> Iterator[Upstream]:
    """The upstream, started."""
    with _child("upstream") as process:
        assert process.stdout is not None
        yield Upstream(int(process.stdout.readline()))


@contextmanager
def client(kind: str, server: Upstream, jobs: int, sizes: Sizes, *more: str) -> Iterator[Client]:
    """What polls, under way."""
    with TemporaryDirectory(prefix="relay-bench-") as work:
        options = ["--port", server.port, "--jobs", jobs, "--interval", sizes.interval, "--work", Path(work)]
        with _child("client", kind, *map(str, options), *more) as process:
            polling = Client(process)
            polling.reply("ready")
            yield polling


@contextmanager
def _child(module: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    cpus = sorted(os.sched_getaffinity(0))
    pinned = ["--cpu", str(cpus[1 if module == "upstream" else 0])] if len(cpus) > 1 else []
    process = subprocess.Popen(
        [sys.executable, "-m", f"{__package__}.{module}", *arguments, *pinned],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        # The console of the relay, which nobody reads.
        stdout=subprocess.PIPE if module == "upstream" else subprocess.DEVNULL,
        stderr=subprocess.PIPE if module == "client" else None,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.terminate()


def _single(kind: str, server: Upstream, sizes: Sizes) -> dict[str, float]:
    """Jobs that are each asked for by themselves: what a poll costs, and how well the interval is kept."""
    server.ask("reset")
    with client(kind, server, sizes.single, sizes) as polling:
        # Under way is who has asked about every job twice; what that took is nobody's cost of polling.
        server.until("polls", 2 * sizes.single)
        server.ask("reset")
        began, cpu = time.monotonic(), cpu_seconds([polling.pid])
        report = server.until("polls", sizes.watched * sizes.single)
        cpu, took = cpu_seconds([polling.pid]) - cpu, time.monotonic() - began
    errors = sorted(abs(gap - sizes.interval) / sizes.interval * 100 for gap in report["gaps"])
    return {
        "polls": report["polls"],
        "tasks": report["tasks"],
        "cpu": cpu / report["polls"] * 1e6,
        "core": cpu / took,
        "error": median(errors),
        "p95": errors[int(len(errors) * 0.95)],
    }


def _requests_an_interval(server: Upstream, sizes: Sizes) -> float:
    """How many requests the jobs of one list cost in an interval."""
    server.ask(f"list?jobs={sizes.listed}&turn=1")
    server.ask("reset")
    with client("list", server, sizes.listed, sizes):
        # The first has to connect, and arrives late.
        times: list[float] = server.until("lists", sizes.watched + 2)["listed"][1 : sizes.watched + 2]
    # To two places: requests are noted some milliseconds early or late.
    return round(sizes.watched / ((times[-1] - times[0]) / sizes.interval), 2)


def _passes(kind: str, server: Upstream, sizes: Sizes) -> Iterator[tuple[str, tuple[float, float]]]:
    """For how long a pass over many jobs holds the loop, whatever has become of them."""
    server.ask(f"list?jobs={sizes.crowd}&turn=1")
    server.ask("reset")
    with client(kind, server, sizes.crowd, sizes, "--probe") as polling:
        server.until("lists", 3)
        for turn, number in TURNS.items():
            polling.holds()
            server.ask(f"list?jobs={sizes.crowd}&turn={number}")
            # Where all have ended there is no further request to wait for: within these, what changed has been told.
            time.sleep(3 * sizes.interval)
            yield turn, polling.holds()


def _all(rounds: Sequence[dict[str, float]], key: str) -> list[float]:
    return [each[key] for each in rounds]


def _line(figures: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in figures.items())
