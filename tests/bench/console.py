"""The part `console`: what a line costs the thread of the event loop, in CPU time. The output is a pipe."""

import os
import subprocess
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from relay.events import Position, Record
from relay.wire.record_json import stamp
from sinks.console import ConsoleSink, Format
from tests.bench.child import in_child
from tests.bench.fanout.events import progress
from tests.bench.part import Findings, Plan, least, most

__all__ = ["measure"]

GOAL: Final = 8.0
"""Microseconds a line."""

FORMATS: Final[Sequence[Format]] = ("pretty", "json")
WORDS: Final[dict[Format, str]] = {"pretty": "pretty, in colours", "json": "JSON"}


def measure(plan: Plan) -> Findings:
    """Lines in a flood, which the writer takes in batches; and each by itself, so that it is woken every time."""
    lines = 200 if plan.quick else 5_000
    found: dict[Format, list[dict[str, float]]] = {kind: [] for kind in FORMATS}
    for number in range(plan.rounds):
        for kind in FORMATS if number % 2 == 0 else FORMATS[::-1]:
            found[kind].append(in_child(lines_cost, kind, lines))
            plan.say(f"console {number + 1} {kind}: {found[kind][-1]}")
    figures = []
    for kind, runs in found.items():
        flood, single, cold, lost = ([run[key] for run in runs] for key in ("flood_us", "single_us", "cold_us", "lost"))
        figures += [
            least(f"a line, {WORDS[kind]}, in a flood", "us", flood, goal=GOAL),
            least(f"a line, {WORDS[kind]}, each by itself", "us", single, goal=GOAL, note="wakes the writer"),
            least(f"a line, {WORDS[kind]}, after 1 ms of sleep", "us", cold, note="processor and caches asleep"),
            most(f"lines lost, {WORDS[kind]}", "", lost, goal=0),
        ]
    return Findings(figures=figures, rows=[{"format": kind, "runs": runs} for kind, runs in found.items()])


def lines_cost(kind: Format, lines: int) -> dict[str, float]:
    """Microseconds of CPU time of this thread for a line, and how many *lines* of each way did not arrive."""
    os.environ["FORCE_COLOR"] = "1"
    records = [_record(number) for number in range(lines)]
    few = records[: lines // 10]
    out, into = os.pipe()
    with subprocess.Popen(["wc", "-l"], stdin=out, stdout=subprocess.PIPE) as reader:
        os.close(out)
        assert reader.stdout is not None
        with open(into, "w") as stream:
            sink = ConsoleSink(stream, format=kind, capacity=lines)
            _one_by_one(sink, few, 0)
            single = _one_by_one(sink, records, 0) - _one_by_one(_nothing, records, 0)
            cold = _one_by_one(sink, few, 0.001) - _one_by_one(_nothing, few, 0)
            flood = _together(sink, records)
            sink.close()
        arrived = int(reader.stdout.read())
    return {
        "flood_us": flood / lines * 1e6,
        "single_us": single / lines * 1e6,
        "cold_us": cold / len(few) * 1e6,
        "lost": 2 * (len(few) + lines) - arrived,
    }


def _one_by_one(sink: Callable[[Record], None], records: Sequence[Record], pause: float) -> float:
    used = 0.0
    for record in records:
        time.sleep(pause)
        before = time.thread_time()
        sink(record)
        used += time.thread_time() - before
        _rest(sink)
    return used


def _together(sink: ConsoleSink, records: Sequence[Record]) -> float:
    before = time.thread_time()
    for record in records:
        sink(record)
    used = time.thread_time() - before
    _rest(sink)
    return used


def _rest(sink: Callable[[Record], None]) -> None:
    """Wait until the writer has nothing left to do."""
    while isinstance(sink, ConsoleSink) and sink.waiting:
        time.sleep(0)


def _nothing(record: Record) -> None:
    """What looking at the clock costs."""


def _record(number: int) -> Record:
    at = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(milliseconds=17 * number)
    return stamp(f"job_{number % 10:016x}", number // 10 + 1, at, progress(number), Position("01234567", number + 1))
