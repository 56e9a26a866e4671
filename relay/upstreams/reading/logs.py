"""The log of a task as lines that are published once."""

__all__ = ["lines"]


def lines(log: str, *, whole: bool) -> tuple[str, ...]:
    """The lines of *log* as a terminal would show them: of a bar that is drawn again and again, the last state.

    Unless the log is *whole*, its last line may still grow, and is left for later.
    """
    *complete, last = log.split("\n")
    if whole and last:
        complete.append(last)
    return tuple(line.rstrip("\r").rpartition("\r")[2] for line in complete)
