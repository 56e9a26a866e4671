"""The event that is measured: progress as a poller publishes it, and how long it is on the wire."""

from datetime import UTC, datetime

from relay.events import Position, Progress
from relay.wire.record_json import stamp
from sinks.sse import frame

__all__ = ["frame_size", "progress"]


def progress(seq: int, pad: int = 0) -> Progress:
    """The *seq*-th event of a job, longer by *pad* characters."""
    return Progress(
        percent=seq % 100,
        status="running",
        raw_status="running",
        source="reported",
        raw_percent="x" * pad if pad else None,
    )


def frame_size(pad: int = 0) -> int:
    """How many bytes a reader of the relay is sent for it, give or take the digits of its numbers."""
    at = datetime(2026, 1, 1, 0, 0, 0, 123_456, tzinfo=UTC)
    return len(frame(stamp("job_0123456789abcdef", 42, at, progress(42, pad), Position("01234567", 4_200))))
