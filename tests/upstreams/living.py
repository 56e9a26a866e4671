"""A job lived through by polls: what its records would be, without a poller."""

from datetime import UTC, datetime

from relay.errors import UpstreamError
from relay.events import DraftsFetch, Event, Position, Retrying
from relay.jobs import Job, Patience, decide_fetched, decide_listed, evolve
from relay.jobs.observations import Answer, Observation
from relay.testing import ManualClock
from relay.upstreams import FetchesResults, Upstream
from relay.wire.record_json import stamp

__all__ = ["lived", "retold"]

_AT = datetime(2026, 1, 1, tzinfo=UTC)
_PATIENCE = Patience(unseen=12, grace=24)
_POLLS = 200


async def lived(upstream: Upstream, task: str, clock: ManualClock, *, every: float = 2.5) -> list[Event]:
    """The events of *task*, polled until it ends; *clock*, which is the scripted server's, is moved between polls."""
    job = Job("job_t")
    told: list[Event] = []

    def tell(*events: Event) -> None:
        for event in events:
            told.append(event)
            number = len(told)
            job.state = evolve(job.state, stamp(job.id, number, _AT, event, Position("e", number)))

    for _ in range(_POLLS):
        try:
            seen = _about(await upstream.observe([task]), task)
            tell(*decide_listed(job.state, seen, _PATIENCE, two_step=isinstance(upstream, FetchesResults)).events)
            if isinstance(told[-1], DraftsFetch) and isinstance(upstream, FetchesResults):
                tell(*decide_fetched(job.state, _about(await upstream.fetch_result([task]), task), _PATIENCE).events)
        except UpstreamError as error:
            tell(Retrying(kind=error.kind, message=error.message, attempt=1, next_in=every))
        if job.ended:
            return told
        await clock.advance(every)
    raise AssertionError(f"not ended after {_POLLS} polls; the last was {told[-1]}")


def retold(events: list[Event]) -> list[str]:
    """The texts of *events*, one that is repeated at once said once."""
    texts = [event.text for event in events]
    return [text for text, before in zip(texts, [None, *texts], strict=False) if text != before]


def _about(answer: Answer, task: str) -> Observation | None:
    said = answer.tasks.get(task)
    if isinstance(said, UpstreamError):
        raise said
    return said
