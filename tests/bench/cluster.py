"""The part `cluster`: what a journal in Redis costs beside one in SQLite, and what one more node costs.

The relay publishes by itself, in the place of a poller. All its records go to the engine and come back by the tail
before any reader gets them. The engine has a process of its own, on the processor of the relay, and is counted apart.
Three things are measured: records as quick as they go, to one reader; records one by one, until their last byte is with
each of a hundred readers; and a node that only reads along, with readers and without.
"""

import shutil
import subprocess
import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Final, Self

from tests.bench.access import position
from tests.bench.fanout.accounting import cpu_seconds, settle
from tests.bench.fanout.measure import processors
from tests.bench.fanout.servers import RelayServer
from tests.bench.fanout.tools import Load
from tests.bench.part import Figure, Findings, Plan, least, most, ratio

__all__ = ["measure"]

FSYNC: Final = ("everysec", "always")

SQLITE: Final = "SQLite"
KINDS: Final = (SQLITE, *(f"Redis, {fsync}" for fsync in FSYNC))

Run = Mapping[str, float]


class Engine:
    """A redis-server of its own, on a socket in *work*."""

    def __init__(self, work: Path, cpu: int | None, fsync: str) -> None:
        self.url: str = f"unix://{work}/engine"
        self._argv = [
            *([] if cpu is None else ["taskset", "--cpu-list", str(cpu)]),
            *("redis-server", "--port", "0", "--unixsocket", str(work / "engine"), "--dir", str(work), "--save", ""),
            *("--appendonly", "yes", "--appendfsync", fsync, "--maxmemory-policy", "noeviction"),
        ]

    @property
    def pids(self) -> list[int]:
        return [self._process.pid]

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(self._argv, stdout=subprocess.PIPE, text=True, start_new_session=True)
        assert self._process.stdout is not None
        if not any("accept connections at" in line for line in self._process.stdout):
            raise RuntimeError("redis-server does not start")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.communicate()


def measure(plan: Plan) -> Findings:
    """Take turns; what is compared is measured in the same run."""
    if shutil.which("redis-server") is None:
        return Findings(skipped=["a journal in Redis: it needs redis-server"])
    kinds = KINDS[:2] if plan.quick else KINDS
    runs: dict[str, list[Run]] = {kind: [] for kind in kinds}
    nodes: list[Run] = []
    for number in range(plan.rounds):
        for kind in kinds if number % 2 == 0 else kinds[::-1]:
            with _relay(kind) as (server, engine, cpu, work):
                quick = _stream(server, engine, cpu, work, 1, 300 if plan.quick else 20_000, 0)
                paced = _stream(server, engine, cpu, work, 10 if plan.quick else 100, 20 if plan.quick else 500, 50)
            runs[kind].append({**{f"quick_{key}": value for key, value in quick.items()}, **paced})
            plan.say(f"cluster {number + 1} {kind}: {1e6 / quick['us']:.0f}/s, p99 {paced['p99_ms']:.2f} ms")
        nodes.append(_one_more(200 if plan.quick else 5_000, 10 if plan.quick else 100))
        plan.say(f"cluster {number + 1}: {nodes[-1]}")
    return Findings(figures=_figures(runs, nodes), rows=[{"runs": runs}, {"nodes": nodes}])


def _figures(runs: Mapping[str, Sequence[Run]], nodes: Sequence[Run]) -> list[Figure]:
    def of(kind: str, key: str) -> list[float]:
        return [run[key] for run in runs[kind]]

    figures: list[Figure] = []
    for kind in runs:
        figures += [
            least(f"time of a record, as quick as they go, {kind}", "us", of(kind, "quick_us")),
            least(f"CPU of a record and its delivery, {kind}", "us", of(kind, "quick_cpu_us")),
            least(f"publish to byte, half of them, {kind}", "ms", of(kind, "p50_ms")),
            least(f"publish to byte, 99 of 100, {kind}", "ms", of(kind, "p99_ms")),
        ]
    for kind in list(runs)[1:]:
        quick = of(kind, "quick_cpu_us")
        figures += [
            least(f"CPU of the engine for a record, {kind}", "us", of(kind, "quick_engine_us")),
            ratio(f"CPU of a record and its delivery, {kind} / SQLite", quick, of(SQLITE, "quick_cpu_us")),
            ratio(f"CPU of a delivery to 100 readers, {kind} / SQLite", of(kind, "cpu_us"), of(SQLITE, "cpu_us")),
        ]
    figures += [
        least("CPU of one more node for a record, without readers", "us", [run["node_us"] for run in nodes]),
        least("CPU of one more node for a delivery, readers: 100", "us", [run["delivery_us"] for run in nodes]),
        least("CPU of the engine for one more node, for a record", "us", [run["engine_us"] for run in nodes]),
        least("publish to byte at one more node, 99 of 100", "ms", [run["p99_ms"] for run in nodes]),
        most(
            "records that a reader lacks or has twice",
            "",
            [run["lacking"] for run in (*nodes, *(run for found in runs.values() for run in found))],
            goal=0,
        ),
    ]
    return figures


@contextmanager
def _relay(kind: str) -> Generator[tuple[RelayServer, Engine | None, int | None, Path]]:
    with (
        TemporaryDirectory(prefix="relay-bench-") as directory,
        processors() as (cpu, client_cpu),
        ExitStack() as stack,
    ):
        work, engine = Path(directory), None
        if kind != SQLITE:
            engine = stack.enter_context(Engine(work, cpu, kind.rpartition(" ")[2]))
        yield stack.enter_context(_server(work / "node", cpu, engine)), engine, client_cpu, work


def _server(work: Path, cpu: int | None, engine: Engine | None, *more: str) -> RelayServer:
    work.mkdir()
    journal = () if engine is None else ("--journal", "redis", "--engine", engine.url)
    program = [sys.executable, "-m", "tests.bench.fanout.relay_server", "--console", "none", *journal, *more]
    return RelayServer("relay", work, cpu, 0, program=program, framing=8)


def _stream(
    server: RelayServer,
    engine: Engine | None,
    cpu: int | None,
    work: Path,
    readers: int,
    events: int,
    rate: float,
    publisher: RelayServer | None = None,
) -> Run:
    """Publish *events* to *readers* of one job; CPU is that of a delivery, and the engine's that of a record."""
    engines, publisher = [] if engine is None else engine.pids, publisher or server
    [path] = publisher.paths("t", 0)
    paths = [f"{path}?last_event_id={position(server)}"]
    with Load(server.port, paths, readers, cpu, work, "--expect", events, "--timeout", 120) as load:
        load.line()
        settle(server.pids)
        before, engine_before = cpu_seconds(server.pids), cpu_seconds(engines)
        publisher.publish("t", 0, events, rate, 0, "yield")
        done = load.line()
        settle(server.pids)
        used, engine_used = cpu_seconds(server.pids) - before, cpu_seconds(engines) - engine_before
    return {
        "us": 1e6 / done["deliveries_per_s"],
        "p50_ms": done["p50_ms"],
        "p99_ms": done["p99_ms"],
        "cpu_us": used / (readers * events) * 1e6,
        "engine_us": engine_used / events * 1e6,
        "lacking": float(abs(readers * events - done["frames"]) + done["gaps"] + done["dups"]),
    }


def _one_more(events: int, readers: int) -> Run:
    """The cost of a second node that owns nothing, for records that the first one publishes."""
    with _relay(KINDS[1]) as (first, engine, cpu, work):
        alone = _stream(first, engine, cpu, work, 1, events, 0)
        with _server(work / "more", None, engine, "--passive") as second:
            settle(second.pids)
            before = cpu_seconds(second.pids)
            both = _stream(first, engine, cpu, work, 1, events, 0)
            settle(second.pids)
            node = cpu_seconds(second.pids) - before
            there = _stream(second, engine, cpu, work, readers, events // 10, 50, publisher=first)
    return {
        "node_us": node / events * 1e6,
        "delivery_us": there["cpu_us"],
        "engine_us": both["engine_us"] - alone["engine_us"],
        "p99_ms": there["p99_ms"],
        "lacking": alone["lacking"] + both["lacking"] + there["lacking"],
    }
