"""The laws of pressure: a flood, a far end in trouble, and an account of every record."""

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

from relay import Progress, Record
from relay.testing.conformance.broken_law import BrokenLawError, NotExercisedError
from relay.testing.conformance.far_end import CONTROLS, Trouble
from relay.testing.conformance.sink_bench import Bench
from relay.testing.conformance.sink_stories import FLOOD, done, flood, monotonous_flood
from relay.testing.conformance.sink_trial import RECOVERED_WITHIN, SinkTrial, turns

__all__ = ["PRESSURE_LAWS"]

MOST: Final = 11_000
"""A queue that holds this many records of a flood counts as bounded."""

MANY: Final = 10_000
TROUBLE: Final = 45.0
"""Seconds that trouble of a far end lasts: longer than an attempt may take."""

FEW: Final = 20


async def memory(bench: Bench) -> None:
    """It keeps no growing memory: of many records, it holds on to few once they are delivered."""
    async with bench.opened() as trial:
        records = flood()[:MANY]
        base = _held(records, 0)
        for begin in range(0, MANY, 100):
            trial.hand(*records[begin : begin + 100])
            trial.handed.clear()
            await turns(3)
        await trial.until(lambda: trial.at_rest, RECOVERED_WITHIN)
        if (held := _held(records, base)) > MANY // 2:
            raise BrokenLawError(f"of {MANY:,} records, it still holds {held:,}; bound what it keeps")


async def bounded(bench: Bench) -> None:
    """A flood fills no more than a bounded queue while the far end answers nothing."""
    bench.must_make("frozen")
    trial = await bench.frozen()
    records = flood()
    base = _held(records, 0)
    trial.hand(*records)
    trial.handed.clear()
    held, tally = _held(records, base), trial.tally()
    waiting = max(held, tally.waiting if tally is not None else 0)
    await _end(trial)
    if waiting > MOST:
        raise BrokenLawError(
            f"while its far end is frozen, {waiting:,} of {FLOOD:,} records wait in it; bound its queue"
        )


async def adds_up(bench: Bench) -> None:
    """At each moment, what it accepted is what it delivered, coalesced, dropped, failed, and lets wait."""
    trial = bench.made()
    if trial.tally() is None:
        raise NotExercisedError("the sink has no counts(), which sinks.Queued has")
    await trial.enter()
    story = bench.story(bench.job(), FEW, done)
    for record in story:
        trial.hand(record)
        await turns(1)
        _check_sum(trial, "while it works")
    if bench.can_make("frozen"):
        await bench.trouble("frozen")
        trial.hand(*bench.story(bench.job(), FEW))
        await turns()
        _check_sum(trial, "while its far end is frozen")
    await trial.leave()
    await bench.peace()
    _check_sum(trial, "once it was left")
    tally = trial.tally()
    if trial.managed and tally is not None and tally.waiting:
        raise BrokenLawError(f"it was left, and counts {tally.waiting} records that wait")


async def loss_reported(bench: Bench) -> None:
    """A loss is counted, and reported where the records are missing or to the operator."""
    bench.must_make("frozen")
    bench.output()
    trial = await bench.frozen()
    trial.hand(*flood())
    await turns()
    flooded = trial.reported()
    await bench.peace()
    after = bench.story(bench.job(), FEW)
    await turns()
    trial.hand(*after)
    await trial.arrived(after)
    await trial.leave()
    tally = trial.tally()
    lost = len(trial.missing()) - (tally.coalesced if tally is not None else 0)
    if not lost:
        raise NotExercisedError(f"the sink lost none of {FLOOD:,} records")
    if not flooded:
        raise BrokenLawError(
            f"a flood cost {lost:,} records, which it counts nowhere; count them in counts() or `missed`"
        )
    beside = trial.beside()
    if not any(f"{number:,}" in beside or str(number) in beside for number in {flooded, trial.reported()}):
        raise BrokenLawError(
            f"{flooded:,} records are lost, and no output and no notice says so; write the number in their place"
        )


async def coalesces(bench: Bench) -> None:
    """Coalescing leaves out progress alone: every change, warning, line and end arrives."""
    bench.must_make("frozen")
    bench.output()
    trial = await bench.frozen()
    trial.hand(*monotonous_flood())
    kept = [record for record in trial.wanted() if not isinstance(record.event, Progress)]
    tally = trial.tally()
    if tally is None or not tally.coalesced:
        await _end(trial)
        raise NotExercisedError('the sink coalesced nothing; give its queue on_full="coalesce"')
    await bench.peace()
    await trial.arrived(kept)
    await trial.leave()
    if lost := trial.missing(kept):
        raise BrokenLawError(
            f"coalescing cost the {lost[0].event.type!r} record; only progress may give way to later progress"
        )


async def same_key(bench: Bench) -> None:
    """Each attempt at the same delivery has the same idempotency key, and no other delivery has it."""
    bench.must_make("half_closed")
    bench.output()
    attempts: Callable[[], list[tuple[str, bytes]]] | None = getattr(bench.asked.far_end, "attempts", None)
    if attempts is None:
        raise NotExercisedError(
            "the far end has no method 'attempts', which returns the key and the data of each attempt"
        )
    begun = len(attempts())
    trial = bench.made()
    await trial.enter()
    await bench.trouble("half_closed")
    story = bench.story(bench.job(), FEW)
    trial.hand(*story[:3])
    await bench.pass_time(20.0)
    await bench.peace()
    trial.hand(*story[3:])
    await trial.arrived(trial.handed)
    await trial.leave()
    made = attempts()[begun:]
    keys: dict[bytes, set[str]] = {}
    for key, data in made:
        if key:
            keys.setdefault(data, set()).add(key)
    if not keys:
        raise NotExercisedError("the attempts have no idempotency key")
    if sum(bool(key) for key, _ in made) == len(keys):
        raise NotExercisedError("the sink tried nothing again")
    if any(len(of_one) > 1 for of_one in keys.values()):
        raise BrokenLawError(
            "a retry had another idempotency key than the attempt before, so a receiver takes both; make the key once"
        )
    users = Counter(key for of_one in keys.values() for key in of_one)
    if users.most_common(1)[0][1] > 1:
        raise BrokenLawError("two deliveries had one idempotency key, so a receiver drops the second")


async def down(bench: Bench) -> None:
    """After an outage of the far end it goes on by itself."""
    await _resumes(bench, "down")


async def frozen(bench: Bench) -> None:
    """After a far end that answered nothing it goes on by itself."""
    await _resumes(bench, "frozen")


async def half_closed(bench: Bench) -> None:
    """After connections that broke before an answer it goes on by itself."""
    await _resumes(bench, "half_closed")


async def cancelled_work(bench: Bench) -> None:
    """A CancelledError that its work raises by itself is a failure like any other, and ends nothing."""
    await _resumes(bench, "cancelling")


PRESSURE_LAWS: Final = (
    *(memory, bounded, adds_up, loss_reported, coalesces, same_key, down, frozen, half_closed, cancelled_work),
)


async def _resumes(bench: Bench, kind: Trouble) -> None:
    bench.must_make(kind)
    bench.output()
    trial = bench.made()
    await trial.enter()
    before = bench.story(bench.job(), FEW)
    trial.hand(*before)
    await turns()
    await bench.trouble(kind)
    trial.hand(*bench.story(bench.job(), FEW))
    await bench.pass_time(TROUBLE)
    await bench.peace()
    after = bench.story(bench.job(), FEW)
    trial.hand(*after)
    back = await trial.arrived(after)
    if not back:
        lost = len(trial.missing(after))
        await trial.abandon()
        raise BrokenLawError(
            f"its far end was in trouble ({CONTROLS[kind]}) and is back; {lost} of {FEW} new records did not arrive"
        )
    await trial.leave()
    missing = len(trial.missing())
    if missing > trial.reported():
        raise BrokenLawError(
            f"of the records that met the trouble ({CONTROLS[kind]}), {missing} did not arrive and are counted nowhere"
        )


async def _end(trial: SinkTrial) -> None:
    await trial.bench.peace()
    await trial.leave()


def _check_sum(trial: SinkTrial, when: str) -> None:
    tally, accepted = trial.tally(), len(trial.accepted())
    if tally is not None and sum(tally) != accepted:
        listed = ", ".join(f"{value} {name}" for name, value in tally._asdict().items())
        raise BrokenLawError(f"{when}, its counts do not add up: {accepted} accepted, but {listed}")


def _held(records: Sequence[Record], base: int) -> int:
    """How many of *records* somebody else holds on to, whole or in part; with no *base*, the base itself."""
    held = 0
    for record in records:
        references = sys.getrefcount(record) + sys.getrefcount(record.json) + sys.getrefcount(record.event)
        if not base:
            return references
        held += references > base
    return held
