"""The one way to publish the events that polls lead to: one that no journal can keep ends its job, not the poller."""

from typing import Final

import msgspec

from relay.bus.bus import Bus
from relay.errors import UpstreamError, UsageError
from relay.events import TERMINALS, Event, Failed, Terminal
from relay.jobs.state import Job

__all__ = ["publish_kept"]

_UNKEEPABLE: Final = (UsageError, ValueError, TypeError, OverflowError, RecursionError, msgspec.MsgspecError)
_TERMINAL: Final = msgspec.json.Decoder(Terminal)


def publish_kept(bus: Bus, job: Job, event: Event, answered: float | None) -> None:
    """Publish *event* of *job*, which follows from an answer that came at *answered*.

    An end that cannot be kept as a record is published as a failure that says why. Raises UpstreamError (malformed) for
    any other event that cannot be.
    """
    is_end = isinstance(event, TERMINALS)
    try:
        if is_end:
            _TERMINAL.decode(msgspec.json.encode(event))
        bus.publish(job, event, answered=answered)
    except _UNKEEPABLE as error:
        problem = f"the {event.type!r} of this job cannot be kept: {error}"
        if not is_end:
            raise UpstreamError("malformed", problem) from error
        bus.publish(job, Failed(kind="malformed", message=problem))
