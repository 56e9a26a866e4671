"""A process that has imported the relay, and forks a node at each start: `python -m tests.faults.cluster.node`.

A node is the program `relay serve`, which notes what the checker wants to know of it: each batch that it appends and
the answer. SIGUSR1 sets its time of day by as many seconds as a file says. The commands on standard input, one JSON
object a line: `{"start": {...}}` answers with the number of the process, `{"end": number}` once that has ended.
"""

import os
import signal
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from relay.cli import main
from relay.clock import SystemClock
from relay.journal.redis import RedisJournal
from relay.journal.shared import Draft, Refusal
from tests.faults.cluster.mutants import mutated

__all__ = ["Answered", "Called", "Command", "NodeLine", "Started", "Unknown"]


class Started(msgspec.Struct, tag="started"):
    """A node has begun; *node* is its name among the nodes."""

    node: str


class Called(msgspec.Struct, tag="called"):
    """A batch is about to be sent."""

    number: int
    epoch: str
    drafts: list[tuple[str, int, str]]


class Answered(msgspec.Struct, tag="answered"):
    """The batch was answered, with a word for each draft that was refused."""

    number: int
    refusals: list[str]


class Unknown(msgspec.Struct, tag="unknown"):
    """There was no answer."""

    number: int
    why: str


NodeLine = Started | Called | Answered | Unknown


class Start(msgspec.Struct):
    """Start a node in *folder*, which has a `relay.toml`: *log* gets its lines, *errors* what it prints."""

    folder: str
    port: int
    log: str
    errors: str
    clock: str
    environ: dict[str, str] = {}
    mutants: tuple[str, ...] = ()


class Command(msgspec.Struct, omit_defaults=True):
    """Either of the two."""

    start: Start | None = None
    end: int = 0


def obey() -> None:
    """Obey the commands until there are no more."""
    for line in sys.stdin.buffer:
        command = msgspec.json.decode(line, type=Command)
        if command.start is not None:
            child = os.fork()
            if not child:
                os._exit(_live(command.start))
            _say(child)
        else:
            os.waitpid(command.end, 0)
            _say(command.end)


def _live(start: Start) -> int:
    """One node, from its start to its end."""
    os.chdir(start.folder)
    os.environ.update(start.environ)
    os.dup2(os.open(os.devnull, os.O_RDWR), 0)
    os.dup2(os.open(os.devnull, os.O_RDWR), 1)
    os.dup2(os.open(start.errors, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), 2)
    _note_appends(os.open(start.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
    _set_clocks(Path(start.clock))
    with mutated(start.mutants):
        return main(["serve", "--port", str(start.port)])


def _note_appends(log: int) -> None:
    encode = msgspec.json.Encoder().encode
    begin, append = RedisJournal.__init__, RedisJournal.append

    def note(line: NodeLine) -> None:
        os.write(log, encode(line) + b"\n")

    def noted_begin(self: RedisJournal, *args: Any, **kwargs: Any) -> None:
        begin(self, *args, **kwargs)
        note(Started(self.node))

    async def noted(self: RedisJournal, number: int, drafts: Sequence[Draft]) -> Sequence[Refusal | None]:
        lines = [(draft.stored.id, draft.seq, draft.body.decode()) for draft in drafts]
        note(Called(number, self.epoch, lines))
        try:
            refusals = await append(self, number, drafts)
        except BaseException as error:
            note(Unknown(number, repr(error)))
            raise
        note(Answered(number, ["" if refusal is None else refusal.reason for refusal in refusals]))
        return refusals

    RedisJournal.__init__ = noted_begin  # type: ignore[method-assign]
    RedisJournal.append = noted  # type: ignore[method-assign]


def _set_clocks(file: Path) -> None:
    """Add to the time of day what *file* says; SIGUSR1 reads it again."""
    ahead = timedelta()

    def read(*_: object) -> None:
        nonlocal ahead
        ahead = timedelta(seconds=float(file.read_text()))

    def now(self: SystemClock) -> datetime:
        return datetime.now(UTC) + ahead

    read()
    SystemClock.now = now  # type: ignore[method-assign]
    signal.signal(signal.SIGUSR1, read)


def _say(number: int) -> None:
    os.write(1, b"%d\n" % number)


if __name__ == "__main__":
    obey()
