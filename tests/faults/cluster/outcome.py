"""The figures of a chapter of a soak, and its violations."""

import statistics
from collections import Counter

from msgspec import Struct

from tests.faults.cluster.checker import Takeover
from tests.faults.cluster.violation import Violation

__all__ = ["Outcome"]


class Outcome(Struct, kw_only=True):
    """What a chapter has shown.

    *unanswered*: how often an append had no answer; *unknown*: how many batches never had one, as their node died.
    """

    violations: list[Violation]
    takeovers: list[Takeover]
    faults: Counter[str]
    jobs: int
    records: int
    deliveries: int
    connections: int
    gaps: int
    epochs: int
    claims: int
    unanswered: int
    unknown: int
    refused: int
    repeated: int
    put_off: int
    complaints: list[str]

    def lines(self) -> list[str]:
        """A summary."""
        seconds = sorted(takeover.seconds for takeover in self.takeovers)
        taken = (
            f"p50 {statistics.median(seconds):.2f} s, max {seconds[-1]:.2f} s, {len(seconds)}" if seconds else "none"
        )
        faults = ", ".join(f"{kind} {count}" for kind, count in sorted(self.faults.items()))
        return [
            f"faults       {sum(self.faults.values()):,} ({faults})",
            f"stream       {self.records:,} records of {self.jobs:,} jobs in {self.epochs} epochs",
            f"leases       {self.claims:,} claims",
            f"readers      {self.deliveries:,} records in {self.connections:,} connections, {self.gaps} gaps",
            f"appends      {self.unanswered} without an answer, {self.unknown} for ever, {self.refused} refused",
            f"requests     {self.repeated} repeated, {self.put_off} put off",
            f"takeovers    {taken}",
            f"violations   {len(self.violations)}",
        ]
