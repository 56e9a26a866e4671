"""The recorded table of what a job becomes with each record. It holds the relay's fold and the browser's together.

`python -m tests.jobs.fold` records it anew, after a change of the events; read what changed before you commit it.
"""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import msgspec

from relay.events import (
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
    Record,
)
from relay.jobs import Job, JobState, evolve
from relay.testing import sample_records
from relay.wire.record_json import read_record, stamp

__all__ = ["TABLE", "Story", "folded", "recorded"]

TABLE: Final = Path(__file__).with_name("fold.json")

Story = list[dict[str, Any]]
"""Rows of one job, in order: a `record` as on the wire, and the `snapshot` that the job has become with it."""

_START: Final = datetime(2026, 1, 1, 16, 0, 5, 123456, tzinfo=UTC)

_ODD: Final[dict[str, list[Event]]] = {
    "job_unlisted": [
        Accepted(upstream="sora", task="task_1"),
        Progress(percent=9, status="running", raw_status="running"),
        Progress(percent=None, status="unknown", listed=False),
        Failed(kind="lost", message="no result has appeared"),
    ],
    "job_levels": [
        Accepted(upstream="sora"),
        Log(line="a line for developers", severity="debug"),
        Accepted(upstream="sora", task="task_2"),
        Checking(attempt=7, of=600),
        Log(line="a warning", severity="warning"),
        Checking(attempt=8, of=600),
        DraftsFetch(attempt=1, listed=True),
        Cancelled(by="upstream", message="moderated"),
    ],
    "job_without_files": [Accepted(upstream="copy", task="7"), Done(urls=())],
    "job_ended_at_once": [Failed(kind="internal", message="upstream 'x' is no longer configured")],
}


def recorded() -> list[Story]:
    """The table as it was recorded."""
    stories: list[Story] = json.loads(TABLE.read_text())
    return stories


def folded(records: list[Record]) -> Story:
    """What the relay's own fold makes of one job's *records*."""
    state, story = JobState(), Story()
    for record in records:
        state = evolve(state, record)
        snapshot = msgspec.json.decode(msgspec.json.encode(Job(record.job, state).snapshot()))
        story.append({"record": json.loads(record.json), "snapshot": snapshot})
    return story


def read(story: Story) -> list[Record]:
    """The records of a story of the table."""
    return [
        read_record(json.dumps(row["record"]).encode(), Position("fold", offset))
        for offset, row in enumerate(story, start=1)
    ]


def _all() -> list[list[Record]]:
    samples = sample_records()
    stories = [[record for record in samples if record.job == job] for job in dict.fromkeys(r.job for r in samples)]
    for job, events in _ODD.items():
        at = [_START + timedelta(seconds=2.5 * number) for number in range(len(events))]
        stories.append(
            [stamp(job, seq, at[seq - 1], event, Position("fold", seq)) for seq, event in enumerate(events, start=1)]
        )
    return stories


if __name__ == "__main__":
    TABLE.write_text(json.dumps([folded(story) for story in _all()], indent=1) + "\n")
