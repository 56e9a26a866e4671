"""Each law of a sink catches a sink that is right but for one thing, by its name, and no other law does."""

import asyncio
import contextlib
import json
import os
import signal
import threading
from collections.abc import Callable, Collection
from typing import Any, Self

import pytest

from relay import Bus, DraftsFetch, Job, MemoryJournal, Record
from relay.events import Log, at_least
from relay.testing import SINK_LAWS, ScriptedFarEnd, SinkReport, check_sink
from tests.testing.conformance.right_sink import CANARY, RightSink

FLOODS = ("memory", "bounded", "loss_reported", "coalesces")


class Generates(RightSink):
    def __call__(self, record: Record) -> Any:
        yield record


class Waits(RightSink):
    def __call__(self, record: Record) -> object:
        with contextlib.suppress(RuntimeError):
            threading.Event().wait(0.0)
        return super().__call__(record)


class Later:
    def __await__(self) -> Any:
        return iter(())


class ReturnsAnAwaitable(RightSink):
    def __call__(self, record: Record) -> object:
        super().__call__(record)
        return Later()


class KnowsNoDraftsFetch(RightSink):
    def __call__(self, record: Record) -> object:
        if isinstance(record.event, DraftsFetch):
            raise ValueError("a new type of event")
        return super().__call__(record)


class KnowsNoHalfPair(RightSink):
    def __call__(self, record: Record) -> object:
        if isinstance(record.event, Log):
            record.event.line.encode("ascii" if record.job.startswith("job_hostile") else "utf-8")
        return super().__call__(record)


class GivesUpForGood(RightSink):
    given_up = False

    def __call__(self, record: Record) -> object:
        if self.given_up:
            raise RuntimeError("given up")
        try:
            return super().__call__(record)
        except AttributeError:
            self.given_up = True
            raise


class EndsTheProcess(RightSink):
    def __call__(self, record: Record) -> object:
        if not isinstance(record, Record):
            raise SystemExit(1)
        return super().__call__(record)


class Publishes(RightSink):
    bus = Bus(MemoryJournal())

    def __call__(self, record: Record) -> object:
        if getattr(record, "terminal", False):
            self.bus.publish(Job(record.job), record.event)
        return super().__call__(record)


class Alters(RightSink):
    def __call__(self, record: Record) -> object:
        if isinstance(result := getattr(record.event, "result", None), dict):
            result.clear()
        return super().__call__(record)


class DeliversNothing(RightSink):
    async def deliver(self, record: Record) -> None:
        self.failed += 1


class LosesOne(RightSink):
    async def deliver(self, record: Record) -> None:
        if record.seq != 37:
            return await super().deliver(record)
        self.delivered += 1


class SendsOneTwice(RightSink):
    async def deliver(self, record: Record) -> None:
        await super().deliver(record)
        if record.seq == 37:
            await self.send(self.encode(record), "again")


class SwapsTwo(RightSink):
    lanes = 2

    def __call__(self, record: Record) -> object:
        super().__call__(record)
        if record.seq == 9 and len(self.waiting_records) > 4:
            one = next(one for one in self.waiting_records if one.job == record.job and one.seq == 8)
            self.waiting_records.remove(one)
            self.waiting_records.append(one)
        return None


class SwapsJobs(RightSink):
    def __call__(self, record: Record) -> object:
        super().__call__(record)
        queue = self.waiting_records
        if record.seq == 9 and len(queue) > 4 and queue[-2].job != record.job:
            queue[-1], queue[-2] = queue[-2], queue[-1]
        return None


class FollowsOneJob(RightSink):
    jobs: tuple[str, str] = ("", "")

    def passes(self, record: Record) -> bool:
        if record.job != self.jobs[1]:
            returned = record.job == self.jobs[0]
            self.jobs = (self.jobs[1], record.job)
            return not returned
        return True


class WritesWhenMade(RightSink):
    def __init__(self, far_end: ScriptedFarEnd, **options: Any) -> None:
        super().__init__(far_end, **options)
        asyncio.get_running_loop().call_soon(far_end._taken.extend, b'{"type":"hello"}\n')


class WritesOnWhenLeft(RightSink):
    async def aclose(self) -> None:
        await super().aclose()
        if self.delivered == 40:
            taken = self.far_end._taken
            asyncio.get_running_loop().call_later(1.0, lambda: taken.extend(b'{"type":"bye"}\n'))


class SendsTheEndFirst(RightSink):
    def accept(self, record: Record) -> None:
        super().accept(record)
        if record.terminal:
            self.waiting_records.rotate(1)


class FiltersTheEnd(RightSink):
    def passes(self, record: Record) -> bool:
        return at_least(record.event.level, self.level)


class FiltersNothing(RightSink):
    def passes(self, record: Record) -> bool:
        return True


class WantsTheFirstRecord(RightSink):
    def __init__(self, far_end: ScriptedFarEnd, **options: Any) -> None:
        super().__init__(far_end, **options)
        self.begun: set[str] = set()

    def passes(self, record: Record) -> bool:
        if record.seq == 1:
            self.begun.add(record.job)
        return record.job in self.begun and super().passes(record)


class DropsAllAfterAnError(RightSink):
    broken = False

    def __call__(self, record: Record) -> object:
        try:
            return None if self.broken else super().__call__(record)
        except AttributeError:
            self.broken = True
            raise


class IsEnteredOnce(RightSink):
    entered = False

    async def __aenter__(self) -> Self:
        if not self.entered:
            await super().__aenter__()
        self.entered = True
        return self


class ClosesOnce(RightSink):
    async def aclose(self) -> None:
        if self.task is None:
            raise RuntimeError("closed already")
        await super().aclose()


class ClosesUnlessCancelled(RightSink):
    async def drain(self, task: "asyncio.Task[None]") -> None:
        try:
            await super().drain(task)
        except asyncio.CancelledError:
            self.beat = None
            raise


class ReleasesSometimes(RightSink):
    after_cancellations = True
    entering = False

    async def connect(self) -> None:
        self.entering = True
        await super().connect()
        self.entering = False

    async def release(self) -> None:
        task = asyncio.current_task()
        cancelled = task is not None and task.cancelling() > 0
        if not self.entering or cancelled is self.after_cancellations:
            await super().release()


class ReleasesAfterErrorsAlone(ReleasesSometimes):
    after_cancellations = False


class ReleasesAfterCancellationsAlone(ReleasesSometimes):
    pass


class SleepsAtTheEnd(RightSink):
    async def drain(self, task: "asyncio.Task[None]") -> None:
        await asyncio.sleep(1.0)
        await super().drain(task)


class LeavesATask(RightSink):
    async def release(self) -> None:
        self.beat = None


class LeavesAThread(RightSink):
    async def __aenter__(self) -> Self:
        self.gate = threading.Event()
        threading.Thread(target=self.gate.wait, name="left behind", daemon=True).start()
        THINGS_LEFT.append(self.gate.set)
        return await super().__aenter__()


class LeavesADescriptor(RightSink):
    async def __aenter__(self) -> Self:
        fd = os.open(os.devnull, os.O_RDONLY)
        THINGS_LEFT.append(lambda: os.close(fd))
        return await super().__aenter__()


class LeavesASignalHandler(RightSink):
    async def __aenter__(self) -> Self:
        before = signal.signal(signal.SIGUSR2, lambda *_: None)
        THINGS_LEFT.append(lambda: signal.signal(signal.SIGUSR2, before))
        return await super().__aenter__()


THINGS_LEFT: list[Callable[[], Any]] = []


class WaitsForEverAtTheEnd(RightSink):
    async def drain(self, task: "asyncio.Task[None]") -> None:
        await asyncio.wait([task])


class IsTiredAfterACut(RightSink):
    cut = False

    def give_up(self) -> None:
        self.cut = self.cut or self.under_way > 0
        super().give_up()

    def passes(self, record: Record) -> bool:
        return not self.cut and super().passes(record)


class ForgetsALongQueue(RightSink):
    async def drain(self, task: "asyncio.Task[None]") -> None:
        while len(self.waiting_records) > 300:
            self.waiting_records.pop()
            self.delivered += 1
        await super().drain(task)


class KeepsAll(RightSink):
    def __init__(self, far_end: ScriptedFarEnd, **options: Any) -> None:
        super().__init__(far_end, **options)
        self.history: list[Record] = []

    async def deliver(self, record: Record) -> None:
        await super().deliver(record)
        self.history.append(record)


class HasNoBound(RightSink):
    capacity = 1_000_000


class CountsTheEndTwice(RightSink):
    async def deliver(self, record: Record) -> None:
        await super().deliver(record)
        self.delivered += record.terminal


class CountsTheRestAsWaiting(RightSink):
    def give_up(self) -> None:
        self.under_way = len(self.waiting_records) + self.under_way
        self.waiting_records.clear()


class LosesInSilence(RightSink):
    async def report_lost(self) -> None:
        self.lost = 0


class LosesUncounted(RightSink):
    def drop(self, record: Record) -> None:
        pass


class CoalescesAnything(RightSink):
    def make_room(self) -> None:
        self.waiting_records.popleft()
        self.coalesced += 1


class MakesAKeyForEachAttempt(RightSink):
    def key(self, key: str, attempt: int) -> str:
        return f"{key}-{attempt}"


class HasOneKey(RightSink):
    def key(self, key: str, attempt: int) -> str:
        return "the only key"


class EndsWhenRefused(RightSink):
    def met(self, error: Exception) -> None:
        if isinstance(error, ConnectionRefusedError):
            raise error


class EndsAtATimeout(RightSink):
    def met(self, error: Exception) -> None:
        if isinstance(error, TimeoutError):
            raise error


class EndsAtAReset(RightSink):
    def met(self, error: Exception) -> None:
        if isinstance(error, ConnectionResetError):
            raise error


class EndsAtACancelledError(RightSink):
    def cut_off(self, error: asyncio.CancelledError) -> None:
        raise error


class BreaksLines(RightSink):
    def encode(self, record: Record) -> bytes:
        return record.json.replace(rb"\n", b"\n") + b"\n"


class PrintsWhatItGets(RightSink):
    def encode(self, record: Record) -> bytes:
        body = json.loads(record.json)
        words = body.get("line") or body.get("message") or body["text"]
        return f"{record.job} {record.seq} {' '.join(words.split()) or '-'}\n".encode("utf-8", "replace")


class CutsInSilence(RightSink):
    def encode(self, record: Record) -> bytes:
        return record.json[:100_000] + b"\n"


class WritesNaN(RightSink):
    def encode(self, record: Record) -> bytes:
        table = {**json.loads(record.json), "eta": getattr(record.event, "eta", None)}
        return json.dumps(table).encode() + b"\n"


class WritesAKeyTwice(RightSink):
    def encode(self, record: Record) -> bytes:
        return b'{"v":0,' + record.json[1:] + b"\n"


class ShowsItsToken(RightSink):
    def __repr__(self) -> str:
        return f"<ShowsItsToken to far-end.example with {self.token}>"


class QuotesErrors(RightSink):
    def met(self, error: Exception) -> None:
        self.notify(str(error))


class PassesErrorsOn(RightSink):
    async def connect(self) -> None:
        await asyncio.sleep(0)
        await self.far_end.take(b"")


class SendsItsToken(RightSink):
    def encode(self, record: Record) -> bytes:
        return b'{"token":"%b",' % self.token.encode() + record.json[1:] + b"\n"


class HasNoName(RightSink):
    __repr__ = object.__repr__


def checked(
    kind: Callable[..., Any], *, waive: Collection[str] = (), level: str = "debug", plain: bool = False
) -> SinkReport:
    """Check a sink of this *kind*; a *plain* check is without an output and a far end."""
    far_end = ScriptedFarEnd(canary=CANARY)

    def make() -> Any:
        return kind(far_end, level=level)

    if plain:
        return check_sink(make, waive=waive)
    return check_sink(make, far_end=far_end, canary=CANARY, target="far-end.example", waive=waive, patience=0.2)


def test_a_sink_written_by_hand_can_keep_all_laws() -> None:
    report = checked(RightSink)
    assert report.not_exercised.keys() == {"level"}
    assert report.kept == tuple(law for law in SINK_LAWS if law != "level")
    strict = checked(RightSink, level="error")
    assert "level" in strict.kept


BROKEN: list[tuple[Any, str, str, tuple[str, ...]]] = [
    (Waits, "waits", "it waits on the 'accepted' record (job_sample_1 seq 1), in threading.Condition.wait", ()),
    (ReturnsAnAwaitable, "awaitable", "it returned an awaitable on the 'accepted' record", ("replay",)),
    (KnowsNoDraftsFetch, "events", "it raised ValueError('a new type of event') on the 'drafts-fetch' record", ()),
    (KnowsNoHalfPair, "hostile", "it raised UnicodeEncodeError", ()),
    (GivesUpForGood, "nonsense", "RuntimeError('given up') on the 'accepted' record", ("after_error",)),
    (EndsTheProcess, "nonsense", "it raised SystemExit(1) on something that is no record", ("after_error",)),
    (Publishes, "publishes", "it published on the 'cancelled' record", ()),
    (Alters, "alters", "it altered the 'done' record", ()),
    (LosesOne, "once", "1 of 40 records did not arrive, the first seq 37", ("arrives", "drains", *FLOODS)),
    (SendsOneTwice, "once", "1 of 40 records arrived more than once, as did seq 37", ()),
    (SwapsTwo, "ordered", "of one job, seq 8 arrived behind seq 9", ()),
    (SwapsJobs, "ordered_across", "records of different jobs changed places", ()),
    (FollowsOneJob, "interleaved", "with two jobs in turn, 18 of 20 records did not arrive", ()),
    (WritesWhenMade, "before_enter", "it wrote 17 bytes before it was entered", ()),
    (WritesOnWhenLeft, "after_leave", "it wrote on after it was left", ()),
    (SendsTheEndFirst, "terminal", "a 'done' record arrived before others of its job", ()),
    (WantsTheFirstRecord, "replay", "24 of 24 records did not arrive, the first seq 11", ()),
    (DropsAllAfterAnError, "after_error", "after something that is no record, 5 of 5 records did not arrive", ()),
    (IsEnteredOnce, "reentered", "the second time that it was entered, 20 of 20 records", ("cancelled_send",)),
    (ClosesOnce, "closed_twice", "closing it twice at a time raised RuntimeError('closed already')", ()),
    (ClosesUnlessCancelled, "close_cancelled", "its leave was cancelled, and the task 'beat' is left", ()),
    (ReleasesAfterErrorsAlone, "enter_cancelled", "entering it was cancelled, and the task 'beat' is left", ()),
    (ReleasesAfterCancellationsAlone, "enter_failed", "entering it failed, and the task 'beat' is left", ()),
    (SleepsAtTheEnd, "idle", "leaving it took 1.0 s of waiting, with nothing to do", ()),
    (LeavesATask, "leftovers", "it was left, and the task 'beat' is still there", ("close_cancelled", "enter_*")),
    (LeavesAThread, "leftovers", "the thread 'left behind' is still there", ("*",)),
    (LeavesADescriptor, "leftovers", "the descriptor of /dev/null is still there", ("close_cancelled", "enter_*")),
    (LeavesASignalHandler, "leftovers", "a handler of SIGUSR2 is still there", ("close_cancelled", "enter_*")),
    (WaitsForEverAtTheEnd, "frozen_leave", "leaving it took more than 60 seconds", ("cancelled_send", "adds_up")),
    (IsTiredAfterACut, "cancelled_send", "a send was cut off by its leave; entered again, it lost 20", ()),
    (ForgetsALongQueue, "drains", "200 of 500 records were accepted, and neither written nor counted", ()),
    (KeepsAll, "memory", "of 10,000 records, it still holds 10,000", ()),
    (HasNoBound, "bounded", "while its far end is frozen, 12,000 of 12,000 records wait in it", ()),
    (CountsTheEndTwice, "adds_up", "while it works, its counts do not add up: 20 accepted, but 21 delivered", ()),
    (CountsTheRestAsWaiting, "adds_up", "it was left, and counts 20 records that wait", ()),
    (LosesInSilence, "loss_reported", "records are lost, and no output and no notice says so", ()),
    (LosesUncounted, "loss_reported", "records, which it counts nowhere", ()),
    (CoalescesAnything, "coalesces", "coalescing cost the 'log' record", ()),
    (MakesAKeyForEachAttempt, "same_key", "a retry had another idempotency key", ()),
    (HasOneKey, "same_key", "two deliveries had one idempotency key", ()),
    (EndsWhenRefused, "down", "its far end was in trouble (it refuses every connection) and is back", ()),
    (EndsAtATimeout, "frozen", "its far end was in trouble (it takes connections and never answers) and is back", ()),
    (EndsAtAReset, "half_closed", "the connection breaks before its answer) and is back", ("same_key",)),
    (EndsAtACancelledError, "cancelled_work", "raises CancelledError by itself) and is back", ()),
    (BreaksLines, "one_each", "with the text 'two\\nlines\\r\\nand more\\rover it', 5 records are not 5 documents", ()),
    (PrintsWhatItGets, "control_bytes", "it wrote U+001B, which acts on a terminal", ()),
    (CutsInSilence, "large", "of a record of 219 KiB it wrote 100,001 characters", ()),
    (WritesNaN, "strict_json", "its JSON is not strict: NaN is no JSON", ()),
    (WritesAKeyTwice, "strict_json", "its JSON is not strict: an object has a key twice", ()),
    (ShowsItsToken, "secrets", "its secret is in its repr", ()),
    (QuotesErrors, "secrets", "its secret is in a notice or a log line", ()),
    (PassesErrorsOn, "secrets", "its secret is in an error that it raised", ()),
    (SendsItsToken, "secrets", "its secret is in its output", ()),
    (HasNoName, "named", "its repr is <tests.testing.conformance.test_sink_laws.HasNoName object at", ()),
]


@pytest.fixture(autouse=True)
def _nothing_left_behind() -> Any:
    yield
    while THINGS_LEFT:
        THINGS_LEFT.pop()()


@pytest.mark.parametrize(("kind", "law", "outcome", "also"), BROKEN, ids=[kind.__name__ for kind, *_ in BROKEN])
def test_a_sink_that_breaks_one_law_is_caught_by_that_law_alone(
    kind: type[RightSink], law: str, outcome: str, also: tuple[str, ...]
) -> None:
    with pytest.raises(AssertionError) as caught:
        checked(kind)
    assert str(caught.value).startswith(f"{kind.__name__} breaks the law {law!r}: ")
    assert outcome in str(caught.value)
    assert CANARY not in str(caught.value)

    if "*" not in also:  # while its thread is at work, no time is skipped
        waived = {law, *(one for one in SINK_LAWS if one in also or ("enter_*" in also and one.startswith("enter_")))}
        assert not waived & set(checked(kind, waive=waived | set(FLOODS)).kept)


@pytest.mark.parametrize(
    ("kind", "law", "outcome", "options"),
    [
        (Generates, "contract", "Generates is asynchronous", {}),
        (DeliversNothing, "arrives", "it delivered none of 40 records", {"plain": True}),
        (FiltersTheEnd, "level", "its level 'error' drops the terminal record 'done'", {"level": "error"}),
        (FiltersNothing, "level", "a record of level 'debug' arrived, and its level is 'error'", {"level": "error"}),
    ],
)
def test_so_is_one_that_takes_other_conditions_to_be_seen(
    kind: type[RightSink], law: str, outcome: str, options: dict[str, Any]
) -> None:
    with pytest.raises(AssertionError) as caught:
        checked(kind, **options)
    assert str(caught.value).startswith(f"{kind.__name__} breaks the law {law!r}: ")
    assert outcome in str(caught.value)


def test_every_law_is_broken_by_a_sink_above() -> None:
    assert {law for _, law, *_ in BROKEN} | {"contract", "arrives", "level"} == set(SINK_LAWS)
