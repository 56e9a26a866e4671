"""What lines are written to: a descriptor, a stream without one, or an output that a sink has made."""

import io
import os
from typing import BinaryIO, TextIO, cast

__all__ = ["Output", "opened"]


class Output:
    """What a LineWriter writes to, on its thread alone."""

    def write(self, data: bytes) -> int:
        """Write *data*, whole lines at its end; return the number of bytes written, 1 or more.

        Raises BlockingIOError where it is to be tried again within moments, and any other exception for a failure.
        """
        raise NotImplementedError

    def upkeep(self) -> float | None:
        """A slice of other work, a few milliseconds at most; it is called at the start, and between writes.

        Returns the seconds until it wants to be called again, or None: after the next write.
        """
        return None

    def close(self) -> None:
        """Release what it holds; `write` may follow nevertheless."""


class _Descriptor(Output):
    """A duplicate of a file descriptor, written without a lock that a thread blocked by a terminal could hold.

    It is a duplicate because the number may mean another file once *out* is closed.
    """

    def __init__(self, fd: int) -> None:
        self._fd = os.dup(fd)

    def write(self, data: bytes) -> int:
        return os.write(self._fd, data)

    def close(self) -> None:
        os.close(self._fd)


class _Stream(Output):
    """An output without a descriptor, such as `io.StringIO`."""

    def __init__(self, out: TextIO | BinaryIO, encoding: str) -> None:
        self._out = out
        self._encoding = encoding

    def write(self, data: bytes) -> int:
        if isinstance(self._out, io.RawIOBase | io.BufferedIOBase):
            cast(BinaryIO, self._out).write(data)
        else:
            cast(TextIO, self._out).write(data.decode(self._encoding))
        self._out.flush()
        return len(data)

    def close(self) -> None:
        """The stream stays open: the caller closes it."""


def opened(out: TextIO | BinaryIO | Output, encoding: str) -> Output:
    """*out* as an output. Raises OSError if no descriptor is left to duplicate that of *out*."""
    if isinstance(out, Output):
        return out
    try:
        fd = out.fileno()
    except (AttributeError, OSError, ValueError):
        return _Stream(out, encoding)
    return _Descriptor(fd)
