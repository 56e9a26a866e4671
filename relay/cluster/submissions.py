"""Submissions whose node lost the job meanwhile: the new owner publishes their outcome, or that the job is lost."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, TypeAlias

from relay.bus.bus import Bus
from relay.clock import Clock
from relay.cluster._messages import ReportSubmission, SeekSubmission
from relay.cluster._within import within
from relay.cluster.mailbox import Mailbox
from relay.cluster.membership import Membership
from relay.events import Accepted, Failed
from relay.jobs.state import Job

__all__ = ["SubmissionReports"]

Outcome: TypeAlias = Accepted | Failed

SEEK_WITHIN: Final = 3.0
"""Seconds in which a node that is submitting a job has to say so, or the job counts as lost."""

LOOK_EVERY: Final = 1.0
"""Seconds between two looks whether that node still lives."""

REMEMBERED: Final = 10_000


class _Search:
    """The search for the node that submits a job: *node* is its name, once it has answered."""

    def __init__(self) -> None:
        self.node = ""
        self.news = asyncio.Event()


class SubmissionReports:
    """Outcomes that are not in the journal yet, by job, and the searches for those that nobody knows.

    A job that was accepted and has no task is either being submitted by some node, or that node is gone. Nobody submits
    it again.
    """

    def __init__(
        self,
        bus: Bus,
        membership: Membership,
        mailbox: Mailbox,
        clock: Clock,
    ) -> None:
        self._bus = bus
        self._membership = membership
        self._mailbox = mailbox
        self._clock = clock
        self._outcomes: OrderedDict[str, Outcome] = OrderedDict()
        self._searches: dict[str, _Search] = {}
        self.tasks: set[asyncio.Task[None]] = set()
        """The searches under way."""

    def note(self, job: Job, outcome: Outcome) -> None:
        """The submission of *job* is over, and its *outcome* not in the journal yet."""
        self._note(job.id, outcome)

    def known(self, job: Job) -> None:
        """The journal has a task of *job*, or its end."""
        self._outcomes.pop(job.id, None)

    def report(self, job: Job) -> None:
        """Let all nodes have the outcome: another one owns *job* by now, or will."""
        self._mailbox.tell(ReportSubmission(job=job.id, outcome=self._outcomes.get(job.id)))

    def answer(self, job_id: str, to: str, submitting: bool) -> None:
        """The node *to* owns a job without a task, and seeks who submits it."""
        if submitting or job_id in self._outcomes:
            self._mailbox.tell(ReportSubmission(job=job_id, outcome=self._outcomes.get(job_id)), to=to)

    def receive(self, report: ReportSubmission, sender: str) -> None:
        """Note what another node reports of a submission of its own."""
        if report.outcome is not None:
            self._note(report.job, report.outcome)
        if (search := self._searches.get(report.job)) is not None:
            search.node = sender
            search.news.set()

    def settle(self, job: Job, publish: Callable[[Job, Outcome], object], adopt: Callable[[Job], object]) -> None:
        """Publish the outcome of the submission of *job*, which this node owns: at once, or when a node reports it.

        *adopt* is called with the job if no node that lives submits it.
        """
        if (outcome := self._outcomes.get(job.id)) is not None:
            publish(job, outcome)
        elif job.id not in self._searches:
            self._searches[job.id] = search = _Search()
            task = asyncio.create_task(self._seek(job, search, publish, adopt), name=f"seek the submission of {job.id}")
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    async def _seek(
        self, job: Job, search: _Search, publish: Callable[[Job, Outcome], object], adopt: Callable[[Job], object]
    ) -> None:
        try:
            self._mailbox.tell(SeekSubmission(job=job.id))
            await self._wait(search, SEEK_WITHIN)
            while job.id not in self._outcomes and search.node in self._membership.nodes:
                await self._wait(search, LOOK_EVERY)
        finally:
            del self._searches[job.id]
        if self._bus.pending(job).task is None and not self._bus.pending(job).ended:
            outcome = self._outcomes.get(job.id)
            adopt(job) if outcome is None else publish(job, outcome)

    async def _wait(self, search: _Search, seconds: float) -> None:
        search.news.clear()
        try:
            await within(self._clock, seconds, search.news.wait())
        except TimeoutError:
            """Nothing came in that time."""

    def _note(self, job_id: str, outcome: Outcome) -> None:
        self._outcomes[job_id] = outcome
        while len(self._outcomes) > REMEMBERED:
            self._outcomes.popitem(last=False)
