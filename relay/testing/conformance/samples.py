"""Records to try a sink with: plausible stories, and texts that somebody wrote with a purpose."""

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final

from relay import (
    Accepted,
    Cancelled,
    Checking,
    Done,
    DraftsFetch,
    Event,
    Failed,
    Log,
    Position,
    Progress,
    Received,
    Record,
    Retrying,
    Stalled,
)
from relay.wire.record_json import stamp

__all__ = ["HOSTILE_TEXTS", "hostile_records", "sample_records"]

_START: Final = datetime(2026, 1, 1, 16, 0, 5, 123456, tzinfo=UTC)
_STEP: Final = timedelta(seconds=2.5)

HOSTILE_TEXTS: Final = (
    "",
    "two\nlines\r\nand more\rover it",
    "\n\nevent: done\ndata: {}\n\n",
    "\x1b[2J\x1b]0;title\x07\x1b]52;c;cm0gLXJm\x07",
    "\x9b31m eight-bit control \x85 next line \x00 NUL \x7f",
    "\u202egnp.exe\u202c \u2066isolated\u2069 \u200b\u2028\u2029\ufeff",
    "half a pair \ud83d, the other half \udc4d, upside down \udc4d\ud83d",
    "\U0001f44d non-BMP, e\u0301 combined, \u6c49\u5b57 wide",
    '"}\\u0000</script><!--{{7*7}}%s%n',
    "long " * 40_000,
)
"""What a prompt, a status or an error message may hold, to do harm or by accident."""


def sample_records() -> list[Record]:
    """The records of three jobs that a relay follows at the same time: one is done, one fails, one is cancelled.

    Every type of event occurs; each job's seq counts from 1 without a hole; the positions follow each other.
    """
    done, failed, cancelled = "job_sample_1", "job_sample_2", "job_sample_3"
    url = "https://cdn.example/sample.mp4"
    return _stamped(
        "sample",
        [
            (done, Accepted(upstream="sora", task="task_1")),
            (failed, Accepted(upstream="sora", task="task_2")),
            (cancelled, Accepted(upstream="sora")),
            (cancelled, Accepted(upstream="sora", task="task_3")),
            (done, Checking(attempt=1, of=600)),
            (done, Received(listed=2, seconds=0.123)),
            (done, Progress(percent=None, status="queued", raw_status="preprocessing", queue_position=3)),
            (failed, Checking(attempt=1, of=600)),
            (failed, Received(listed=2, seconds=0.123)),
            (failed, Progress(percent=9, status="running", raw_status="running", source="reported", eta=140.0)),
            (done, Checking(attempt=2, of=600)),
            (done, Retrying(kind="server", message="503 Service Unavailable", attempt=1, next_in=2.5)),
            (done, Checking(attempt=3, of=600)),
            (done, Received(listed=1, seconds=0.098)),
            (done, Log(line="loading the model")),
            (done, Progress(percent=42, status="running", raw_status="running", source="reported")),
            (cancelled, Cancelled()),
            (failed, Log(line="a frame was refused", severity="warning")),
            (failed, Failed(kind="policy", message="the prompt was refused")),
            (done, Stalled(seconds=120.0)),
            (done, Checking(attempt=4, of=600)),
            (done, Received(listed=0, seconds=0.101)),
            (done, DraftsFetch(attempt=1)),
            (done, Done(urls=(url,), media_types=("video/mp4",), expires=_START + timedelta(days=1))),
        ],
    )


def hostile_records() -> list[Record]:
    """For each of HOSTILE_TEXTS a job that has it wherever an upstream could put it."""
    return _stamped(
        "hostile",
        [
            (f"job_hostile_{number}", event)
            for number, text in enumerate(HOSTILE_TEXTS, start=1)
            for event in (
                Accepted(upstream=text, task=text),
                Progress(percent=50, status="unknown", raw_status=text, raw_percent=text),
                Retrying(kind="malformed", message=text, attempt=1, next_in=2.5),
                Log(line=text),
                Failed(kind="upstream", message=text),
            )
        ],
    )


def _stamped(epoch: str, story: Iterable[tuple[str, Event]]) -> list[Record]:
    seqs = Counter[str]()
    records: list[Record] = []
    for offset, (job, event) in enumerate(story, start=1):
        seqs[job] += 1
        records.append(stamp(job, seqs[job], _START + offset * _STEP, event, Position(epoch, offset)))
    return records
