"""Whatever is told, forgotten, cut off, restarted or asked for, in whatever order: no hole and no repetition.

MODEL_EXAMPLES=5000 in the environment looks further.
"""

import os
import shutil
import tempfile
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, rule

from relay import Relay
from relay.errors import JournalError
from relay.events import (
    LEVELS,
    Accepted,
    Cancelled,
    Checking,
    Done,
    DraftsFetch,
    Event,
    Failed,
    Level,
    Log,
    Position,
    Progress,
    Received,
    Record,
    Retrying,
    Stalled,
    Status,
)
from relay.jobs import Job
from relay.journal import Journal, MemoryJournal, Retention, SqliteJournal
from relay.testing import ManualClock
from tests.web.streaming.anew import AnewJournal
from tests.web.streaming.client import Client, Story
from web.streaming.content import StreamContent
from web.streaming.resume import resume_stream, start_stream
from web.streaming.selection import Selection
from web.streaming.wire import SSE

EXAMPLES = int(os.environ.get("MODEL_EXAMPLES", "60"))

figures = st.integers(0, 100)
statuses = st.sampled_from(["queued", "running"])
progress = st.builds(Progress, percent=figures, status=statuses, raw_status=st.sampled_from([None, "rendering"]))
events: st.SearchStrategy[Event] = st.one_of(
    progress,
    st.builds(Checking, attempt=st.just(1), of=st.just(600)),
    st.builds(Received, listed=st.just(1), seconds=st.just(0.2)),
    st.builds(DraftsFetch, attempt=st.just(1)),
    st.builds(Retrying, kind=st.just("timeout"), message=st.just("slow"), attempt=st.just(1), next_in=st.just(1.0)),
    st.builds(Stalled, seconds=st.just(60.0)),
    st.builds(Log, line=st.just("a line"), severity=st.sampled_from(LEVELS)),
)
ends: st.SearchStrategy[Event] = st.one_of(
    st.just(Done(urls=("https://a/b",))), st.just(Failed(kind="policy", message="no")), st.just(Cancelled())
)
picks = st.integers(0, 1_000)
ids = st.sampled_from(["own", "own", "older", "newer", "future", "other epoch", "nonsense", "none"])


class Full:
    """A disk that is full, as long as it is."""

    full = False

    def commit(self) -> None:
        if self.full:
            raise JournalError("the disk is full")
        super().commit()  # type: ignore[misc]


class FullMemory(Full, AnewJournal):
    pass


class FullSqlite(Full, SqliteJournal):
    pass


class Served:
    """A client and, while it is connected, what it is being told; *live*: with others, as soon as anything is said."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.jobs: list[Job] | None = None
        self.content: StreamContent | None = None
        self.live = False


class Delivery(RuleBasedStateMachine):
    """A relay without server, and clients that come, read, are cut off, and come back with whatever they like."""

    served = Bundle[Served]("served")

    def __init__(self) -> None:
        super().__init__()
        self.everything = ExitStack()
        self.all: list[Served] = []
        self.epochs = 0

    def begin(self) -> Full:
        self.epochs += 1
        return FullMemory(self.keep, epoch=f"epoch{self.epochs}")

    @initialize(bound=st.sampled_from([1, 6, 40, 150, 100_000]))
    def first(self, bound: int) -> None:
        self.keep = Retention(records=bound, bytes=10**12)
        self.open(self.begin())
        self.story = Story(self.journal.epoch, bound)
        self.follow(3)

    def open(self, journal: Full) -> None:
        self.full = journal
        assert isinstance(journal, MemoryJournal | SqliteJournal)
        self.journal: Journal = self.everything.enter_context(closing(journal))
        self.relay = Relay([], journal=self.journal, clock=ManualClock(), notify=lambda _: None)
        self.fresh: list[Record] = []
        self.relay.bus.subscribe(self.fresh.append)

    # What is told

    def jobs(self, which: list[int]) -> list[Job]:
        """Some of those that are running."""
        running = [job for job in self.relay.jobs() if not self.relay.bus.pending(job).ended]
        return [running[number % len(running)] for number in which] if running else []

    def publish(self, told: list[tuple[Job, Event]], *, batch: bool) -> None:
        with ExitStack() as stack:
            if batch:
                stack.enter_context(self.relay.bus.batch())
            for job, event in told:
                if not self.relay.bus.pending(job).ended:
                    self.relay.bus.publish(job, event)
        self.pass_on()

    def pass_on(self) -> None:
        """Who is up to date hears at once what the bus has said."""
        self.story.records += self.fresh
        for served in self.all:
            if served.live:
                heard = [SSE.record(record) for record in self.fresh if served.client.wants(record)]
                served.client.hears(b"".join(heard), ())
        self.fresh.clear()

    @rule(count=st.sampled_from([1, 1, 1, 3, 101]))
    def follow(self, count: int) -> None:
        if len(self.relay.jobs()) < 300 and not self.relay.bus.write_blocked.is_set():  # then it takes no new work
            self.publish(
                [(self.relay.registry.admit(), Accepted(upstream="u", task="t")) for _ in range(count)], batch=True
            )

    @rule(said=st.lists(st.tuples(picks, events), max_size=12), batch=st.booleans())
    def say(self, said: list[tuple[int, Event]], batch: bool) -> None:
        jobs = self.jobs([number for number, _ in said])
        self.publish([(job, event) for job, (_, event) in zip(jobs, said, strict=False)], batch=batch)

    @rule(which=picks, count=st.sampled_from([30, 90, 700]), status=statuses, first=events)
    def say_much_of_one_state(self, which: int, count: int, status: Status, first: Event) -> None:
        for job in self.jobs([which]):
            figures = [Progress(percent=n * 100 // count, status=status) for n in range(count)]
            self.publish([(job, event) for event in (first, *figures)], batch=True)

    @rule(which=picks, count=st.integers(1, 4))
    def say_something_long(self, which: int, count: int) -> None:
        """Longer than a page."""
        for job in self.jobs([which]):
            self.publish([(job, Done(urls=("https://a/" + "x" * 4_000,) * 20))], batch=False)
            self.publish([(other, Log(line="x" * 60_000)) for other in self.jobs([which] * count)], batch=True)

    @rule(which=picks, end=ends)
    def end(self, which: int, end: Event) -> None:
        self.publish([(job, end) for job in self.jobs([which])], batch=False)

    @rule()
    def no_more_room(self) -> None:
        self.full.full = True

    @rule()
    def room(self) -> None:
        self.full.full = False
        self.publish([], batch=True)

    # Who hears it

    @rule(
        which=st.none() | st.lists(picks, min_size=1, max_size=3),
        level=st.sampled_from(["debug", "debug", *LEVELS]),
        target=served,
    )
    def come(self, which: list[int] | None, level: Level) -> Served:
        known = self.relay.jobs()
        chosen = None if which is None or not known else frozenset(known[n % len(known)].id for n in which)
        served = Served(Client(chosen, level))
        self.all.append(served)
        self.connect(served, None)
        return served

    @rule(served=served, named=ids, by=st.integers(0, 40))
    def come_back(self, served: Served, named: str, by: int) -> None:
        self.cut_off(served)
        story, own = self.story, served.client.last_id
        spelt = {
            "own": own,
            "older": story.at(max(story.base, story.head - by)),
            "newer": story.at(story.head),
            "future": story.at(story.head + 1 + by),
            "other epoch": f"elsewhere-{by}",
            "nonsense": "nonsense",
            "none": None,
        }
        self.connect(served, spelt[named])

    def connect(self, served: Served, named: str | None) -> None:
        client = served.client
        known = {job.id: job for job in self.relay.jobs()}
        if client.jobs is not None and not client.jobs <= known.keys():
            return  # it is told that they are gone
        jobs = None if client.jobs is None else [known[id] for id in sorted(client.jobs)]
        client.comes(self.story, named, known)
        start = start_stream(self.relay.bus, Selection(jobs), named)
        assert start.finished == client.has_all
        client.is_given(state=start.snapshot)
        if not start.finished:
            served.jobs = jobs
            served.content = StreamContent(self.relay, SSE, start, level=client.level)

    @rule(served=served, slow=st.booleans(), cut=st.none() | st.floats(0, 1))
    def read(self, served: Served, slow: bool, cut: float | None) -> None:
        """A page; cut off in the middle of it, the client is gone."""
        if served.content is not None and not served.live and not served.content.ended:
            self.take(served, served.content, slow=slow, cut=cut)

    @rule(served=served)
    def read_all(self, served: Served) -> None:
        if served.content is None or served.live:
            return
        while not served.content.ended and self.take(served, served.content):
            pass
        jobs = served.client.jobs
        assert served.content.ended == (jobs is not None and self.story.ended(jobs, self.story.head))

    def take(self, served: Served, content: StreamContent, *, slow: bool = False, cut: float | None = None) -> bytes:
        client = served.client
        page = content.next_page(slow=slow)
        client.hears(page if cut is None else page[: int(len(page) * cut)], map(_id, self.relay.jobs()), slow=slow)
        if cut is not None:
            self.cut_off(served)
            return page
        assert client.skipped == 0, "more was said to be left out than was"
        client.claims(str(content.position))
        assert page or (client.awaits, client.lacks(self.story.head)) == (None, [])
        return page

    @rule(served=served, which=picks, count=st.sampled_from([70, 200]), cut=st.none() | st.floats(0, 1))
    def fall_behind(self, served: Served, which: int, count: int, cut: float | None) -> None:
        self.read_all(served)
        self.say_much_of_one_state(which, count, "running", Progress(percent=0, status="queued"))
        self.read(served, slow=True, cut=cut)

    @rule(served=served)
    def hear_with_the_others(self, served: Served) -> None:
        self.read_all(served)
        served.live = served.content is not None and not served.content.ended

    @rule(served=served)
    def hear_alone(self, served: Served) -> None:
        if served.live and served.content is not None:
            self.leaves_the_others(served)
            self.read_all(served)

    def leaves_the_others(self, served: Served) -> StreamContent:
        served.live = False
        start = resume_stream(self.relay.bus, Selection(served.jobs), Position(self.story.epoch, self.story.head))
        served.content = StreamContent(self.relay, SSE, start, level=served.client.level, caught_up=True)
        return served.content

    def cut_off(self, served: Served) -> None:
        served.content, served.live = None, False

    # Beginnings and ends

    @rule()
    def begin_anew(self) -> None:
        """Without the past: another epoch."""
        for served in self.all:
            self.cut_off(served)
        self.journal.close()
        self.open(self.begin())
        self.story = Story(self.journal.epoch, self.story.bound)

    def teardown(self) -> None:
        with self.everything:
            if not hasattr(self, "story"):
                return
            self.room()
            for served in self.all:
                if served.content is None:
                    self.connect(served, served.client.last_id)
                self.hear_alone(served)
                self.read_all(served)


class MemoryDelivery(Delivery):
    """The same with a journal that several nodes share: it may begin anew while streams run."""

    @rule()
    def begin_anew_while_streams_run(self) -> None:
        self.room()
        running = [(served, self.reached(served)) for served in self.all]
        assert isinstance(self.journal, AnewJournal)
        self.epochs += 1
        self.journal.begin_anew(f"epoch{self.epochs}")
        states = {job.id: job.state for job in self.relay.jobs()}
        self.story = Story(self.journal.epoch, self.story.bound, self.journal.head, states)
        for served, reached in running:
            if reached is not None:
                served.client.goes_on_in(self.story, reached)

    def reached(self, served: Served) -> Position | None:
        """Up to where its stream is, if that goes on."""
        client, content = served.client, served.content
        if content is None:
            return None
        if served.live:
            content = self.leaves_the_others(served)
        if content.ended and client.awaits is None and not client.opening:
            self.cut_off(served)
            return None
        return content.position


class SqliteDelivery(Delivery):
    """The same from a file, and across restarts."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.everything.callback(shutil.rmtree, self.folder)

    def begin(self) -> Full:
        self.epochs += 1
        return FullSqlite(self.folder / f"{self.epochs}.db", self.keep, notify=lambda _: None)

    @rule()
    def restart(self) -> None:
        """What was told is known again, and nothing else is."""
        for served in self.all:
            self.cut_off(served)
        self.journal.close()
        self.open(FullSqlite(self.folder / f"{self.epochs}.db", self.keep, notify=lambda _: None))
        assert (self.journal.epoch, self.journal.head) == (self.story.epoch, self.story.head)
        for stored in self.journal.recover():
            self.relay.registry.add(Job(stored.id, stored.state))


def _id(job: Job) -> str:
    return job.id


@pytest.mark.parametrize("machine", [MemoryDelivery, SqliteDelivery])
def test_a_job_whose_first_record_waits_for_room_lacks_nothing_of_what_was_dropped_before(
    machine: type[Delivery],
) -> None:
    state = machine()
    state.first(bound=1)
    state.no_more_room()
    state.follow(count=1)
    served = state.come(which=[3], level="debug")
    state.read_all(served=served)
    state.teardown()


TestMemory = MemoryDelivery.TestCase
TestMemory.settings = settings(max_examples=EXAMPLES, stateful_step_count=40, deadline=None)
TestSqlite = SqliteDelivery.TestCase
TestSqlite.settings = settings(
    max_examples=EXAMPLES // 4, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
