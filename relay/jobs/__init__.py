"""The life of a job, without I/O: its state as a fold of its records, and which events follow an observation."""

from relay.jobs.decide import Decision, Patience, decide_fetched, decide_listed, is_complete_for
from relay.jobs.state import Job, JobState, Snapshot, elapsed, evolve, recall

__all__ = [
    "Decision",
    "Job",
    "JobState",
    "Patience",
    "Snapshot",
    "decide_fetched",
    "decide_listed",
    "elapsed",
    "evolve",
    "is_complete_for",
    "recall",
]
