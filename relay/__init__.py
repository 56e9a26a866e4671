"""An event-bus progress relay: one poll, one event, every sink.

Names are imported when they are first used: `relay --help`, or a sink that needs `relay.events` alone, starts fast.
"""

from typing import TYPE_CHECKING

from relay._exports import lazy_exports

if TYPE_CHECKING:
    from relay.attachments import AttachedSink as AttachedSink
    from relay.attachments import SinkOptions as SinkOptions
    from relay.attachments import SinkStatus as SinkStatus
    from relay.bus.bus import Bus as Bus
    from relay.bus.subscription import Sink as Sink
    from relay.bus.subscription import Subscription as Subscription
    from relay.errors import BusyError as BusyError
    from relay.errors import ConfigError as ConfigError
    from relay.errors import ConflictError as ConflictError
    from relay.errors import JournalError as JournalError
    from relay.errors import RelayError as RelayError
    from relay.errors import UnavailableError as UnavailableError
    from relay.errors import UnknownJobError as UnknownJobError
    from relay.errors import UpstreamError as UpstreamError
    from relay.errors import UsageError as UsageError
    from relay.events import Accepted as Accepted
    from relay.events import Cancelled as Cancelled
    from relay.events import Checking as Checking
    from relay.events import Done as Done
    from relay.events import DraftsFetch as DraftsFetch
    from relay.events import Event as Event
    from relay.events import Exchange as Exchange
    from relay.events import Failed as Failed
    from relay.events import Log as Log
    from relay.events import Position as Position
    from relay.events import Progress as Progress
    from relay.events import Received as Received
    from relay.events import Record as Record
    from relay.events import Retrying as Retrying
    from relay.events import Stalled as Stalled
    from relay.events import Terminal as Terminal
    from relay.jobs.state import Job as Job
    from relay.jobs.state import JobState as JobState
    from relay.jobs.state import Snapshot as Snapshot
    from relay.journal import Journal as Journal
    from relay.journal import JournalReader as JournalReader
    from relay.journal import MemoryJournal as MemoryJournal
    from relay.journal import Retention as Retention
    from relay.journal import SqliteJournal as SqliteJournal
    from relay.pace import Pace as Pace
    from relay.relay import Redactor as Redactor
    from relay.relay import Relay as Relay
else:
    __all__, __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "relay.attachments": ["AttachedSink", "SinkOptions", "SinkStatus"],
            "relay.bus.bus": ["Bus"],
            "relay.bus.subscription": ["Sink", "Subscription"],
            "relay.errors": [
                "BusyError",
                "ConfigError",
                "ConflictError",
                "JournalError",
                "RelayError",
                "UnavailableError",
                "UnknownJobError",
                "UpstreamError",
                "UsageError",
            ],
            "relay.events": [
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
            ],
            "relay.jobs.state": ["Job", "JobState", "Snapshot"],
            "relay.journal": ["Journal", "JournalReader", "MemoryJournal", "Retention", "SqliteJournal"],
            "relay.pace": ["Pace"],
            "relay.relay": ["Redactor", "Relay"],
        },
    )
