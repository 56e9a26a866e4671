"""The laws of content: whatever a record holds, the output stays one line or one document each, and holds no secret."""

import json
import re
import traceback
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from relay import Accepted, Done, Event, Failed, Log, Progress, Retrying
from relay.testing.conformance.broken_law import BrokenLawError, NotExercisedError
from relay.testing.conformance.read_back import documents, shape_of
from relay.testing.conformance.samples import HOSTILE_TEXTS
from relay.testing.conformance.sink_bench import Bench
from relay.testing.conformance.sink_stories import done
from relay.testing.conformance.sink_trial import SinkTrial
from relay.wire.record_json import RECORD_LIMIT

__all__ = ["CONTENT_LAWS"]

_COLOUR: Final = re.compile("\x1b\\[[0-9;]*m")
# Controls move a terminal's cursor or set its clipboard; the rest reorders or hides what is read, or ends a line.
_ACTIVE: Final = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\U000e0000-\U000e007f]"
)
_CUT: Final = re.compile(r"\.\.\.|\u2026|\bcut\b|truncated|characters in all", re.IGNORECASE)

_EVENTS: Final[tuple[Callable[[str], Event], ...]] = (
    lambda text: Accepted(upstream=text, task=text),
    lambda text: Progress(percent=50, status="unknown", raw_status=text, raw_percent=text),
    lambda text: Retrying(kind="malformed", message=text, attempt=1, next_in=2.5),
    lambda text: Log(line=text, severity="error"),
    lambda text: Failed(kind="upstream", message=text),
)
_FIGURES: Final = (float("nan"), float("inf"), float("-inf"), 1e308, -0.0)

URLS: Final = 28
URL_LENGTH: Final = 8_000


async def one_each(bench: Bench) -> None:
    """A record is one line or one document, whatever its texts are."""
    shape = await _shape(bench)
    for text in HOSTILE_TEXTS:
        data, number = await _written(bench, text)
        if shape_of(data, number) != shape:
            raise BrokenLawError(
                f"with the text {text[:40]!a}, {number} records are not {number} {shape}; escape what ends one,"
                " or write record.json"
            )


async def control_bytes(bench: Bench) -> None:
    """No character acts on a terminal: no escape sequence, no control, no change of direction."""
    await _shape(bench)
    job = bench.job()
    data, _ = await _written(bench, "harmless", job)
    colours = Counter(_COLOUR.findall(data.decode("utf-8", "replace")))
    for text in HOSTILE_TEXTS:
        data, _ = await _written(bench, text, job)
        written = data.decode("utf-8", "replace")
        if documents(data) is not None and not re.search("[\x00-\x08\x0b\x0c\x0e-\x1d\x1f\x7f]", written):
            continue
        # A colour of its own comes as often as with a harmless text.
        bare = _COLOUR.sub("", written) if Counter(_COLOUR.findall(written)) == colours else written
        if found := _ACTIVE.search(bare):
            raise BrokenLawError(
                f"with the text {text[:40]!a}, it wrote U+{ord(found[0]):04X}, which acts on a terminal;"
                " print `record.event.text`"
            )


async def large(bench: Bench) -> None:
    """A record of 256 KiB is written whole, or marked as cut."""
    urls = [f"https://cdn.example/{number}/{'x' * URL_LENGTH}-end-{number}" for number in range(URLS)]
    async with bench.opened() as trial:
        record = bench.record(bench.job(), lambda mark: Done(urls=tuple(urls), result=mark))
        assert len(record.json) > RECORD_LIMIT * 3 // 4  # noqa: S101 - of this kit itself
        if not bench.asked.writes(record):
            raise NotExercisedError("writes= does not want a 'done' record")
        trial.hand(record)
    data = trial.written().decode("utf-8", "replace")
    whole = f"-end-{URLS - 1}" in data if "cdn.example/0/" in data else bool(trial.found([record]))
    if not whole and not _CUT.search(data):
        kib = len(record.json) // 1024
        raise BrokenLawError(
            f"of a record of {kib} KiB it wrote {len(data):,} characters, with no sign that it is cut;"
            " end a text that is cut in '...'"
        )


async def strict_json(bench: Bench) -> None:
    """JSON is strict: UTF-8, no NaN, no Infinity, no key twice."""
    if await _shape(bench) != "documents":
        raise NotExercisedError("the output is not JSON")
    async with bench.opened() as trial:
        job = bench.job()
        for figure in _FIGURES:
            trial.hand(bench.record(job, partial(_figure, figure)))
        trial.hand(bench.record(job, lambda _: Done(result={"n": list(_FIGURES), "big": 2**80, "half": "\ud83d"})))
    data = trial.written()
    try:
        text, place, decoder = (
            data.decode("utf-8"),
            0,
            json.JSONDecoder(parse_constant=_refuse, object_pairs_hook=_unique),
        )
        while (place := place + len(text[place:]) - len(text[place:].lstrip())) < len(text):
            _, place = decoder.raw_decode(text, place)
    except ValueError as error:
        raise BrokenLawError(f"its JSON is not strict: {error}; write record.json, which is") from None


async def secrets(bench: Bench) -> None:
    """Its secret is in no output, no repr, no notice and no traceback, also while the far end fails."""
    canary = bench.asked.canary
    if canary is None:
        raise NotExercisedError("no canary= was given, which is the secret that the sink was made with")
    texts: dict[str, str] = {}
    spoken: list[str] = []
    for down_first in (True, False):
        trial = bench.made()
        texts["its repr"] = f"{trial.given!r} {trial.given!s} {trial.sink!r}"
        try:
            await _met_with_an_outage(bench, trial, down_first=down_first)
        except BrokenLawError as broken:
            texts["an error that it raised, or in the traceback"] = "".join(
                traceback.format_exception(broken.__cause__ or broken)
            )
        finally:
            await bench.peace()
            spoken.append(trial.spoken)
    texts["a notice or a log line"] = "\n".join(spoken)
    if bench.asked.output is not None:
        texts["its output"] = bench.output().decode("utf-8", "replace")
    for where, text in texts.items():
        if canary in text:
            raise BrokenLawError(
                f"its secret is in {where}; name the place that the secret comes from, never the secret"
            )


async def named(bench: Bench) -> None:
    """Its repr names what it writes to."""
    if bench.asked.target is None:
        raise NotExercisedError("no target= was given, which is what its repr has to name")
    sink = bench.made().given
    if bench.asked.target not in repr(sink):
        raise BrokenLawError(
            f"its repr is {repr(sink)[:120]}, without {bench.asked.target!r}; two of a kind differ in nothing else"
        )


CONTENT_LAWS: Final = (one_each, control_bytes, large, strict_json, secrets, named)


async def _met_with_an_outage(bench: Bench, trial: SinkTrial, *, down_first: bool) -> None:
    """A life with an outage of the far end, if that can have one."""
    if down_first and bench.can_make("down"):
        await bench.trouble("down")
    await trial.enter()
    try:
        if bench.can_make("down"):
            await bench.trouble("down")
        trial.hand(*bench.story(bench.job(), 10, done))
        await bench.pass_time(120.0)
    finally:
        await trial.leave()


async def _written(bench: Bench, text: str, job: str | None = None) -> tuple[bytes, int]:
    """The bytes that records become which hold *text* wherever they can, and their number."""
    async with bench.opened() as trial:
        job = job or bench.job()
        trial.hand(*(bench.record(job, lambda _, event=event: event(text)) for event in _EVENTS))  # type: ignore[misc]
    if not trial.wanted():
        raise NotExercisedError("writes= wants none of the records that hold texts")
    return trial.written(), len(trial.wanted())


async def _shape(bench: Bench) -> str:
    """What a harmless record is in the output. Raises NotExercisedError if it is neither a line nor a document."""
    bench.output()
    data, number = await _written(bench, "harmless")
    if (shape := shape_of(data, number)) is None:
        raise NotExercisedError("a record is neither one line nor one JSON document in the output")
    return shape


def _figure(figure: float, mark: str) -> Event:
    return Progress(percent=1, status="running", raw_status=mark, eta=figure, eta_low=figure, eta_high=figure)


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("an object has a key twice")
    return table
