"""Slow work behind a bounded queue: retried, counted, and never in the way of the relay."""

from relay.queue.attempts import ATTEMPT_TIMEOUT, Attempts, Work
from relay.queue.buffer import OnFull, RecordBuffer
from relay.queue.counts import Counts
from relay.queue.queued import Queued
from relay.queue.retries import EndpointGone, Retries, RetryLater, Undeliverable
from relay.queue.thinning import thinned
from relay.queue.worker import Worker

__all__ = [
    "ATTEMPT_TIMEOUT",
    "Attempts",
    "Counts",
    "EndpointGone",
    "OnFull",
    "Queued",
    "RecordBuffer",
    "Retries",
    "RetryLater",
    "Undeliverable",
    "Work",
    "Worker",
    "thinned",
]
