"""An event-bus progress relay: one poll, one event, every sink.

Names are imported when they are first used: `relay --help`, or a sink that needs `relay.events` alone, starts fast.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from relay.bus import Bus
    from relay.cadence import Pace
    from relay.errors import (
        BusyError,
        ConfigError,
        ConflictError,
        JournalError,
        RelayError,
        UnknownJobError,
        UpstreamError,
        UsageError,
    )
    from relay.events import (
        Accepted,
        Cancelled,
        Checking,
        Done,
        DraftsFetch,
        Event,
        Exchange,
        Failed,
        Log,
        Position,
        Progress,
        Received,
        Record,
        Retrying,
        Stalled,
        Terminal,
    )
    from relay.jobs import Job, JobState, Snapshot
    from relay.journal import Journal, Keep, MemoryJournal, SqliteJournal
    from relay.relay import Relay
    from relay.subscription import Sink, Subscription

_HOMES = {
    "relay.bus": ("Bus",),
    "relay.cadence": ("Pace",),
    "relay.errors": (
        "BusyError",
        "ConfigError",
        "ConflictError",
        "JournalError",
        "RelayError",
        "UnknownJobError",
        "UpstreamError",
        "UsageError",
    ),
    "relay.events": (
        "Accepted",
        "Cancelled",
        "Checking",
        "Done",
        "DraftsFetch",
        "Event",
        "Exchange",
        "Failed",
        "Log",
        "Position",
        "Progress",
        "Received",
        "Record",
        "Retrying",
        "Stalled",
        "Terminal",
    ),
    "relay.jobs": ("Job", "JobState", "Snapshot"),
    "relay.journal": ("Journal", "Keep", "MemoryJournal", "SqliteJournal"),
    "relay.relay": ("Relay",),
    "relay.subscription": ("Sink", "Subscription"),
}

__all__ = [
    "Accepted",
    "Bus",
    "BusyError",
    "Cancelled",
    "Checking",
    "ConfigError",
    "ConflictError",
    "Done",
    "DraftsFetch",
    "Event",
    "Exchange",
    "Failed",
    "Job",
    "JobState",
    "Journal",
    "JournalError",
    "Keep",
    "Log",
    "MemoryJournal",
    "Pace",
    "Position",
    "Progress",
    "Received",
    "Record",
    "Relay",
    "RelayError",
    "Retrying",
    "Sink",
    "Snapshot",
    "SqliteJournal",
    "Stalled",
    "Subscription",
    "Terminal",
    "UnknownJobError",
    "UpstreamError",
    "UsageError",
]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(home), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
