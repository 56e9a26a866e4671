"""The part `journal`: what keeping a record costs, in time, in memory and in the file; and following a job."""

import asyncio
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from relay import Relay
from relay.bus import Bus
from relay.events import Record
from relay.jobs import Job
from relay.journal import MemoryJournal, SqliteJournal
from tests.bench.child import in_child
from tests.bench.fanout.accounting import memory_bytes
from tests.bench.fanout.events import progress
from tests.bench.fanout.silent import Silent
from tests.bench.part import Figure, Findings, Plan, least, most, ratio
from tests.bench.stories import ALL, Kind, journal

__all__ = ["measure"]

GATHERED: Final = 0

TOGETHER: Final[Mapping[Kind, Sequence[int]]] = {
    "SQLite": (GATHERED, 1, 10, 100, 1_000),
    "memory": (GATHERED, 1, 100),
}
"""How many records make one commit: as many as pollers bring one by one while the journal gathers; one; or an answer
about so many jobs."""

GOALS: Final[Mapping[tuple[Kind, int], float]] = {("memory", 1): 7, ("SQLite", GATHERED): 16, ("SQLite", 1): 80}
"""Microseconds a record."""

READERS: Final = (1, 10, 100, 1_000)


def measure(plan: Plan) -> Findings:
    """Publish to both journals in turn; then weigh what they keep."""
    records, jobs = (400, 100) if plan.quick else (20_000, 10_000)
    cases: list[tuple[Kind, int]] = [(kind, together) for kind, sizes in TOGETHER.items() for together in sizes]
    if plan.goals:
        cases = list(GOALS)
    times: dict[tuple[Kind, int], list[dict[str, float]]] = {case: [] for case in cases}
    weights: list[dict[str, float]] = []
    for number in range(plan.rounds):
        for kind, together in cases if number % 2 == 0 else cases[::-1]:
            found = in_child(cost, kind, together, records)
            times[kind, together].append(found)
            plan.say(f"journal {number + 1} {kind}, {together} a commit: {found['cpu_us']:.1f} us a record")
        if plan.goals:
            continue
        weights.append(
            {
                "memory_bytes": in_child(memory_of_a_record, 5 * records),
                "file_bytes": in_child(file_of_a_record, 5 * records),
                "job_bytes": in_child(memory_of_a_job, jobs),
            }
        )
        plan.say(f"journal {number + 1}: {weights[-1]}")
    if plan.goals:
        return Findings(figures=[*_costs(times), _lost(times)])
    return Findings(
        figures=[*_costs(times), *_times(times), *_shares(times), *_weights(weights, 5 * records, jobs), _lost(times)],
        rows=[
            *({"journal": kind, "together": together, "runs": runs} for (kind, together), runs in times.items()),
            {"weights": weights},
        ],
    )


def _costs(times: Mapping[tuple[Kind, int], Sequence[Mapping[str, float]]]) -> list[Figure]:
    return [
        least(f"CPU of a record, {_case(*case)}", "us", [run["cpu_us"] for run in runs], goal=GOALS.get(case))
        for case, runs in times.items()
    ]


def _times(times: Mapping[tuple[Kind, int], Sequence[Mapping[str, float]]]) -> list[Figure]:
    cpu = {case: [run["cpu_us"] for run in runs] for case, runs in times.items()}
    figures = [
        least(f"loop held by a record, {_case(*case)}", "us", [run["held_us"] for run in runs])
        for case, runs in times.items()
        if case in (("memory", 1), ("SQLite", 1), ("SQLite", 1_000))
    ]
    for together in TOGETHER["memory"]:
        name = f"CPU of a record, SQLite / memory, {_commit(together)}"
        figures.append(ratio(name, cpu["SQLite", together], cpu["memory", together]))
    return figures


def _shares(times: Mapping[tuple[Kind, int], Sequence[Mapping[str, float]]]) -> list[Figure]:
    """What SQLite adds to a lone record, which has a commit to itself, divided among those who read it."""
    sqlite, memory = (min(run["cpu_us"] for run in times[kind, 1]) for kind in TOGETHER)
    extra = sqlite - memory
    return [
        Figure(name=f"SQLite's share of a delivery, readers: {readers:,}", value=extra / readers, unit="us", note=note)
        for readers, note in zip(READERS, ("what a lone record costs more, over readers", *[""] * 3), strict=True)
    ]


def _weights(weights: Sequence[Mapping[str, float]], records: int, jobs: int) -> list[Figure]:
    return [
        least("memory of a record, memory", "B", [run["memory_bytes"] for run in weights], note=f"of {records:,}"),
        least("file of a record, SQLite", "B", [run["file_bytes"] for run in weights], note=f"of {records:,}"),
        least(
            "memory of a followed job",
            "B",
            [run["job_bytes"] for run in weights],
            note=f"of {jobs:,}, each with 2 records",
        ),
    ]


def _lost(times: Mapping[tuple[Kind, int], Sequence[Mapping[str, float]]]) -> Figure:
    return most("records that no sink heard", "", [run["lost"] for runs in times.values() for run in runs], goal=0)


def _case(kind: Kind, together: int) -> str:
    return f"{kind}, {_commit(together)}"


def _commit(together: int) -> str:
    if together == GATHERED:
        return "one by one, gathered"
    return "a commit each" if together == 1 else f"{together:,} a commit"


def cost(kind: Kind, together: int, records: int) -> dict[str, float]:
    """Microseconds of CPU time that publishing one record takes, all threads counted, and of time for the caller.

    The journal keeps what it keeps by default, and is as full as that allows after the first few rounds.
    """
    heard = count()

    def hear(_: Record) -> None:
        next(heard)

    with journal(kind) as kept, (bus := Bus(kept)).subscribe(hear):
        jobs = [Job(f"job_{number:016x}") for number in range(max(1, together))]
        publish = _publish if together != GATHERED else _publish_one_by_one
        first = publish(bus, jobs, records // 10)
        cpu, held = time.process_time(), time.perf_counter()
        published = publish(bus, jobs, records)
        cpu, held = time.process_time() - cpu, time.perf_counter() - held
    lost = first + published - next(heard)
    return {"cpu_us": cpu / published * 1e6, "held_us": held / published * 1e6, "lost": lost}


def _publish(bus: Bus, jobs: Sequence[Job], records: int) -> int:
    rounds = max(1, records // len(jobs))
    for number in range(rounds):
        with bus.batch():
            for job in jobs:
                bus.publish(job, progress(number))
    return rounds * len(jobs)


def _publish_one_by_one(bus: Bus, jobs: Sequence[Job], records: int) -> int:
    """As pollers do: each with a turn of the loop of its own, and free to share a commit."""

    async def publish() -> None:
        for number in range(records):
            with bus.batch(deferrable=True):
                bus.publish(jobs[0], progress(number))
            await asyncio.sleep(0)
        with bus.batch():
            pass

    asyncio.run(publish())
    return records


def memory_of_a_record(records: int) -> float:
    """Bytes that the process grows by for each record in memory, of 100 jobs."""
    bus, jobs = Bus(MemoryJournal(ALL)), [Job(f"job_{number:016x}") for number in range(100)]
    _publish(bus, jobs, 1_000)
    before = memory_bytes([os.getpid()])
    published = _publish(bus, jobs, records)
    return (memory_bytes([os.getpid()]) - before) / published


def file_of_a_record(records: int) -> float:
    """Bytes of the closed file for each record in it, of 100 jobs."""
    with TemporaryDirectory(prefix="relay-bench-") as directory:
        path = Path(directory) / "relay.db"
        with closing(SqliteJournal(path, ALL)) as kept:
            published = _publish(Bus(kept), [Job(f"job_{number:016x}") for number in range(100)], records)
        return path.stat().st_size / published


def memory_of_a_job(jobs: int) -> float:
    """Bytes that a relay with SQLite grows by for each job that it follows, with an answer about each."""
    return asyncio.run(_memory_of_a_job(jobs))


async def _memory_of_a_job(jobs: int) -> float:
    silent = Silent()
    with journal("SQLite") as kept:
        async with Relay([silent], journal=kept) as relay:
            relay.follow(silent.name, "first")
            await silent.asked.wait()
            before = memory_bytes([os.getpid()])
            with relay.bus.batch():
                followed = [relay.follow(silent.name, f"task_{number:016x}") for number in range(jobs - 1)]
            with relay.bus.batch():
                for job in followed:
                    relay.bus.publish(job, progress(42))
            return (memory_bytes([os.getpid()]) - before) / (jobs - 1)
