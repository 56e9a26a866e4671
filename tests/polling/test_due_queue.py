"""Turns in the order of their due times, by a model; and an alarm that can be brought forward."""

import asyncio
import math

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from relay.polling.due_queue import Alarm, DueQueue
from relay.testing import ManualClock

items = st.sampled_from("abcdefgh")
times = st.integers(0, 20).map(float)


class Turns(RuleBasedStateMachine):
    """The queue beside a list of (due, item), which is searched from end to end."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = DueQueue[str]()
        self.turns: list[tuple[float, str]] = []
        self.newcomers: list[str] = []

    def put_in_model(self, item: str, due: float) -> None:
        self.turns = [*((at, other) for at, other in self.turns if other != item), (due, item)]

    @rule(item=items, due=times)
    def put(self, item: str, due: float) -> None:
        self.queue.put(item, due)
        self.put_in_model(item, due)

    @rule(item=items)
    def discard(self, item: str) -> None:
        self.queue.discard(item)
        self.turns = [(at, other) for at, other in self.turns if other != item]
        self.newcomers = [other for other in self.newcomers if other != item]

    @rule(item=items)
    def join(self, item: str) -> None:
        self.queue.join(item)
        self.newcomers = list(dict.fromkeys([*self.newcomers, item]))

    @rule(start=times)
    def welcome(self, start: float) -> None:
        self.queue.welcome(start, 8.0)
        newcomers, self.newcomers = self.newcomers, []
        for number, item in enumerate(newcomers):
            self.put_in_model(item, start + 8.0 * number / len(newcomers))

    @rule(waiting=st.lists(items, unique=True), start=times)
    def spread(self, waiting: list[str], start: float) -> None:
        self.queue.spread(waiting, start, 8.0, not_before=lambda item: 12.0 if item == "a" else 0.0)
        self.turns, self.newcomers = [], []
        for number, item in enumerate(waiting):
            self.put_in_model(item, max(start + 8.0 * number / len(waiting), 12.0 if item == "a" else 0.0))

    @rule(now=times)
    def take_all_due(self, now: float) -> None:
        expected = [item for due, item in sorted(self.turns, key=lambda turn: turn[0]) if due <= now]
        assert self.queue.all_due(now) == expected
        taken = list[str]()
        while (item := self.queue.first_due(now)) is not None:
            self.queue.discard(item)
            taken.append(item)
        self.turns = [(due, item) for due, item in self.turns if due > now]
        self.newcomers = [item for item in self.newcomers if item not in taken]
        assert taken == expected

    @invariant()
    def everyone_has_the_turn_of_the_model(self) -> None:
        due = {item: at for at, item in self.turns}
        assert {item: self.queue.due(item) for item in "abcdefgh" if item in self.queue} == due
        assert (len(self.queue), self.queue.next_at) == (len(due), min(due.values(), default=math.inf))
        assert self.queue.first_due(self.queue.next_at - 0.5) is None


TestTurns = Turns.TestCase
TestTurns.settings = settings(deadline=None)


def test_a_turn_may_be_brought_forward_wherever_it_is_given() -> None:
    queue = DueQueue[str](lambda item, due: min(due, 3.0) if item == "b" else due)
    queue.join("a")
    queue.join("b")
    queue.welcome(1.0, 8.0)
    welcomed = queue.all_due(99.0), queue.due("b")
    queue.spread("ab", 2.0, 8.0)
    spread = queue.all_due(99.0), queue.due("b")
    queue.put("b", 50.0)

    assert (welcomed, spread, queue.due("b")) == ((["a", "b"], 3.0), (["a", "b"], 3.0), 3.0)


def test_an_item_without_a_turn_is_due_before_all_others() -> None:
    queue = DueQueue[str]()
    queue.join("a")

    assert ("a" in queue, queue.due("a"), queue.next_at) == (False, -math.inf, math.inf)


@pytest.fixture
async def clock() -> ManualClock:
    return ManualClock(auto=True)


@pytest.fixture
async def alarm(clock: ManualClock) -> Alarm:
    return Alarm(clock)


async def test_an_alarm_lets_go_on_at_its_time(alarm: Alarm, clock: ManualClock) -> None:
    await alarm.wait(5.0)

    assert clock.monotonic() == 5.0


async def test_an_alarm_that_has_rung_lets_the_next_wait_return_at_once_and_no_other(
    alarm: Alarm, clock: ManualClock
) -> None:
    alarm.ring()
    alarm.ring()
    await alarm.wait(math.inf)
    at = clock.monotonic()
    await alarm.wait(5.0)

    assert (at, clock.monotonic()) == (0.0, 5.0)


@pytest.mark.parametrize(("at", "rings_at"), [(2.0, 2.0), (9.0, 5.0), (math.inf, 5.0)])
async def test_an_alarm_is_brought_forward_and_never_put_off(
    alarm: Alarm, clock: ManualClock, at: float, rings_at: float
) -> None:
    waiting = asyncio.create_task(alarm.wait(5.0))
    await asyncio.sleep(0)
    alarm.ring_by(at)
    await waiting

    assert clock.monotonic() == rings_at


async def test_a_stopped_alarm_leaves_no_timer_and_can_be_set_again(alarm: Alarm, clock: ManualClock) -> None:
    alarm.ring_by(5.0)
    await alarm.stop()
    tasks = asyncio.all_tasks()
    await alarm.wait(9.0)

    assert (tasks, clock.monotonic()) == ({asyncio.current_task()}, 9.0)
