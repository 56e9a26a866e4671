"""What is measured of a server: steady streams, bursts, many topics, idle connections, one reader that is stuck."""

import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, TypeAlias

from msgspec import Struct

from tests.bench.fanout.accounting import cpu_seconds, memory_bytes, queued_bytes, settle
from tests.bench.fanout.events import frame_size
from tests.bench.fanout.servers import Server
from tests.bench.fanout.stall import Stall
from tests.bench.fanout.tools import Load

__all__ = ["QUICK", "SCENARIOS", "Fan", "Figures", "Idle", "Scenario", "Stuck"]

Figures: TypeAlias = dict[str, Any]
"""What one run of a scenario found, by name; times end in `_s`, `_ms` or `_us`, and so on."""


class Fan(Struct, frozen=True, kw_only=True):
    """Events go out to clients that read. *topics* 0 is one topic for all; *rate* 0 is as fast as it goes."""

    title: str
    clients: int
    topics: int = 0
    events: int
    rate: float = 0
    mode: str = "yield"
    timeout: float = 120

    def run(self, server: Server, cpu: int | None, work: Path) -> Figures:
        each = self.events // self.topics if self.topics else self.events
        with Load(
            server.port,
            server.paths("t", self.topics),
            self.clients,
            cpu,
            work,
            "--expect",
            each,
            "--timeout",
            self.timeout,
        ) as load:
            ready = load.line()
            settle(server.pids)
            pids = server.pids
            before = cpu_seconds(pids)
            server.publish("t", self.topics, self.events, self.rate, 0, self.mode)
            done = load.line()
            settle(pids)
            used = cpu_seconds(pids) - before
        frames = done["frames"]
        return {
            "clients": ready["conns"],
            "refused": ready["bad"],
            "frames": frames,
            "missing": self.clients * each - frames,
            "gaps": done["gaps"],
            "dups": done["dups"],
            "bytes_a_frame": done["frame_bytes"] / max(1, frames),
            "cpu_us": used / max(1, frames) * 1e6,
            "cpu_us_an_event": used / self.events * 1e6,
            "deliveries_per_s": done["deliveries_per_s"],
            "p50_ms": done["p50_ms"],
            "p99_ms": done["p99_ms"],
            "max_ms": done["max_ms"],
            "client_cpu_s": done["client_cpu_s"],
            "client_reads": done["reads"],
        }


class Idle(Struct, frozen=True, kw_only=True):
    """Connections that hear nothing but heartbeats: their memory, what accepting one costs, what keeping them costs."""

    title: str
    steps: Sequence[int]
    watch: float
    topics = 0

    def run(self, server: Server, cpu: int | None, work: Path) -> Figures:
        (path,) = server.paths("t", 0)
        hold = ("--hold", "--timeout", 600)
        with Load(server.port, [path], 20, cpu, work, *hold) as warm:
            warm.line()
            settle(server.pids)
        settle(server.pids)
        base, have = memory_bytes(server.pids), 0
        found: Figures = {"base_mb": base / 1e6, "refused": 0, "steps": {}}
        with ExitStack() as loads:
            for want in self.steps:
                before = cpu_seconds(server.pids)
                load = loads.enter_context(Load(server.port, [path], want - have, cpu, work, *hold))
                found["refused"] += load.line()["bad"]
                settle(server.pids)
                found["accept_us"] = (cpu_seconds(server.pids) - before) / (want - have) * 1e6
                found["kb_a_client"] = (memory_bytes(server.pids) - base) / want / 1024
                found["steps"][str(want)] = {key: found[key] for key in ("accept_us", "kb_a_client")}
                have = want
            before, began = cpu_seconds(server.pids), time.monotonic()
            time.sleep(self.watch)
            found["idle_percent"] = (cpu_seconds(server.pids) - before) / (time.monotonic() - began) * 100
            found["kb_a_client_later"] = (memory_bytes(server.pids) - base) / have / 1024
        return {**found, "clients": have}


class Stuck(Struct, frozen=True, kw_only=True):
    """*stuck* of *clients* never read. As many events of this length went out before, to fill what is kept anyway.

    With a *stall* the server and all clients stand still for so many seconds, as on a machine that does, while events
    flow. Those that the server left out, and reported to its reader, are `told`.
    """

    title: str
    clients: int
    stuck: int = 1
    events: int
    rate: float = 0
    pad: int
    stall: float = 0
    topics = 0

    def run(self, server: Server, cpu: int | None, work: Path) -> Figures:
        server.publish("other", 0, self.events, 0, self.pad, "yield")
        settle(server.pids)
        with Load(
            server.port,
            server.paths("t", 0),
            self.clients,
            cpu,
            work,
            "--slow",
            self.stuck,
            "--slow-wait",
            2,
            "--expect",
            self.events,
            "--timeout",
            60 + self.events / self.rate if self.rate else 240,
        ) as load:
            ready = load.line()
            settle(server.pids)
            pids = server.pids
            memory, before = memory_bytes(pids), cpu_seconds(pids)
            with _Watch(pids, ready["slow_ports"]) as watch, Stall([*pids, load.pid], self.stall) as stall:
                server.publish("t", 0, self.events, self.rate, self.pad, "yield")
                done = load.line()
                stall.over = True
                used = cpu_seconds(pids) - before
            end = memory_bytes(pids)
            late = {"frames": 0, "closed_by_server": 0}
            if self.stuck:
                load.drain()
                late = load.line()
        frames = done["frames"]
        return {
            "clients": ready["conns"],
            "refused": ready["bad"],
            "frames": frames,
            "missing": max(0, (self.clients - self.stuck) * self.events - frames),
            "told": done["told"],
            "gaps": done["gaps"],
            "dups": done["dups"],
            "stalled": stall.in_time,
            "cpu_us": used / max(1, frames) * 1e6,
            "p50_ms": done["p50_ms"],
            "p99_ms": done["p99_ms"],
            "max_ms": done["max_ms"],
            "base_mb": memory / 1e6,
            "peak_growth_mb": (watch.memory - memory) / 1e6,
            "end_growth_mb": (end - memory) / 1e6,
            "stream_mb": self.events * frame_size(self.pad) / 1e6,
            "backlog_kb": watch.backlog / 1024,
            "stuck_got": late["frames"],
            "stuck_hung_up": bool(late["closed_by_server"]),
        }


class _Watch:
    """The most memory that *pids* had, and the most that the kernel held for the clients at *ports*."""

    def __init__(self, pids: Sequence[int], ports: Sequence[int]) -> None:
        self.memory = self.backlog = 0
        self._pids, self._ports = pids, ports
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> "_Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while True:
            self.memory = max(self.memory, memory_bytes(self._pids))
            self.backlog = max(self.backlog, queued_bytes(self._ports))
            if self._over.wait(0.1):
                return


Scenario: TypeAlias = Fan | Idle | Stuck

SCENARIOS: Final[dict[str, Scenario]] = {
    "S1": Fan(title="1000 readers of one job, 10 events a second", clients=1000, events=60, rate=10),
    "S1b": Fan(title="100 readers of one job, 50 events a second", clients=100, events=300, rate=50),
    "S1d": Fan(title="10,000 readers of one job, 1 event a second", clients=10_000, events=10, rate=1),
    "S2": Fan(
        title="1000 readers, a burst of 200 events within one turn of the loop", clients=1000, events=200, mode="tight"
    ),
    "S2y": Fan(title="1000 readers, 200 events, a turn of the loop after each", clients=1000, events=200),
    "S3y": Fan(
        title="1000 jobs with a reader each, 20,000 events, a turn of the loop after each",
        clients=1000,
        topics=1000,
        events=20_000,
    ),
    "S4": Idle(title="10,000 idle readers", steps=(1_000, 5_000, 10_000), watch=15),
    "S5": Stuck(title="one reader of 100 never reads, 10,000 events of 1.2 kB", clients=100, events=10_000, pad=800),
}
"""Every scenario by name, as users of the harness know it."""

QUICK: Final[dict[str, Scenario]] = {
    "S1": Fan(title="20 readers of one job, 100 events a second", clients=20, events=20, rate=100),
    "S1b": Fan(title="5 readers of one job, 100 events a second", clients=5, events=20, rate=100),
    "S1d": Fan(title="50 readers of one job, 50 events a second", clients=50, events=10, rate=50),
    "S2": Fan(
        title="20 readers, a burst of 50 events within one turn of the loop", clients=20, events=50, mode="tight"
    ),
    "S2y": Fan(title="20 readers, 50 events, a turn of the loop after each", clients=20, events=50),
    "S3y": Fan(
        title="20 jobs with a reader each, 200 events, a turn of the loop after each",
        clients=20,
        topics=20,
        events=200,
    ),
    "S4": Idle(title="40 idle readers", steps=(20, 40), watch=0),
    "S5": Stuck(title="one reader of 5 never reads, 100 events of 1.2 kB", clients=5, events=100, pad=800),
}
"""The same in small, to see that they still work."""
