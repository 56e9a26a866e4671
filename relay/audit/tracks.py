"""Recordings side by side: how far each has been read, and what is found to differ."""

from collections.abc import Iterable, Iterator, Sequence

from relay.audit.recordings import Defect, RecordedEvent, read_recording
from relay.errors import UsageError
from relay.events import LEVELS

__all__ = ["Entry", "Findings", "Track"]


class Track:
    """One recording, and how far it has been read."""

    def __init__(self, name: str, lines: Iterable[bytes]) -> None:
        self.name = name
        self.over: bool = False
        self.last: dict[str, int] = {}
        self.ended: dict[str, int] = {}
        self.read: int = 0
        self.levels: set[str] = set()
        self.agreed = 0
        self.agreed_on: RecordedEvent | None = None
        self._lines = lines
        self._found: Iterator[RecordedEvent | Defect] | None = None

    def next(self) -> RecordedEvent | Defect | None:
        """The next record or flaw; None at the end."""
        try:
            if self._found is None:
                self._found = read_recording(self._lines)
            found = next(self._found, None)
        except UsageError as error:
            raise UsageError(f"{self.name}: {error}") from None
        self.over = found is None
        if found is not None:
            self.read += 1
            if isinstance(found, RecordedEvent):
                self.levels.add(found.level)
        elif not self.read:
            raise UsageError(f"{self.name} holds no record")
        return found

    @property
    def quiet(self) -> bool:
        """Whether this is a recording of level `info`, as the console's is by default: it holds nothing below."""
        return "info" in self.levels and self.levels.isdisjoint(("", LEVELS[0]))

    def past(self, job: str, seq: int) -> bool:
        """Whether this recording has reached *seq* of *job*, or never will."""
        return self.over or self.last.get(job, 0) >= seq


class Entry:
    """One record as each recording has it, with its place in that recording."""

    __slots__ = ("said",)

    def __init__(self) -> None:
        self.said: dict[Track, tuple[RecordedEvent, int]] = {}


class Findings:
    """What differs, in order: *most* findings, and the number of the others.

    Some are none after all if a recording turns out to be of level `info`, which is known once it is read to its end.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._number = 0
        self._found: dict[tuple[Track, ...], list[tuple[int, str]]] = {}
        self._further: dict[tuple[Track, ...], int] = {}

    def add(self, finding: str, *, unless_quiet: Sequence[Track] = ()) -> None:
        """Add *finding*; with *unless_quiet* it is dropped if these recordings are all of level `info`."""
        tracks, self._number = tuple(unless_quiet), self._number + 1
        found = self._found.setdefault(tracks, [])
        if len(found) < self._most:
            found.append((self._number, finding))
        else:
            self._further[tracks] = self._further.get(tracks, 0) + 1

    def settled(self) -> tuple[tuple[str, ...], int, bool]:
        """The findings, the number of further ones, and whether any was dropped; all recordings are read by now."""
        stand = [tracks for tracks in self._found if not tracks or not all(track.quiet for track in tracks)]
        found = [finding for _, finding in sorted(found for tracks in stand for found in self._found[tracks])]
        further = sum(self._further.get(tracks, 0) for tracks in stand) + len(found[self._most :])
        return tuple(found[: self._most]), further, len(stand) < len(self._found)
