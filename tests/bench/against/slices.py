"""The relay of now, that of a release and the loop in C, side by side: all run, and they work in turns, a slice each.

A slice takes a fraction of a second, so that whatever else the machine does falls on all three alike; figures are CPU
time, so that waiting for a processor is nobody's cost. Of a release this needs `python -m
tests.bench.fanout.relay_server`, with the options and the orders that it has had since 0.2.0 (`control`).
"""

import sys
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, TypeAlias

from tests.bench.against.verdict import Beside
from tests.bench.fanout.accounting import cpu_seconds, memory_bytes, settle
from tests.bench.fanout.control import Order
from tests.bench.fanout.measure import processors
from tests.bench.fanout.servers import RelayServer, Server, start
from tests.bench.fanout.tools import ROOT, Load

__all__ = ["FIGURES", "Say", "beside"]

Say: TypeAlias = Callable[[str], object]

NOW: Final = "now"
RELEASE: Final = "the release"
LIMIT: Final = "C"

ACCEPTED: Final = "accepting a stream"
MEMORY: Final = "memory of an idle stream"
DELIVERED: Final = "a delivery, 500 readers of one job"
RECORDED: Final = "a record and its delivery, 200 jobs with a reader each"

FIGURES: Final[Mapping[str, str]] = {ACCEPTED: "us", MEMORY: "KB", DELIVERED: "us", RECORDED: "us"}
"""Each that is compared, and its unit."""

NOT_JUDGED: Final = {MEMORY}
"""The system may reclaim pages of one process and not of the other: the same code had once 1.35 times as much."""

JOBS: Final = 200
READERS: Final = 500
EVENTS: Final = 20
EVENTS_A_JOB: Final = 3
APART: Final = 0.01
"""Seconds between records of one job, longer than a commit gathers: each is written by itself, also where the machine
is so busy that a server which paced itself would be late, and would join them."""

OPENED: Final = 100

Samples: TypeAlias = dict[tuple[str, str], list[float]]
"""By figure and side."""


def beside(release: Path, slices: int, say: Say, now: Path = ROOT) -> list[Beside]:
    """Measure the checkouts *now* and *release* in so many slices each.

    A figure whose server broke down has no samples of that side; *say* is given the reason.
    """
    found: Samples = {}
    with _running({NOW: now, RELEASE: release}, say) as sides:
        for step in (_accept, _deliver, _record):
            try:
                step(sides, slices, found)
            except (OSError, RuntimeError) as error:
                say(f"compare: {type(error).__name__}: {error}")
    return [
        Beside(
            name=name,
            unit=unit,
            now=found.get((name, NOW), ()),
            release=found.get((name, RELEASE), ()),
            limit=found.get((name, LIMIT), ()) if unit == "us" else (),
            judged=name not in NOT_JUDGED,
        )
        for name, unit in FIGURES.items()
    ]


class _Side:
    """One server that runs, with room for files of its clients."""

    def __init__(self, server: Server, cpu: int | None, work: Path) -> None:
        self.server, self._cpu, self._work = server, cpu, work
        self._loads = 0

    def load(self, topics: int, clients: int, *more: str | int) -> Load:
        """Readers of the jobs, not yet connected."""
        self._loads += 1
        work = self._work / str(self._loads)
        work.mkdir()
        return Load(self.server.port, self.server.paths("t", topics), clients, self._cpu, work, *more)

    def cost(self, act: Callable[[], object]) -> float:
        """Seconds of CPU time that *act* costs the server, with all that follows from it."""
        settle(self.server.pids)
        before = cpu_seconds(self.server.pids)
        act()
        settle(self.server.pids)
        return cpu_seconds(self.server.pids) - before

    def publish(self, orders: Sequence[Order]) -> None:
        """Let it emit what is ordered, one order after another."""
        for order in orders:
            self.server.publish(order.topic, order.topics, order.events, order.rate, order.size, order.mode)
            time.sleep(APART)

    @property
    def memory(self) -> int:
        return memory_bytes(self.server.pids)


class _Elsewhere(RelayServer):
    """The relay of another checkout."""

    def __init__(self, place: Path, name: str, work: Path, cpu: int | None) -> None:
        program = [sys.executable, "-m", "tests.bench.fanout.relay_server"]
        super().__init__(name, work, cpu, JOBS, program=program, framing=8)
        self.place = place


@contextmanager
def _running(places: Mapping[str, Path], say: Say) -> Generator[dict[str, _Side]]:
    """All three, each by its name, but for one that does not start."""
    with ExitStack() as stack:
        server_cpu, client_cpu = stack.enter_context(processors())
        work = Path(stack.enter_context(TemporaryDirectory(prefix="relay-bench-compare-")))
        makes: dict[str, Callable[[Path], Server]] = {
            name: partial(_elsewhere, place, name, server_cpu) for name, place in places.items()
        }
        makes[LIMIT] = lambda files: start("c-limit", files, server_cpu, JOBS)
        sides: dict[str, _Side] = {}
        for count, (name, make) in enumerate(makes.items()):
            try:
                server = stack.enter_context(make(work / f"server{count}"))
            except (OSError, RuntimeError) as error:
                say(f"compare: {name}: {error}")
                continue
            clients = work / f"clients{count}"
            clients.mkdir()
            sides[name] = _Side(server, client_cpu, clients)
        yield sides


def _elsewhere(place: Path, name: str, cpu: int | None, work: Path) -> Server:
    work.mkdir()
    return _Elsewhere(place, name, work, cpu)


def _in_turn(sides: Mapping[str, _Side], slices: int) -> Iterator[tuple[str, _Side]]:
    """Every side once and then in the opposite order, and so on."""
    order = list(sides.items())
    for number in range(slices):
        yield from order if number % 2 == 0 else order[::-1]


def _accept(sides: Mapping[str, _Side], slices: int, found: Samples) -> None:
    """Connections that stay: what accepting each costs, and what it weighs. The first slice only warms up."""
    with ExitStack() as loads:

        def open_more(side: _Side) -> None:
            load = loads.enter_context(side.load(0, OPENED, "--hold", "--timeout", 600))
            if refused := load.line()["bad"]:
                raise RuntimeError(f"{side.server.name} refused {refused} streams")

        before: dict[str, int] = {}
        for name, side in _in_turn(sides, slices + 1):
            cost = side.cost(partial(open_more, side))
            if name not in before:
                before[name] = side.memory
                continue
            _sample(found, ACCEPTED, name, cost / OPENED * 1e6)
        for name, side in sides.items():
            _sample(found, MEMORY, name, (side.memory - before[name]) / slices / OPENED / 1024)


def _deliver(sides: Mapping[str, _Side], slices: int, found: Samples) -> None:
    """Records of one job, each written by itself to all of its readers."""
    _publish(sides, slices, found, DELIVERED, READERS, [Order("t", 0, 1, 0, 0, "yield")] * EVENTS)


def _record(sides: Mapping[str, _Side], slices: int, found: Samples) -> None:
    """Records of many jobs, each with a reader, as fast as they go with a turn of the loop after each."""
    _publish(sides, slices, found, RECORDED, JOBS, [Order("t", JOBS, JOBS * EVENTS_A_JOB, 0, 0, "yield")])


def _publish(
    sides: Mapping[str, _Side],
    slices: int,
    found: Samples,
    figure: str,
    readers: int,
    orders: Sequence[Order],
) -> None:
    topics = orders[0].topics
    each = sum(order.events for order in orders) // max(1, topics)
    deliveries = each * readers
    with ExitStack() as loads:
        expect = ("--expect", each * (slices + 1), "--timeout", 600)
        connected = {name: loads.enter_context(side.load(topics, readers, *expect)) for name, side in sides.items()}
        for load in connected.values():
            load.line()
        warm: set[str] = set()
        for name, side in _in_turn(sides, slices + 1):
            cost = side.cost(partial(side.publish, orders))
            if name in warm:
                _sample(found, figure, name, cost / deliveries * 1e6)
            warm.add(name)
        for name, load in connected.items():
            done = load.line()
            if done["frames"] != deliveries * (slices + 1):
                raise RuntimeError(f"{name} delivered {done['frames']} of {deliveries * (slices + 1)} records")


def _sample(found: Samples, figure: str, side: str, value: float) -> None:
    found.setdefault((figure, side), []).append(value)
