"""`relay sinks --forget`: the journal keeps records no longer for a durable sink that is not there any more."""

import os
from contextlib import closing
from pathlib import Path

from relay import UsageError
from relay.cli import say
from relay.cli.options import settings_from
from relay.hints import unknown
from relay.journal import SqliteJournal

__all__ = ["forget_sink"]


def forget_sink(config: Path | None, name: str) -> int:
    """Drop the cursor called *name*, and all that is parked for it. The relay must not be running.

    Raises UsageError where the journal has no such cursor.
    """
    settings = settings_from(config, os.environ)
    if settings.journal.scheme != "sqlite":
        raise UsageError(f"{settings.journal.where} keeps no cursors; they are in one such as sqlite:relay.db")
    if not Path(settings.journal.path).is_file():
        raise UsageError(f"there is no journal {settings.journal.path} yet, and so no cursor")
    with closing(SqliteJournal(settings.journal.path, settings.journal.keep, notify=say)) as journal:
        cursors = {cursor.name: cursor for cursor in journal.cursors.all()}
        if name not in cursors:
            hint = unknown(name, cursors) if cursors else "it has none"
            raise UsageError(f"the journal {settings.journal.path} has no cursor called {name!r}; {hint}")
        behind = journal.head - cursors[name].offset
        journal.cursors.forget(name)
    say(f"{name} was {behind:,} records behind, and is forgotten; a sink of that name begins with the next record")
    return 0
