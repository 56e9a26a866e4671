"""Which records a reader that is behind can do without."""

from collections.abc import Sequence

from relay.events import Checking, Progress, Received, Record

__all__ = ["thinned"]


def thinned(records: Sequence[Record]) -> list[Record]:
    """*records* without those that a later one replaces: the latest progress of each state stays, no poll before it.

    Changes of state, results, warnings and log lines always stay. An unchanged progress replaces only others of its
    kind: a reader takes a job's text from what has changed.
    """
    kept: list[Record] = []
    newest: dict[str, tuple[str, str | None, bool]] = {}
    for record in reversed(records):
        match record.event:
            case Progress(status=status, raw_status=raw_status, unchanged=unchanged):
                before = newest.get(record.job)
                if before == (status, raw_status, False) or (unchanged and before == (status, raw_status, True)):
                    continue
                newest[record.job] = (status, raw_status, unchanged)
            case Checking() | Received() if record.job in newest:
                continue
            case _:
                newest.pop(record.job, None)
        kept.append(record)
    return kept[::-1]
