"""Which jobs a relay has, without a relay, a bus or an event loop."""

from collections.abc import Callable
from itertools import count

import pytest

from relay.errors import BusyError, ConflictError, UnknownJobError
from relay.events import Done
from relay.jobs import Job, JobState
from relay.jobs.registry import SWEEP_FROM, JobRegistry

ENDED = JobState(terminal=Done())
OWNED = ((1, "ann"), (2, "bob"), (3, "ann"))


def registry(keeps: Callable[[str], bool] = lambda _: True, max_running: int = 10_000) -> JobRegistry:
    numbers = count(1)
    return JobRegistry(keeps, max_running=max_running, new_id=lambda: f"job_{next(numbers)}")


def test_a_job_is_found_by_its_id_its_task_and_its_key() -> None:
    jobs = registry()
    first, second = jobs.admit(), jobs.admit()
    jobs.bind_task(first, "sora", "task_1")
    jobs.bind_key(second, "k", b"digest")

    assert (list(jobs), len(jobs)) == ([first, second], 2)
    assert (jobs.get("job_1"), jobs.by_task("sora", "task_1"), jobs.by_key("k")) == (first, first, second)
    assert (jobs.by_task("luma", "task_1"), jobs.by_key("other")) == (None, None)
    with pytest.raises(UnknownJobError, match="'job_3'"):
        jobs.get("job_3")


def test_only_the_registered_object_is_a_job_of_the_registry() -> None:
    jobs = registry()
    job = jobs.admit()

    assert (job in jobs, Job(job.id) in jobs, "job_1" in jobs) == (True, False, False)


def test_a_key_that_comes_again_with_another_input_is_a_conflict() -> None:
    jobs = registry()
    job = jobs.admit()
    jobs.bind_key(job, "k", b"one")

    assert (jobs.submitted_again("k", b"one"), jobs.submitted_again("new", b"two")) == (job, None)
    with pytest.raises(ConflictError, match="the key 'k' was used for another request"):
        jobs.submitted_again("k", b"two")


def test_a_job_that_exists_already_is_learned_once_and_its_task_whenever_it_has_one() -> None:
    jobs = registry()
    known = jobs.learn(Job("job_9", JobState(seq=1), "ann"), key="k", digest=b"one")
    jobs.release_key("k", "ann")
    known.state = JobState(upstream="sora", task="task_1", seq=2)
    again = [jobs.learn(Job("job_9", JobState(), "ann"), key="k", digest=b"one") for _ in range(2)]
    newer = jobs.learn(Job("job_10", JobState(upstream="sora", task="task_1"), "ann"), key="k", digest=b"two")

    assert (again, list(jobs), jobs.of("ann")) == ([known, known], [known, newer], [known, newer])
    assert jobs.of_task("sora", "task_1") == [known, newer]
    assert (jobs.by_task("sora", "task_1", "ann"), jobs.by_key("k", "ann")) == (newer, newer)


def test_a_key_that_was_released_is_not_learned_again() -> None:
    jobs = registry()
    jobs.learn(Job("job_9"), key="k", digest=b"one")
    before = jobs.by_key("k")
    jobs.release_key("k")
    jobs.learn(Job("job_9"), key="k", digest=b"one")

    assert (before is not None, jobs.by_key("k")) == (True, None)


def test_a_job_that_could_not_begin_leaves_nothing_behind() -> None:
    jobs = registry()
    job = jobs.admit("ann")
    jobs.withdraw(job)

    assert (list(jobs), job in jobs, jobs.of("ann")) == ([], False, [])
    assert not jobs._of_owner, "owners that never had a job would fill the memory"


def test_each_owner_has_jobs_tasks_and_keys_of_its_own() -> None:
    jobs = registry()
    anns, bobs, nobodys = jobs.admit("ann"), jobs.admit("bob"), jobs.admit()
    for job in (anns, bobs, nobodys):
        jobs.bind_task(job, "sora", "task_1")
        jobs.bind_key(job, "k", job.owner.encode())

    owners = ("ann", "bob", "", "cleo")
    assert [jobs.of(owner) for owner in owners] == [[anns], [bobs], [nobodys], []]
    assert [jobs.by_task("sora", "task_1", owner) for owner in owners] == [anns, bobs, nobodys, None]
    assert [jobs.by_key("k", owner) for owner in owners] == [anns, bobs, nobodys, None]
    assert (jobs.by_task("sora", "task_1"), jobs.by_key("k")) == (nobodys, nobodys)
    assert jobs.of_task("sora", "task_1") == [anns, bobs, nobodys]
    assert jobs.of_task("luma", "task_1") == []


def test_a_key_is_known_used_otherwise_and_released_for_its_owner_alone() -> None:
    jobs = registry()
    anns, bobs = jobs.admit("ann"), jobs.admit("bob")
    jobs.bind_key(anns, "k", b"one")
    assert jobs.submitted_again("k", b"two", "bob") is None
    jobs.bind_key(bobs, "k", b"two")
    with pytest.raises(ConflictError):
        jobs.submitted_again("k", b"two", "ann")

    assert (jobs.release_key("k"), jobs.release_key("k", "ann"), jobs.release_key("k", "ann")) == (None, anns, None)
    assert (jobs.by_key("k", "ann"), jobs.by_key("k", "bob")) == (None, bobs)


def test_an_owner_and_a_key_are_not_taken_for_another_owner_and_key() -> None:
    jobs = registry()
    job = jobs.admit("a")
    jobs.bind_key(job, "b/c", b"")
    jobs.bind_task(job, "b", "c/d")

    assert (jobs.by_key("c", "a/b"), jobs.by_key("a", "b/c")) == (None, None)
    assert (jobs.by_task("b/c", "d", "a"), jobs.by_task("a", "c/d", "b")) == (None, None)


def test_the_jobs_of_an_owner_behind_an_offset_are_those_with_newer_records() -> None:
    jobs = registry()
    for id, owner, seq, offset in (("a", "ann", 3, 7), ("b", "bob", 1, 9), ("c", "ann", 1, 8), ("old", "ann", 4, 0)):
        jobs.add(Job(id, JobState(seq=seq, offset=offset), owner))

    assert [jobs.behind(after, "ann") for after in (0, 7, 8)] == [["a", "c", "old"], ["c", "old"], ["old"]]
    assert (jobs.behind(0, "bob"), jobs.behind(0, "")) == (["b"], [])


def test_no_more_jobs_run_than_may_and_those_that_ended_do_not_count() -> None:
    jobs = registry(max_running=2)
    first, _ = jobs.admit(), jobs.admit()
    with pytest.raises(BusyError, match="2 jobs are running"):
        jobs.admit()

    first.state = ENDED

    assert jobs.admit().id == "job_3"


def test_jobs_of_an_earlier_process_are_added_beyond_the_limit() -> None:
    jobs = registry(max_running=1)
    earlier = [jobs.add(Job(name)) for name in ("a", "b")]

    assert list(jobs) == earlier
    with pytest.raises(BusyError):
        jobs.admit()


def test_a_sweep_removes_ended_jobs_that_the_journal_has_dropped_with_their_tasks_and_keys() -> None:
    kept = {"job_1"}
    jobs = registry(kept.__contains__)
    known, dropped, running = jobs.admit("ann"), jobs.admit("bob"), jobs.admit("ann")
    for job in (known, dropped, running):
        jobs.bind_task(job, "sora", f"task of {job.id}")
        jobs.bind_key(job, f"key of {job.id}", b"")
    known.state = dropped.state = ENDED
    while len(jobs) < SWEEP_FROM:
        jobs.admit().state = ENDED

    last = jobs.admit()

    assert list(jobs) == [known, running, last]
    assert [jobs.by_task("sora", f"task of job_{n}", o) for n, o in OWNED] == [known, None, running]
    assert [jobs.of_task("sora", f"task of job_{n}") for n, _ in OWNED] == [[known], [], [running]]
    assert [jobs.by_key(f"key of job_{n}", o) for n, o in OWNED] == [known, None, running]
    assert [jobs.of(owner) for owner in ("ann", "bob", "")] == [[known, running], [], [last]]
