"""The laws of delivery: every record once, in order, from the first to the last."""

from collections import Counter
from collections.abc import Sequence
from typing import Final

from msgspec.structs import replace

from relay import Bus, Job, MemoryJournal, Record
from relay.jobs.state import JobState
from relay.testing.conformance.broken_law import BrokenLawError, NotExercisedError
from relay.testing.conformance.read_back import read_back
from relay.testing.conformance.sink_bench import Bench
from relay.testing.conformance.sink_stories import ENDS, accepted, done, log, progress
from relay.testing.conformance.sink_trial import SinkTrial, identity, turns

__all__ = ["DELIVERY_LAWS"]

MANY: Final = 40
"""How many records a law of delivery hands over: far fewer than any queue holds."""


async def arrives(bench: Bench) -> None:
    """At least one record gets through: a sink whose every send fails is not right because it raises nothing."""
    async with bench.opened() as trial:
        trial.hand(*bench.story(bench.job(), MANY, done))
    tally = trial.tally()
    if bench.asked.output is None and tally is None and not hasattr(trial.sink, "missed"):
        raise NotExercisedError("neither output= nor counts() of the sink shows whether anything was delivered")
    if bench.asked.output is not None and trial.wanted() and not trial.written():
        raise BrokenLawError(f"it wrote nothing at all of {len(trial.wanted())} records{_because(trial)}")
    if tally is not None and trial.handed and tally.delivered <= 0:
        raise BrokenLawError(f"it delivered none of {len(trial.handed)} records{_because(trial)}")
    if tally is None and trial.reported() >= len(trial.handed):
        raise BrokenLawError(f"it missed all of {len(trial.handed)} records{_because(trial)}")


async def once(bench: Bench) -> None:
    """Each record arrives, and arrives once."""
    async with bench.opened() as trial:
        trial.hand(*bench.story(bench.job(), MANY))
        _must_want(trial)
    _check_once(trial)


async def ordered(bench: Bench) -> None:
    """The records of a job arrive in order of their seq, whatever other jobs do meanwhile."""
    async with bench.opened() as trial:
        _hand_in_turn(trial, [bench.story(bench.job(), MANY // 4) for _ in range(4)])
    last = Counter[str]()
    for record in trial.found():
        if record.seq < last[record.job]:
            raise BrokenLawError(
                f"of one job, seq {record.seq} arrived behind seq {last[record.job]}; send one at a time for each job"
            )
        last[record.job] = record.seq


async def ordered_across(bench: Bench) -> None:
    """The records of all jobs arrive in the order in which they were published, unless the sink has lanes."""
    async with bench.opened() as trial:
        if getattr(trial.sink, "lanes", 1) != 1:
            raise NotExercisedError("the sink has lanes: order is promised within each job alone")
        _hand_in_turn(trial, [bench.story(bench.job(), MANY // 4) for _ in range(4)])
    place = {identity(record): number for number, record in enumerate(trial.handed)}
    places = [place[identity(record)] for record in trial.found()]
    if places != sorted(places):
        raise BrokenLawError(
            "records of different jobs changed places; a sink that sends several at a time has `lanes`"
        )


async def interleaved(bench: Bench) -> None:
    """A second job beside the first loses nothing."""
    async with bench.opened() as trial:
        _hand_in_turn(trial, [bench.story(bench.job(), 10), bench.story(bench.job(), 10)])
    if (lost := trial.missing()) and not trial.reported():
        raise BrokenLawError(f"with two jobs in turn, {len(lost)} of {len(trial.wanted())} records did not arrive")


async def before_enter(bench: Bench) -> None:
    """Nothing is written before it is entered: to make a sink, as to check a configuration, is no use of it."""
    trial = bench.made()
    trial.must_be_managed()
    await turns()
    if early := trial.written():
        raise BrokenLawError(f"it wrote {len(early)} bytes before it was entered; open and write in __aenter__")


async def after_leave(bench: Bench) -> None:
    """Nothing is written once it was left, also in the middle of a burst."""
    async with bench.opened() as trial:
        trial.must_be_managed()
        trial.hand(*bench.story(bench.job(), MANY))
    before = len(trial.written())
    await bench.pass_time(60.0)
    if len(trial.written()) != before:
        raise BrokenLawError("it wrote on after it was left; end in __aexit__ what still writes")


async def terminal(bench: Bench) -> None:
    """The terminal record of a job arrives, and is the last of that job."""
    async with bench.opened() as trial:
        for end in ENDS:
            trial.hand(*bench.story(bench.job(), 6, end))
    found = trial.found()
    for last in (record for record in trial.wanted() if record.terminal):
        of_job = [record for record in found if record.job == last.job]
        if last not in of_job:
            raise BrokenLawError(f"a {last.event.type!r} record did not arrive; no filter and no queue may drop it")
        if of_job[-1] is not last:
            raise BrokenLawError(
                f"a {last.event.type!r} record arrived before others of its job, which is over with it"
            )


async def level(bench: Bench) -> None:
    """A sink with a level of its own leaves out the records below that, and never a terminal record."""
    trial = bench.made()
    if trial.level in ("debug", "info"):
        raise NotExercisedError(
            "the sink leaves out nothing by itself: make one with the level 'error', if it has levels"
        )
    await trial.enter()
    below, ends = [bench.record(bench.job(), log("debug"))], [bench.record(bench.job(), end) for end in ENDS]
    trial.hand(*below, *ends)
    await trial.leave()
    if lost := trial.missing(ends):
        raise BrokenLawError(
            f"its level {trial.level!r} drops the terminal record {lost[0].event.type!r}; let `record.terminal` pass"
        )
    if read_back(trial.written(), below):
        raise BrokenLawError(f"a record of level 'debug' arrived, and its level is {trial.level!r}")


async def replay(bench: Bench) -> None:
    """A sink that asks for the past gets it, then what is new: it drops neither, and repeats nothing."""
    journal = MemoryJournal()
    bus = Bus(journal, clock=bench.clock)
    job = Job(bench.job(), JobState())
    records = [bus.publish(job, event(bench.mark())) for event in (accepted, *(progress(n) for n in range(30)))]
    # The past is older than the sink by a minute.
    await bench.pass_time(60.0)
    async with bench.opened() as trial:
        # It begins in the middle of the job.
        subscription = bus.subscribe(trial.sink, after=10, name="checked")
        records += [bus.publish(job, event(bench.mark())) for event in (progress(31), progress(32), done)]
        subscription.close()
        if subscription.failures:
            raise BrokenLawError(f"it raised on {subscription.failures} of the records of a replay")
        trial.handed += records[10:]
    _check_once(trial)


async def after_error(bench: Bench) -> None:
    """After an error of its own it works on: the next record arrives."""
    async with bench.opened() as trial:
        try:
            trial.sink(object())
        except Exception:
            await turns(1)
        trial.hand(*bench.story(bench.job(), 5))
    if lost := trial.missing():
        raise BrokenLawError(
            f"after something that is no record, {len(lost)} of {len(trial.wanted())} records did not arrive"
        )


DELIVERY_LAWS: Final = (
    *(level, arrives, once, ordered, ordered_across, interleaved, before_enter, after_leave, terminal, replay),
    after_error,
)


def _check_once(trial: SinkTrial) -> None:
    counted = Counter(identity(record) for record in trial.found())
    twice = [record for record in trial.wanted() if counted[identity(record)] > 1]
    if twice:
        raise BrokenLawError(
            f"{len(twice)} of {len(trial.wanted())} records arrived more than once, as did seq {twice[0].seq}"
        )
    if lost := trial.missing():
        raise BrokenLawError(
            f"{len(lost)} of {len(trial.wanted())} records did not arrive, the first seq {lost[0].seq}{_because(trial)}"
        )


def _hand_in_turn(trial: SinkTrial, stories: Sequence[Sequence[Record]]) -> None:
    """Call the sink with the first record of each story, then with the second ones; positions go up as in a journal."""
    in_turn = [record for records in zip(*stories, strict=True) for record in records]
    positions = sorted((record.position for record in in_turn), key=lambda position: position.offset)
    trial.hand(*(replace(record, position=position) for record, position in zip(in_turn, positions, strict=True)))


def _must_want(trial: SinkTrial) -> None:
    if not trial.wanted():
        raise NotExercisedError("writes= wants none of the records of a running job")


def _because(trial: SinkTrial) -> str:
    return f"; its notice: {trial.spoken.splitlines()[0]}" if trial.spoken else ""
