"""The laws of a call: a sink is a plain callable that takes every record, at once, and leaves it as it is."""

from collections.abc import Callable
from typing import Any, Final, cast

import msgspec

from relay import Done, Record, UsageError
from relay.bus.callables import never_awaited
from relay.notices import INTERRUPTIONS, shown
from relay.testing.conformance.broken_law import BrokenLawError
from relay.testing.conformance.samples import hostile_records, sample_records
from relay.testing.conformance.sink_trial import SinkTrial
from relay.testing.conformance.waiting import Watch

__all__ = ["CALL_LAWS", "CallLaw"]

CallLaw = Callable[[SinkTrial], None]

_WAY_OUT: Final = "hand the record to a queue, and let a task or thread of its own do the rest (sinks.Queued)"


def contract(trial: SinkTrial) -> None:
    """It is something that a relay takes for a sink: called with one record, or put behind a queue (`as_sink`)."""
    if not callable(trial.sink):
        raise BrokenLawError("it is no sink: a sink is called with one record")


def waits(trial: SinkTrial) -> None:
    """It does not wait: no sleep, no network, no lock, no thread's end."""
    for record in (*sample_records(), *hostile_records()):
        _call(trial, record, _no_wait)


def awaitable(trial: SinkTrial) -> None:
    """It returns nothing that has to be awaited."""
    for record in sample_records():
        _call(trial, record, _no_awaitable)


def events(trial: SinkTrial) -> None:
    """It takes every type of event, of several jobs at a time."""
    for record in sample_records():
        _call(trial, record, _no_error)


def hostile(trial: SinkTrial) -> None:
    """It takes every text, whatever somebody wrote into a prompt or an error."""
    for record in hostile_records():
        _call(trial, record, _no_error)


def nonsense(trial: SinkTrial) -> None:
    """Something that is no record may be an error, and changes nothing: the next record is like any other."""
    *_, error = _called(trial, cast(Record, object()))
    if isinstance(error, INTERRUPTIONS):
        raise BrokenLawError(f"it raised {shown(error)} on something that is no record, which would end the relay")
    for record in trial.bench.story(trial.bench.job(), 3):
        _call(trial, record, _no_error_after)


def publishes(trial: SinkTrial) -> None:
    """It publishes nothing: sinks behind it would receive two records in the wrong order."""
    for record in sample_records():
        watch, *_ = _called(trial, record)
        if watch.published:
            raise BrokenLawError(f"it published on the {_named(record)}; start what publishes in a task of its own")


def alters(trial: SinkTrial) -> None:
    """It leaves the record as it is, its values included: all sinks share it."""
    job = trial.bench.job()
    value = {"list": [1, {"deep": "value"}], "text": "as it was"}
    records = [*sample_records(), trial.bench.record(job, lambda _: Done(result=value))]
    for record in records:
        before = msgspec.json.encode(record.event), record.json, record.seq
        _called(trial, record)
        if (msgspec.json.encode(record.event), record.json, record.seq) != before:
            raise BrokenLawError(f"it altered the {_named(record)}, which every other sink receives too; copy it first")


CALL_LAWS: Final[tuple[CallLaw, ...]] = (*(contract, waits, awaitable, events, hostile, nonsense, publishes, alters),)


def _called(trial: SinkTrial, record: Record) -> tuple[Watch, object, BaseException | None]:
    """What a call came to; a coroutine that it returned is closed."""
    watch = Watch()
    try:
        return watch, watch.run(lambda: trial.sink(record)), None
    except BaseException as error:
        return watch, None, error


def _call(trial: SinkTrial, record: Record, judge: Callable[[Watch, object, BaseException | None, str], None]) -> None:
    watch, result, error = _called(trial, record)
    try:
        if isinstance(error, INTERRUPTIONS):
            raise error
        judge(watch, result, error, _named(record))
    finally:
        if hasattr(result, "close") and _is_asynchronous_result(result):
            cast("Any", result).close()


def _is_asynchronous_result(result: object) -> bool:
    """Whether *result* is a coroutine or a generator, which warns if nobody runs it."""
    return hasattr(result, "send") and hasattr(result, "throw")


def _no_wait(watch: Watch, _result: object, _error: BaseException | None, what: str) -> None:
    if watch.waits:
        raise BrokenLawError(f"it waits on the {what}, in {watch.waits[0]}; {_WAY_OUT}")


def _no_awaitable(_watch: Watch, result: object, _error: BaseException | None, what: str) -> None:
    try:
        never_awaited(result, "it")
    except UsageError:
        raise BrokenLawError(
            f"it returned an awaitable on the {what}, and a sink is never awaited: {_WAY_OUT}"
        ) from None


def _no_error(watch: Watch, _result: object, error: BaseException | None, what: str, law: str = "") -> None:
    if error is not None and not watch.waits:
        raise BrokenLawError(f"it raised {shown(error)} on the {what}; a sink takes every record{law}") from error


def _no_error_after(watch: Watch, result: object, error: BaseException | None, what: str) -> None:
    _no_error(watch, result, error, what, ", also after an error of its own")


def _named(record: Record) -> str:
    return f"{record.event.type!r} record ({record.job} seq {record.seq})"
