"""The checker: a history in, violations of what a cluster promises out. No I/O, and no part of the relay but the fold.

The list of what to look for follows Jepsen's workload for logs: a value that differs at one offset, a write that was
acknowledged and is lost, a read of what was refused, offsets that are skipped or go back.
"""

from collections import Counter
from collections.abc import Collection, Iterator
from typing import Final, NamedTuple

from msgspec.structs import replace

from relay.events import Failed, Record
from relay.jobs.state import JobState, evolve
from tests.faults.cluster.history import Claim, Epoch, History
from tests.faults.cluster.losing import accepted_again, check_gone
from tests.faults.cluster.reading import check_readers
from tests.faults.cluster.violation import Violation

__all__ = ["check", "check_polls", "takeovers"]

SLACK: Final = 2
"""Polls that may look too soon: a request that a busy machine delays comes closer to the next one than it was sent."""

QUIET: Final = 40.0
"""Seconds that a fault of the engine may last."""


def check(history: History) -> list[Violation]:
    """Every violation of every invariant, in no order that matters."""
    return [
        *check_epochs(history),
        *(found for epoch in history.epochs for found in check_epoch(epoch)),
        *check_fences(history),
        *check_calls(history),
        *check_readers(history),
        *check_submits(history),
        *check_ends(history),
        *check_gone(history),
        *check_polls(history),
    ]


def check_epochs(history: History) -> Iterator[Violation]:
    """An epoch begins behind all offsets of the one before, and not without a cause; a job goes on in it.

    A node that starts on an engine that was just emptied knows nothing, and begins one at 0; the nodes that know more
    begin another behind it.
    """
    caused = [epoch for epoch in history.epochs[1:] if epoch.base]
    if len(caused) >= history.most_epochs:
        names = ", ".join(epoch.name for epoch in history.epochs)
        yield Violation("epochs", f"{len(caused) + 1} epochs, at most {history.most_epochs} have a cause: {names}")
    newest = 0
    known: dict[str, Record] = {}
    for epoch in history.epochs:
        if epoch.entries and 0 < epoch.base < newest:
            yield Violation("epochs", f"{epoch.name} begins at {epoch.base}, below the offset {newest} of one before")
        newest = max([newest, *(entry.offset for entry in epoch.entries)])
        first: dict[str, Record] = {}
        for record in _records(epoch):
            first.setdefault(record.job, record)
        for job, record in first.items():
            if job in known and not _follows(record, known[job]):
                had = f"{job} had {known[job].seq} records"
                yield Violation("seq", f"{had}, and goes on in {epoch.name} with seq {record.seq}")
        for record in _records(epoch):
            if record.job not in known or record.seq > known[record.job].seq:
                known[record.job] = record


def _follows(record: Record, newest: Record) -> bool:
    """Whether a job whose *newest* record is in an epoch before may go on with *record*.

    A record that no node has received before the epoch ended is appended again, under the same seq. Where it was the
    only one of its job, that has no state to carry over, and begins with the very same record.
    """
    if record.seq == 1:
        return newest.seq == 1 and record.json == newest.json
    return record.seq <= newest.seq + 1


def check_epoch(epoch: Epoch) -> Iterator[Violation]:
    """Offsets without a hole, the seq of a job 1, 2, 3 or on from a carried state, one end, and its state the fold."""
    expected = epoch.entries[0].offset if epoch.trimmed and epoch.entries else epoch.base + 1
    seqs: dict[str, int] = {}
    ended: set[str] = set()
    for entry in epoch.entries:
        if entry.offset != expected:
            yield Violation("offsets", f"{epoch.name} has {entry.offset} where {expected} is next")
        expected = entry.offset + 1
        if (record := entry.record) is None:
            if entry.stored is not None:
                seqs[entry.stored.id] = entry.stored.state.seq
            continue
        before = seqs.get(record.job, record.seq - 1 if epoch.trimmed else 0)
        if record.seq != before + 1:
            yield Violation("seq", f"{record.job} has seq {record.seq} behind {before}, at {epoch.name}-{entry.offset}")
        if record.job in ended:
            yield Violation("end", f"{record.job} has a record behind its end, at {epoch.name}-{entry.offset}")
        seqs[record.job] = record.seq
        if record.terminal:
            ended.add(record.job)
    yield from _check_states(epoch)


def _check_states(epoch: Epoch) -> Iterator[Violation]:
    if epoch.states is None or epoch.trimmed:
        return
    folded: dict[str, JobState] = {}
    offsets: dict[str, int] = {}
    for entry in epoch.entries:
        if entry.record is not None:
            job = entry.record.job
            folded[job] = evolve(folded.get(job, JobState()), entry.record)
        elif entry.stored is not None:
            job = entry.stored.id
            folded[job] = entry.stored.state
        else:
            continue
        offsets[job] = entry.offset
    for job, state in folded.items():
        if job not in epoch.states:
            if epoch.tidied and state.ended:
                continue
            yield Violation("state", f"{job} has records in {epoch.name}, and no state")
            continue
        seq, offset, stored = epoch.states[job]
        if replace(stored.state, offset=0) != replace(state, offset=0):
            yield Violation("state", f"the state of {job} is not the fold of its records: {stored.state} {state}")
        if (seq, offset) != (state.seq, offsets[job]):
            yield Violation("state", f"{job} is kept as {seq} at {offset}, and is {state.seq} at {offsets[job]}")


def check_fences(history: History) -> Iterator[Violation]:
    """No entry has a token below that of the newest claim of its shard at that offset, or the token of another node.

    A new epoch begins without leases, so only claims within an epoch count for its entries.
    """
    claims: dict[tuple[str, int], list[Claim]] = {}
    owners: dict[tuple[str, int], Claim] = {}
    for claim in history.claims:
        claims.setdefault((claim.epoch, claim.shard), []).append(claim)
        if (claim.epoch, claim.token) in owners:
            yield Violation("fence", f"the token {claim.token} was given twice in {claim.epoch}")
        owners[claim.epoch, claim.token] = claim
    for epoch in history.epochs:
        for entry in epoch.entries:
            job = entry.record.job if entry.record is not None else entry.stored.id if entry.stored is not None else ""
            shard = history.shards.get(job)
            if shard is None:
                continue
            known = claims.get((epoch.name, shard), ())
            newest = max((claim.token for claim in known if claim.head < entry.offset), default=0)
            if entry.token < newest:
                words = f"{epoch.name}-{entry.offset} of {job} was appended with token {entry.token} behind the claim"
                yield Violation("fence", f"{words} of shard {shard} with token {newest}")
            owner = owners.get((epoch.name, entry.token))
            # Any node may carry a state over that the owner does not know; records are the owner's alone.
            if owner is None or owner.shard != shard or (entry.record is not None and owner.node != entry.node):
                words = f"{epoch.name}-{entry.offset} of {job}, shard {shard}, by {entry.node} with token {entry.token}"
                yield Violation("fence", f"{words}, which is that of {owner}")


def check_calls(history: History) -> Iterator[Violation]:
    """A draft that was acknowledged is in the stream, a refused one is not, and none is there twice."""
    found: Counter[tuple[str, str, bytes]] = Counter()
    anywhere: set[tuple[str, bytes]] = set()
    for epoch in history.epochs:
        for entry in epoch.entries:
            if entry.record is not None:
                found[epoch.name, entry.node, entry.record.json] += 1
                anywhere.add((entry.node, entry.record.json))
    for (name, node, body), count in found.items():
        if count > 1:
            yield Violation("once", f"{node} has appended {count} times to {name}: {_short(body)}")
    last = history.epochs[-1].name if history.epochs else ""
    trimmed = any(epoch.trimmed for epoch in history.epochs)
    for call in history.calls:
        for draft in call.drafts:
            there = (call.node, draft.body) in anywhere
            if call.outcome == "answered" and not draft.refusal and not there:
                if trimmed or (history.losses and call.epoch != last):
                    continue
                yield Violation("lost", f"{call.node} had an answer for {_short(draft.body)}, which is nowhere")
            if draft.refusal and found[call.epoch, call.node, draft.body]:
                yield Violation("refused", f"{call.node}: {draft.refusal} for {_short(draft.body)}, which is there")
    if history.calls:
        drafted = {(call.node, draft.body) for call in history.calls for draft in call.drafts}
        for node, body in anywhere - drafted:
            yield Violation("invented", f"{node} never wanted to append {_short(body)}")


def check_submits(history: History) -> Iterator[Violation]:
    """One request a key at the upstream, and one job a key for all clients."""
    counts = Counter(request.key for request in history.requests if request.kind == "submit")
    again = accepted_again(history)
    for key, count in counts.items():
        if count > 1 and key not in again:
            yield Violation("submits", f"{key!r} was submitted {count} times")
    jobs: dict[str, str] = {}
    for answer in history.answers:
        if jobs.setdefault(answer.key, answer.job) != answer.job and answer.key not in again:
            yield Violation("keys", f"{answer.key!r} is {jobs[answer.key]} and {answer.job}")
    known = {record.job for epoch in history.epochs for record in _records(epoch)}
    for key, job in jobs.items():
        if job not in known and not history.losses:
            yield Violation("lost", f"{job} was answered to {key!r}, and is in no epoch")


def check_ends(history: History) -> Iterator[Violation]:
    """A job of a caller ends, and as its task does. One whose submission was cut off is lost; no deadline was near."""
    states = history.epochs[-1].states if history.epochs else None
    for job in sorted({answer.job for answer in history.answers} & (states or {}).keys()):
        if states is not None and not states[job][2].state.ended:
            yield Violation("end", f"{job} is {states[job][2].state.status} after all has settled")
    tasks = {task.id: task for task in history.tasks}
    of: dict[str, str] = {}
    for epoch in history.epochs:
        for entry in epoch.entries:
            if entry.stored is not None and entry.record is None:  # its node may not have read of the task
                of[entry.stored.id] = entry.stored.state.task or ""
            if (record := entry.record) is None:
                continue
            if record.event.type == "accepted" and (task := getattr(record.event, "task", None)):
                of[record.job] = task
            if not record.terminal:
                continue
            cut_off = isinstance(record.event, Failed) and record.event.kind == "lost" and not of.get(record.job)
            expected = tasks[of[record.job]].end if of.get(record.job) in tasks else None
            if not cut_off and (expected != record.event.type or _is_late(record)):
                yield Violation("end", f"{record.job} ends with {record.event.text!r}, its task is {expected}")


def _is_late(record: Record) -> bool:
    return isinstance(record.event, Failed) and record.event.kind == "timeout"


def check_polls(history: History) -> Iterator[Violation]:
    """One request an account and interval, over any time; one more for each claim of its shard within that time."""
    polls: dict[str, list[float]] = {}
    for request in history.requests:
        if request.kind == "poll":
            polls.setdefault(request.account, []).append(request.at)
    for account, (shard, interval) in history.accounts.items():
        claims = sorted(claim.at for claim in history.claims if claim.shard == shard)
        times = sorted(
            request.at for request in history.requests if (request.account, request.kind) == (account, "poll")
        )
        least = float("inf")
        passed = 0
        for number, at in enumerate(times):
            while passed < len(claims) and claims[passed] <= at:
                passed += 1
            excess = number - at / interval - passed
            least = min(least, excess)
            if excess - least > SLACK:
                yield Violation("polls", f"{account} had {excess - least:.1f} requests too many up to {at:.3f}")
                least = excess


class Takeover(NamedTuple):
    """How long nobody owned a shard after a fault, and which other faults there were until then."""

    fault: str
    shard: int
    seconds: float
    beside: tuple[str, ...] = ()


def takeovers(history: History, kinds: Collection[str] = ("kill", "stop")) -> list[Takeover]:
    """The time from a fault of a node to the claim of each of its shards by another one.

    A fault of the engine has no node; while there was one, nobody could claim, and such takeovers are left out.
    """
    found: list[Takeover] = []
    owned: dict[int, Claim] = {}
    for claim in sorted(history.claims, key=lambda claim: claim.token):
        before, owned[claim.shard] = owned.get(claim.shard), claim
        # A shard below 0 is none: a lease there says into how many shards the cluster divides its jobs.
        if before is None or before.node == claim.node or claim.shard < 0:
            continue
        since = [fault for fault in history.faults if before.at < fault.at < claim.at]
        own = [fault for fault in since if fault.node == before.node]
        if own and own[-1].kind in kinds and all(fault.node for fault in since if fault.at > own[-1].at - QUIET):
            beside = tuple(
                fault.kind for fault in since if fault.at > own[-1].at - 2 * history.lease and fault != own[-1]
            )
            found.append(Takeover(own[-1].kind, claim.shard, claim.at - own[-1].at, beside))
    return found


def _records(epoch: Epoch) -> Iterator[Record]:
    return (entry.record for entry in epoch.entries if entry.record is not None)


def _short(body: bytes) -> str:
    return body[:140].decode(errors="replace")
