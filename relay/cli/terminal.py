"""The terminal that controls this process, if there is one."""

import os

__all__ = ["has_terminal"]


def has_terminal() -> bool:
    """Whether a terminal controls this process; it is gone by the time at which its end is signalled."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True
