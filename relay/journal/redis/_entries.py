"""Drafts, entries and states of jobs as the engine keeps them, there and back."""

from collections.abc import Mapping
from typing import Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from relay.events import Position
from relay.jobs.state import JobState
from relay.journal.base import StoredJob
from relay.journal.shared import Draft, Entry, Refusal
from relay.wire.record_json import read_record

__all__ = [
    "Answer",
    "ForeignEntryError",
    "KeptEntry",
    "carried_arguments",
    "draft_arguments",
    "is_move",
    "offset_of",
    "read_answer",
    "read_entry",
    "read_state",
]

_encode = msgspec.json.Encoder().encode
_decode_job = msgspec.json.Decoder(StoredJob)

_NO_STATE: Final = JobState()


class ForeignEntryError(ValueError):
    """An entry that no relay has written: the stream is spoiled, since ids do not follow each other any more."""


class KeptEntry(Struct, frozen=True):
    """An *entry* and what the engine keeps beside it.

    *gen* is the generation of the engine that stored it, *unique* that of a first record, *raw* its JSON.
    """

    entry: Entry
    gen: int
    unique: str
    raw: bytes


class Answer(Struct, frozen=True):
    """The answer to a batch: the generation that stored it, the head behind it, and what was refused, by place."""

    gen: int
    head: int
    refused: Mapping[int, Refusal]


def draft_arguments(draft: Draft) -> tuple[str | bytes | int, ...]:
    """*draft* as arguments of append.lua."""
    job, fence = draft.stored, draft.fence
    return (
        *(job.id, draft.seq, draft.body, _encode(job), fence.shard, fence.token, draft.unique),
        *(job.owner, job.key or "", job.digest),
    )


def carried_arguments(job: StoredJob, unique: str) -> tuple[str | bytes | int, ...]:
    """*job* as arguments of carry_over.lua."""
    return job.id, job.state.seq, _encode(job), unique


def read_answer(answer: bytes) -> Answer:
    """The answer of append.lua behind its checks."""
    _, gen, head, *refused = answer.decode().split(" ")
    return Answer(int(gen), int(head), dict(map(_read_refusal, refused)))


def _read_refusal(text: str) -> tuple[int, Refusal]:
    place, _, verdict = text.partition("=")
    reason, _, job = verdict.partition(":")
    match reason:
        case "fenced" | "hole" | "taken":
            return int(place), Refusal(reason, job)
        case _:
            raise ValueError(f"a draft was refused as {reason!r}")


def offset_of(id: bytes) -> int:
    """The offset in the id of an entry. Raises ForeignEntryError for an id that is none of ours."""
    offset, _, rest = id.partition(b"-")
    if rest != b"0":
        raise ForeignEntryError
    return int(offset)


def is_move(fields: Mapping[bytes, bytes]) -> bool:
    """Whether this is the last entry of an epoch: readers go on in another one."""
    return b"moved" in fields


def read_entry(id: bytes, fields: Mapping[bytes, bytes], epoch: str) -> KeptEntry:
    """The entry *id* of *epoch*. Raises ValueError if this version cannot read it, ForeignEntryError if none can."""
    offset = offset_of(id)
    try:
        node, token, gen = fields[b"node"].decode(), int(fields[b"token"]), int(fields[b"gen"])
        raw = fields.get(b"body") or fields[b"stored"]
    except (KeyError, ValueError):
        raise ForeignEntryError from None
    record = stored = None
    if b"body" not in fields:
        stored = _at(_decode_job.decode(raw), offset)
    elif (record := read_record(raw, Position(epoch, offset))).seq == 1:
        stored = _beginning(record.job, fields)
    entry = Entry(offset=offset, node=node, token=token, record=record, stored=stored)
    return KeptEntry(entry, gen, fields.get(b"unique", b"").decode(), raw)


def _beginning(job: str, fields: Mapping[bytes, bytes]) -> StoredJob:
    """All that comes with the first record of *job*."""
    key, owner = fields.get(b"key"), fields.get(b"owner", b"")
    return StoredJob(
        id=job,
        state=_NO_STATE,
        key=None if key is None else key.decode(),
        digest=fields.get(b"digest", b""),
        owner=owner.decode(),
    )


def read_state(value: bytes) -> tuple[int, StoredJob]:
    """The newest state of a job as the engine keeps it, and the offset of the first entry of the job.

    Raises ValueError for what is none of this version.
    """
    _, offset, first, job = value.split(b" ", 3)
    return int(first), _at(_decode_job.decode(job), int(offset))


def _at(job: StoredJob, offset: int) -> StoredJob:
    return replace(job, state=replace(job.state, offset=offset))
