"""Which jobs a relay has: by id, by owner, by the task that each one follows, and by the key of its submission."""

import secrets
from collections.abc import Callable, Iterator
from typing import Final
from weakref import WeakKeyDictionary

from relay.errors import BusyError, ConflictError, UnknownJobError
from relay.jobs.state import Job

__all__ = ["MAX_RUNNING", "JobRegistry", "new_job_id"]

MAX_RUNNING: Final = 10_000
SWEEP_FROM: Final = 1_024


def new_job_id() -> str:
    """An id that nobody can guess."""
    return f"job_{secrets.token_hex(8)}"


class JobRegistry:
    """All jobs that are running, and those that have ended while the journal still keeps records of them.

    It does no I/O and publishes nothing. *keeps* says whether the journal keeps any record of the job with an id.

    Tasks and keys are looked up for one owner, so that no owner finds another's job or blocks another's key. Two owners
    that follow one task have a job each. News of a task from its upstream is for all jobs `of_task`.
    """

    def __init__(
        self,
        keeps: Callable[[str], bool],
        *,
        max_running: int = MAX_RUNNING,
        new_id: Callable[[], str] = new_job_id,
    ) -> None:
        self._keeps = keeps
        self._max_running = max_running
        self.new_id: Callable[[], str] = new_id
        self._jobs: dict[str, Job] = {}
        self._of_owner: dict[str, dict[str, Job]] = {}
        self._of_task: dict[tuple[str, str], list[Job]] = {}
        self._by_task: dict[tuple[str, str, str], Job] = {}
        self._by_key: dict[tuple[str, str], tuple[Job, bytes]] = {}
        self._keys: WeakKeyDictionary[Job, tuple[str, bytes]] = WeakKeyDictionary()
        self._sweep_at = SWEEP_FROM

    def __iter__(self) -> Iterator[Job]:
        """The jobs, oldest first."""
        return iter(self._jobs.values())

    def __len__(self) -> int:
        return len(self._jobs)

    def __contains__(self, job: object) -> bool:
        """Whether *job* itself is registered; another object with the same id is not."""
        return isinstance(job, Job) and self._jobs.get(job.id) is job

    def get(self, job_id: str) -> Job:
        """The job with this id. Raises UnknownJobError."""
        try:
            return self._jobs[job_id]
        except KeyError:
            raise UnknownJobError(job_id) from None

    def find(self, job_id: str) -> Job | None:
        """The job with this id, if it is known."""
        return self._jobs.get(job_id)

    def of(self, owner: str) -> list[Job]:
        """The jobs of *owner*, oldest first. It costs what is returned, however many jobs others have."""
        return list(self._of_owner.get(owner, {}).values())

    def behind(self, after: int, owner: str) -> list[str]:
        """The ids of the jobs of *owner* with a record behind offset *after*, as `Journal.read` takes them."""
        # The state of a job that 0.2.0 or before has stored has no offset.
        return [job.id for job in self._of_owner.get(owner, {}).values() if not 0 < job.state.offset <= after]

    def of_task(self, upstream: str, task: str) -> list[Job]:
        """The jobs that follow *task* of *upstream*, whosever they are, in the order in which they came to it."""
        return list(self._of_task.get((upstream, task), ()))

    def by_task(self, upstream: str, task: str, owner: str = "") -> Job | None:
        """The job of *owner* that follows *task* of *upstream*, if there is one."""
        return self._by_task.get((upstream, task, owner))

    def by_key(self, key: str, owner: str = "") -> Job | None:
        """The job that *owner* has submitted with *key*, if there is one."""
        job, _ = self._by_key.get((owner, key), (None, b""))
        return job

    def submitted_again(self, key: str, digest: bytes, owner: str = "") -> Job | None:
        """As `by_key`. Raises ConflictError if the digest of the input was another."""
        job, known = self._by_key.get((owner, key), (None, digest))
        if known != digest:
            raise ConflictError(f"the key {key!r} was used for another request; use a new key for a new request")
        return job

    def admit(self, owner: str = "", id: str | None = None) -> Job:
        """Register a new job of *owner*, without task or key; *id* is that of a caller that needs a certain one.

        Raises BusyError if as many are running as there may be, UsageError for what cannot be an owner.
        """
        self._sweep_if_many()
        if len(self._jobs) >= self._max_running <= sum(not job.ended for job in self._jobs.values()):
            raise BusyError(f"{self._max_running:,} jobs are running, the most there may be; try again when some ended")
        return self.add(Job(self.new_id() if id is None else id, owner=owner))

    def add(self, job: Job) -> Job:
        """Register *job*, which exists already, whatever the limit; return it."""
        self._jobs[job.id] = job
        self._of_owner.setdefault(job.owner, {})[job.id] = job
        return job

    def learn(self, job: Job, *, key: str | None = None, digest: bytes = b"") -> Job:
        """Register *job*, which exists already, with its task and its *key*; return the job that has its id then.

        One that is registered already stays, and only its task is new: its key may have been released meanwhile.
        """
        known = self._jobs.get(job.id)
        if known is None:
            self._sweep_if_many()
            self.add(job)
            if key is not None:
                self.bind_key(job, key, digest)
        job = known or job
        if job.state.task is not None and job not in self.of_task(job.state.upstream, job.state.task):
            self.bind_task(job, job.state.upstream, job.state.task)
        return job

    def withdraw(self, job: Job) -> None:
        """Remove a job that was admitted and could not begin."""
        del self._jobs[job.id]
        owned = self._of_owner[job.owner]
        del owned[job.id]
        if not owned:
            del self._of_owner[job.owner]

    def bind_task(self, job: Job, upstream: str, task: str) -> None:
        """Record that *job* follows *task* of *upstream*: for its owner, in place of an earlier job."""
        self._by_task[upstream, task, job.owner] = job
        if job not in (jobs := self._of_task.setdefault((upstream, task), [])):
            jobs.append(job)

    def bind_key(self, job: Job, key: str, digest: bytes) -> None:
        """Record that *job* was submitted by its owner with *key*, and with an input of this *digest*."""
        self._by_key[job.owner, key] = (job, digest)
        self._keys[job] = (key, digest)

    def release_key(self, key: str, owner: str = "") -> Job | None:
        """Forget the job that *owner* has submitted with *key*, and return it, if there is one."""
        job, _ = self._by_key.pop((owner, key), (None, b""))
        if job is not None:
            self._keys.pop(job, None)
        return job

    def key_of(self, job: Job) -> tuple[str | None, bytes]:
        """The key that *job* was submitted with, and the digest of its input, unless the key is released."""
        return self._keys.get(job, (None, b""))

    def _sweep_if_many(self) -> None:
        if len(self._jobs) >= self._sweep_at:
            self._sweep()

    def _sweep(self) -> None:
        """Remove ended jobs that the journal no longer keeps; the next sweep is when the number of jobs has doubled."""
        self._jobs = {id: job for id, job in self._jobs.items() if not job.ended or self._keeps(id)}
        self._of_owner = {}
        for job in self._jobs.values():
            self._of_owner.setdefault(job.owner, {})[job.id] = job
        left = {task: [job for job in jobs if job.id in self._jobs] for task, jobs in self._of_task.items()}
        self._of_task = {task: jobs for task, jobs in left.items() if jobs}
        self._by_task = {task: job for task, job in self._by_task.items() if job.id in self._jobs}
        self._by_key = {key: known for key, known in self._by_key.items() if known[0].id in self._jobs}
        self._sweep_at = max(SWEEP_FROM, 2 * len(self._jobs))
