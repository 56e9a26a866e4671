"""What callers request of a node: carried out here, or by the node that owns the job, with the same answers."""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, Final

import msgspec

from relay.bus.bus import Bus
from relay.bus.sharing import TakenError
from relay.clock import Clock
from relay.cluster._messages import (
    CancelJob,
    FollowTask,
    JobMessage,
    ReleaseKey,
    ReportSubmission,
    SeekSubmission,
    SubmitInput,
    WakeJob,
)
from relay.cluster.begun import Begun
from relay.cluster.holdings import Holdings
from relay.cluster.mailbox import Mailbox
from relay.cluster.membership import Membership
from relay.cluster.submissions import SubmissionReports
from relay.errors import UsageError
from relay.events import Accepted, Failed, Record
from relay.jobs.registry import JobRegistry
from relay.jobs.state import Job
from relay.notices import Notify
from relay.polling.cancellation import shutting_down
from relay.polling.poller import Poller
from relay.polling.requests import Admit, Requests
from relay.polling.submission import checked_key, input_digest
from relay.upstreams.base import Upstream

__all__ = ["ClusterRequests"]

MAX_INPUT: Final = 1000 * 1024
"""The most bytes of an input as JSON: it may have to go through the engine, which keeps it for a while."""

TRIES: Final = 64
"""How many ids a node makes, for each shard that there is, to find one that falls into a shard of its own."""

RELEASED: Final = 10_000
"""How many released keys a node remembers."""


class ClusterRequests(Requests):
    """The same requests on any node of a cluster.

    A new job falls into a shard of this node where it can: its id is chosen for that. A job of another node, and all
    jobs of an account that another node polls, are requested of it with a message, and its answer is awaited for
    ANSWER_WITHIN seconds. Whatever becomes of the message, a request that is repeated with its key, or for its task,
    leads to the same job: the journal itself keeps what is unique. A job is returned once it is known here.
    """

    def __init__(
        self,
        bus: Bus,
        registry: JobRegistry,
        upstreams: Mapping[str, Upstream],
        pollers: Mapping[str, Poller],
        clock: Clock,
        notify: Notify,
        *,
        membership: Membership,
        holdings: Holdings,
        mailbox: Mailbox,
        resume: Callable[[Job], object],
        address: Callable[[str, str], str | None],
        is_secret: Callable[[str], bool],
    ) -> None:
        """*resume* goes on with a job that has a task, or whose upstream is not there."""
        how: Any = {"address": address, "is_secret": is_secret}
        super().__init__(bus, registry, upstreams, pollers, clock, notify, forget=bool, **how)
        self._membership = membership
        self._holdings = holdings
        self._mailbox = mailbox
        self._resume = resume
        self._begun = Begun(bus, registry, clock)
        self._released: OrderedDict[tuple[str, str], str] = OrderedDict()
        self._reports = SubmissionReports(bus, membership, mailbox, clock)

    @property
    def under_way(self) -> "set[asyncio.Task[Any]]":
        """The submissions, cancels and requests of other nodes that have begun and are not over."""
        return super().under_way | self._begun.tasks | self._reports.tasks

    def owns(self, shard: int) -> bool:
        """Whether requests for *shard* are carried out here."""
        return not self._quiesced and self._holdings.has(shard)

    # What callers request.

    def release(self, key: str, owner: str = "") -> None:
        """As `Relay.release`; the other nodes are notified, and one that is not for lack of a link keeps the key."""
        if (job := self._registry.release_key(key, owner)) is not None:
            self._remember_release(key, owner, job.id)
            self._mailbox.tell(ReleaseKey(key=key, owner=owner, job=job.id))

    def cancel(self, job_id: str) -> Coroutine[Any, Any, Job]:
        """As `Relay.cancel`: it begins with this call, and awaiting it returns once the end is in the journal."""
        job = self._registry.get(job_id)
        if job.ended or self._holdings.polls(job):
            return self._begun.ended(job, super().cancel(job_id))
        if self._quiesced:
            raise shutting_down("nothing was cancelled")
        return self._begun.joined(self._begun.begin(self._cancel_elsewhere(job)))

    async def wake(self, upstream: str, task: str) -> bool:
        """As `Relay.wake`, wherever the job is polled."""
        jobs = [job for job in self._registry.of_task(upstream, task) if not self._bus.pending(job).ended]
        for job in jobs:
            if not self._holdings.polls(job):
                self._mailbox.tell(WakeJob(job=job.id), self._holdings.shard_of(job))
        return self.wake_here(upstream, task)

    # What other nodes request.

    async def act(self, message: JobMessage, sender: str) -> str | None:
        """Carry out a *message* of the node *sender*; return the id of the job, if an answer is due. Raises RelayError.

        A message that comes again under another id leads to the same job.
        """
        match message:
            case FollowTask():
                return await self._follow_for_another(message)
            case SubmitInput():
                return await self._submit_for_another(message)
            case CancelJob():
                return (await self.cancel(message.job)).id
            case WakeJob():
                job = self._find(message.job)
                poller = None if job is None else self._pollers.get(job.state.upstream)
                if job is not None and poller is not None:
                    poller.wake(job)
            case ReleaseKey():
                released = self._registry.by_key(message.key, message.owner)
                if released is not None and released.id == message.job:
                    self._registry.release_key(message.key, message.owner)
                self._remember_release(message.key, message.owner, message.job)
            case SeekSubmission():
                self._reports.answer(message.job, sender, self._is_submitting(message.job))
            case ReportSubmission():
                self._reports.receive(message, sender)
        return None

    # What the node lets its requests know.

    def arrived(self, job: Job) -> None:
        """*job*, which another node has accepted, is known here from now on."""
        self._begun.arrived(job)

    def committed(self, record: Record) -> None:
        """The journal has the acceptance of a job, its task, or its end."""
        if (job := self._find(record.job)) is not None:
            self._registry.learn(job)
            self._holdings.note(job)
            if job.ended or job.state.task is not None:
                self._reports.known(job)

    def busy(self, job: Job) -> "Awaitable[object] | None":
        """The submission and the cancel of *job* that are under way: they have to be over before it is handed over."""
        works = {work for work in (self._submissions.get(job), self._cancellations.of(job)) if work is not None}
        return asyncio.wait(works) if works else None

    def take_up(self, job: Job) -> None:
        """Go on with *job*, which is this node's from now on."""
        state = self._bus.pending(job)
        if state.ended or state.task is not None or state.upstream not in self._pollers:
            self._resume(job)
        elif job not in self._submissions:
            self._reports.settle(job, self._handed_in, self.adopt)

    # How.

    async def _follow(self, upstream: str, task: str, owner: str, admit: Admit, id: str | None = None) -> Job:
        try:
            return await super()._follow(upstream, task, owner, admit, id)
        except TakenError as taken:
            return await self._begun.known(taken.job)

    async def _submit(
        self,
        upstream: str,
        input: Mapping[str, Any],
        key: str | None,
        digest: bytes,
        owner: str,
        admit: Admit,
        id: str | None = None,
    ) -> Job:
        try:
            return await super()._submit(upstream, input, key, digest, owner, admit, id)
        except TakenError as taken:
            job = await self._begun.known(taken.job)
            if key is not None:
                self._registry.submitted_again(key, digest, owner)  # raises ConflictError for another input
            return job

    async def _begin_to_follow(self, upstream: str, task: str, owner: str, admit: Admit) -> Job:
        id, shard = self._place(upstream)
        if self.owns(shard):
            return await self._begun.whole(self._follow(upstream, task, owner, admit, id))
        message = FollowTask(job=id, upstream=upstream, task=task, owner=owner)
        return await self._begun.whole(self._elsewhere(shard, message, admit))

    async def _begin_to_submit(
        self, upstream: str, input: Mapping[str, Any], key: str | None, digest: bytes, owner: str, admit: Admit
    ) -> Job:
        """Here or elsewhere. Raises UsageError also for an input of more than MAX_INPUT bytes."""
        if len(msgspec.json.encode(input)) > MAX_INPUT:
            raise UsageError(f"an input has at most {MAX_INPUT // 1024:,} KiB where several nodes share the work")
        id, shard = self._place(upstream)
        if self.owns(shard):
            return await self._begun.whole(self._submit(upstream, input, key, digest, owner, admit, id))
        message = SubmitInput(job=id, upstream=upstream, input=dict(input), key=key, owner=owner)
        return await self._begun.whole(self._elsewhere(shard, message, admit))

    def _place(self, upstream: str) -> tuple[str, int]:
        """An id for a new job on *upstream*, and its shard: one of this node's, if that can be had."""
        shards = self._membership.shards
        id = self._registry.new_id()
        tries = TRIES * shards.count if any(self.owns(shard) for shard in self._membership.owned) else 0
        while not self.owns(shard := shards.of(id, upstream)) and tries > 0 and not shards.is_per_account(upstream):
            id, tries = self._registry.new_id(), tries - 1
        return id, shard

    async def _elsewhere(self, shard: int, message: FollowTask | SubmitInput, admit: Admit) -> Job:
        if self._quiesced:
            raise shutting_down("no new work is accepted")
        admit(message.job)
        return await self._begun.known(await self._mailbox.ask(shard, message))

    async def _follow_for_another(self, message: FollowTask) -> str:
        self._check_task(message.upstream, message.task)
        # Not the turn of this node's own callers: one of them may be the sender, and wait for this.
        async with self._turn("task of another", message.upstream, message.task, message.owner):
            job = self._find(message.job) or self._registry.by_task(message.upstream, message.task, message.owner)
            if job is None:
                job = await self._follow(message.upstream, message.task, message.owner, str, message.job)
            return job.id

    async def _submit_for_another(self, message: SubmitInput) -> str:
        self._check_submits(message.upstream)
        digest = input_digest(message.upstream, message.input)
        key = None if message.key is None else checked_key(message.key)
        async with self._turn("key of another", key if key is not None else message.job, message.owner):
            known = None if key is None else self._registry.submitted_again(key, digest, message.owner)
            job = self._find(message.job) or known
            if job is None:
                job = await self._submit(message.upstream, message.input, key, digest, message.owner, str, message.job)
            return job.id

    async def _cancel_elsewhere(self, job: Job) -> Job:
        await self._mailbox.ask(self._holdings.shard_of(job), CancelJob(job=job.id))
        return await self._begun.ended(job)

    def _handed_in(self, job: Job, outcome: Accepted | Failed) -> None:
        if self._bus.pending(job).ended:
            if isinstance(outcome, Accepted):
                self._notify(f"{job.id} has ended, and its submission has led to task {outcome.task} all the same")
            return
        self._reports.note(job, outcome)
        if self._holdings.polls(job):
            super()._handed_in(job, outcome)
        else:
            self._reports.report(job)

    def _watch(self, job: Job, *, submitted: bool = False) -> None:
        if self._holdings.polls(job):  # otherwise it is polled with its shard
            super()._watch(job, submitted=submitted)

    def _unique(self, accepted: Accepted, owner: str, key: str | None) -> str:
        if accepted.task is not None:
            return _name("task", accepted.upstream, accepted.task, owner)
        return "" if key is None else _name("key", owner, key, self._released.get((owner, key), ""))

    def _remember_release(self, key: str, owner: str, job: str) -> None:
        self._released[owner, key] = job
        while len(self._released) > RELEASED:
            self._released.popitem(last=False)

    def _is_submitting(self, job_id: str) -> bool:
        job = self._find(job_id)
        return job is not None and job in self._submissions

    def _find(self, job_id: str) -> Job | None:
        return self._registry.find(job_id)


def _name(*parts: str) -> str:
    """A name of a fixed length for what is to be unique: no text of a client becomes a key of the engine."""
    return f"{parts[0]}:{hashlib.sha256(msgspec.json.encode(parts)).hexdigest()[:40]}"
