"""An advisory lock on a file that is open, so that two processes neither rotate nor mend it at the same time."""

import sys

__all__ = ["try_lock", "unlock"]

if sys.platform == "win32":  # where a file that is open cannot be renamed anyway

    def try_lock(_fd: int) -> bool:
        """Do nothing: there is no such lock."""
        return True

    def unlock(_fd: int) -> None:
        """Do nothing."""

else:
    import fcntl

    def try_lock(fd: int) -> bool:
        """Lock the file of *fd* for this descriptor alone; False if another one holds the lock. Raises OSError.

        The kernel releases it with `unlock`, if the descriptor is closed, and if the process ends, however it ends.
        """
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def unlock(fd: int) -> None:
        """Let another process have the lock."""
        fcntl.flock(fd, fcntl.LOCK_UN)
