"""A client that believes nothing: it holds each block it is told against a plain list of all that was ever told."""

import json
from collections.abc import AsyncGenerator, Collection, Iterable, Iterator, Mapping
from functools import reduce
from itertools import groupby
from typing import Any, NamedTuple

import msgspec
from aiohttp import ClientResponse

from relay.events import Checking, Level, Position, Progress, Received, Record, at_least
from relay.jobs import Job, JobState, evolve

__all__ = ["Block", "Client", "Story", "blocks", "read_blocks"]

TEXT = 100
"""So many characters of a job's text are compared: a snapshot has a shorter one where it is long."""


class Block(NamedTuple):
    """One block of a stream."""

    id: str
    event: str
    data: str

    @property
    def says(self) -> dict[str, Any]:
        said: dict[str, Any] = json.loads(self.data)
        return said


def blocks(stream: bytes) -> Iterator[Block]:
    """The whole blocks of *stream*. [spec] a block that is cut off is thrown away."""
    for block in stream.split(b"\n\n")[:-1]:
        fields = dict(line.split(b": ", 1) for line in block.split(b"\n"))
        yield Block(fields[b"id"].decode(), fields[b"event"].decode(), fields[b"data"].decode())


async def read_blocks(response: ClientResponse) -> AsyncGenerator[dict[str, str]]:
    """Each block as it arrives, as fields; comments are left out."""
    block: dict[str, str] = {}
    async for line in response.content:
        name, _, value = line.decode().rstrip("\n").partition(": ")
        if name and name != ":":
            block[name] = value
        elif not name and block:
            yield block
            block = {}


class Story:
    """Every record that was told in one epoch, in order; the newest *bound* are kept.

    The first has the offset behind *base*. *before*: how the jobs stood when the epoch began.
    """

    def __init__(self, epoch: str, bound: int, base: int = 0, before: Mapping[str, JobState] | None = None) -> None:
        self.epoch = epoch
        self.bound = bound
        self.base = base
        self.before = before or {}
        self.records: list[Record] = []

    @property
    def head(self) -> int:
        return self.base + len(self.records)

    @property
    def trimmed_to(self) -> int:
        return max(self.base, self.head - self.bound)

    def at(self, offset: int) -> str:
        return str(Position(self.epoch, offset))

    def between(self, after: int, to: int) -> list[Record]:
        """The records behind the offset *after*, up to *to*."""
        return self.records[max(0, after - self.base) : max(0, to - self.base)]

    def state(self, job: str, to: int) -> dict[str, Any]:
        """Where *job* stood when it was told up to *to*, as snapshots say it."""
        told = (record for record in self.between(self.base, to) if record.job == job)
        fold = reduce(evolve, told, self.before.get(job, JobState()))
        state: dict[str, Any] = msgspec.to_builtins(Job(job, fold).snapshot())
        return {**state, "text": state["text"][:TEXT], "terminal": fold.terminal.type if fold.terminal else None}

    def ended(self, jobs: Collection[str], to: int) -> bool:
        before = {job for job, state in self.before.items() if state.ended}
        return set(jobs) <= before | {record.job for record in self.between(self.base, to) if record.terminal}


class Client:
    """A reader of *jobs*, or of all. *at*: up to there it was told all, or told what it cannot be given."""

    def __init__(self, jobs: frozenset[str] | None, level: Level) -> None:
        self.jobs = jobs
        self.level: Level = level
        self.last_id: str | None = None

    def comes(self, story: Story, last_id: str | None, everybody: Iterable[str]) -> None:
        """It connects and names *last_id*; *everybody* are the jobs that there are."""
        self.story, self.last_id, self.named = story, last_id, last_id
        self.claimed = Position.parse(last_id) if last_id else Position(story.epoch, 0)
        claimed = self.claimed
        self.known = claimed is not None and claimed.epoch == story.epoch and claimed.offset <= story.head
        self.at = claimed.offset if claimed is not None and self.known else 0
        self.skipped = 0
        self.anew = False
        self._watch(everybody)
        self.awaits: str | None = None
        self.opening = not self.known or self.hole(self.at)

    def goes_on_in(self, story: Story, reached: Position) -> None:
        """The journal begins anew while it reads; its stream has *reached* that position."""
        self.claims(str(reached))
        self.story, self.claimed = story, reached
        self.at, self.known, self.anew, self.opening, self.awaits = story.base, False, True, True, "gap"

    def is_given(self, *, state: bool) -> None:
        """Whether the *state* of the jobs is said first."""
        assert state or not self.opening, "a hole is not told of"
        assert self.opening or not state, "nothing is missing"
        if state:
            self.awaits = "gap" if self.named else "snapshot"

    @property
    def has_all(self) -> bool:
        """Whether there is, and will be, nothing behind what it named."""
        return (
            self.jobs is not None
            and bool(self.named)
            and not self.opening
            and self.story.ended(self.jobs, self.story.head)
            and not any(record.job in self.jobs for record in self.story.between(self.at, self.story.head))
        )

    def wants(self, record: Record) -> bool:
        mine = self.jobs is None or record.job in self.jobs
        return mine and (record.terminal or at_least(record.event.level, self.level))

    def lacks(self, to: int) -> list[Record]:
        """What it should have been told up to *to*, and has not."""
        return [record for record in self.story.between(self.at, to) if self.wants(record)]

    def hole(self, after: int) -> bool:
        """Whether any record of its jobs behind *after* is gone."""
        if after < self.story.base and (self.jobs is None or not self.jobs.isdisjoint(self.story.before)):
            return True
        gone = self.story.between(after, self.story.trimmed_to)
        return any(self.jobs is None or record.job in self.jobs for record in gone)

    def hears(self, stream: bytes, everybody: Iterable[str], *, slow: bool = False) -> None:
        """What comes of one page of the stream, whole or cut off anywhere."""
        began, told = self.at, list[Record]()
        self.skipped = 0
        for block in blocks(stream):
            match block.event:
                case "gap":
                    self._gap(block, everybody)
                case "snapshot":
                    self._snapshot(block)
                case "skipped":
                    assert slow, "who keeps up is told all"
                    self.skipped = block.says["missed"]
                    assert self.skipped > 0
                case _:
                    told.append(self._record(block))
            self.last_id = block.id
            self.claims(block.id)
        self._is_thinned(began, told)

    def claims(self, id: str) -> None:
        """Whoever comes back with *id* has missed nothing."""
        position = Position.parse(id)
        if position is not None and position.epoch == self.story.epoch and self.awaits is None:
            assert self.lacks(position.offset) == [], f"{id} claims what was not told"

    def _watch(self, everybody: Iterable[str]) -> None:
        """From now on, what is told instead of records is to be of this moment."""
        self.to = self.story.head
        self.expected = set(everybody) if self.jobs is None else set(self.jobs)
        self.shown: dict[str, dict[str, Any]] = {}

    def _gap(self, block: Block, everybody: Iterable[str]) -> None:
        start = Position.parse(block.says["from"])
        if self.opening:
            assert self.awaits == "gap"
            assert start == self.claimed
            if self.anew:
                self._watch(everybody)
        else:
            self._watch(everybody)
            assert start is not None
            assert self.awaits is None
            assert self.lacks(start.offset) == []
            assert self.hole(start.offset), "there is no gap"
        counted = self.to - start.offset if start is not None and self.known and self.jobs is None else None
        assert block.says["missed"] == counted
        assert block.says["to"] == self.story.at(self.to)
        assert block.id == (self.story.at(start.offset) if start is not None and self.known else "unknown-0")
        self.awaits, self.opening = "snapshot", False

    def _snapshot(self, block: Block) -> None:
        assert self.awaits == "snapshot"
        shown = {job["job"]: {**job, "text": job["text"][:TEXT]} for job in block.says["jobs"]}
        assert not shown.keys() & self.shown.keys()
        self.shown |= shown
        if self.shown.keys() < self.expected:
            assert block.id != self.story.at(self.to), "cut off here, it would never hear of the other jobs"
            return
        assert self.shown == {job: self.story.state(job, self.to) for job in self.expected}
        assert block.id == self.story.at(self.to)
        self.at, self.awaits, self.known, self.opening, self.anew = self.to, None, True, False, False

    def _record(self, block: Block) -> Record:
        position = Position.parse(block.id)
        assert position is not None
        assert position.epoch == self.story.epoch
        assert self.at < position.offset <= self.story.head, "told before, or not yet known"
        assert self.awaits is None, "something is to be said first"
        record = self.story.records[position.offset - self.story.base - 1]
        assert self.wants(record)
        assert block == (str(record.position), record.event.type, record.json.decode())
        self.skipped -= len(self.lacks(position.offset - 1))
        assert self.skipped >= 0, "a hole that nobody told of"
        self.at = position.offset
        return record

    def _is_thinned(self, began: int, told: list[Record]) -> None:
        """Of what was left out, nothing but polls and progress that a later figure of the same state replaces."""
        if not told:
            return
        whole = [r for r in self.story.between(began, told[-1].position.offset) if self.wants(r)]
        left_out = [record for record in whole if record not in told]
        assert all(isinstance(record.event, Checking | Received | Progress) for record in left_out)
        for job in {record.job for record in left_out}:
            of_job = [record for record in told if record.job == job]
            assert _states(of_job) == _states([record for record in whole if record.job == job][: _end(whole, of_job)])


def _end(whole: list[Record], told: list[Record]) -> int | None:
    """Up to where the story of one job was told."""
    if not told:
        return 0
    return 1 + [record for record in whole if record.job == told[-1].job].index(told[-1])


def _states(records: list[Record]) -> list[tuple[str, str | None]]:
    """The states one after the other, as far as progress says them."""
    said = [(r.event.status, r.event.raw_status) for r in records if isinstance(r.event, Progress)]
    return [state for state, _ in groupby(said)]
