"""What became of the records that a sink was given."""

from typing import Literal, TypeAlias

from msgspec import Struct

__all__ = ["Breaker", "Counts"]

Breaker: TypeAlias = Literal["closed", "open", "half-open"]
"""The state of a sink's breaker: closed while it works, open once it is quarantined, half-open while it is probed."""


class Counts(Struct, frozen=True, kw_only=True):
    """Numbers of records since the start. Their sum is the number of records that the sink was given.

    *delivered*: the work succeeded. *coalesced*: a later record of the same job took its place. *dropped*: there was no
    room, or no time at the end. *failed*: given up on. *waiting*: not decided yet, those under way included.
    """

    delivered: int = 0
    coalesced: int = 0
    dropped: int = 0
    failed: int = 0
    waiting: int = 0
