"""What one client may ask for, what all may hold together, and how often the operator reads of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from aiohttp.test_utils import make_mocked_request

from relay import Relay
from relay.events import Done
from relay.testing import ManualClock
from tests.relay.scripted import RUNNING, TwoStep, story
from tests.web.serving import serve
from web.access.addresses import client_of
from web.memory import MemoryBudget
from web.middleware.client_limits import KNOWN_CLIENTS, ClientLimits
from web.middleware.problems import RequestError
from web.request_failures import PLACES, QUIET_FOR, RequestFailures

TASKS = {f"task_{number}": RUNNING for number in range(20)}


def a_relay(clock: ManualClock) -> Relay:
    return Relay([TwoStep(story(TASKS))], clock=clock)


def follow(number: int) -> dict[str, Any]:
    return {"json": {"upstream": "scripted", "task": f"task_{number}"}}


async def test_a_client_has_so_many_running_jobs_and_gets_room_when_one_ends() -> None:
    relay = a_relay(ManualClock())
    async with serve(relay, max_jobs_per_client=2) as client:
        begun = [await client.post("/v1/jobs", **follow(number)) for number in range(3)]
        known = await client.post("/v1/jobs", **follow(1))
        relay.bus.publish(relay.job((await begun[0].json())["job"]), Done(urls=("https://a/b",)))
        after = await client.post("/v1/jobs", **follow(2))

        assert [response.status for response in (*begun, known, after)] == [201, 201, 429, 200, 201]
        assert begun[2].headers["Retry-After"] == "30"
        assert (await begun[2].json(content_type=None))["detail"] == (
            "2 jobs of this client are running, the most it may have (`max_jobs_per_client`); try again when some have"
            " ended"
        )


async def test_a_client_begins_so_many_jobs_a_minute_and_is_told_when_it_may_again() -> None:
    clock = ManualClock()
    async with serve(a_relay(clock), new_jobs_per_minute=4) as client:
        first = [(await client.post("/v1/jobs", **follow(number))).status for number in range(4)]
        refused = await client.post("/v1/jobs", **follow(4))
        known = await client.post("/v1/jobs", **follow(0))
        await clock.advance(15)
        later = [(await client.post("/v1/jobs", **follow(number))).status for number in (4, 5)]

        assert (first, refused.status, known.status, later) == ([201] * 4, 429, 200, [201, 429])
        assert refused.headers["Retry-After"] == "15"


async def test_a_start_is_counted_in_the_step_that_checks_it_and_not_if_nothing_began() -> None:
    clock = ManualClock()
    relay = a_relay(clock)
    limits = ClientLimits(relay, running=1, a_minute=3, now=clock.monotonic)
    async with relay:
        job = relay.follow("scripted", "task_0")
        with limits.start("ann") as first, limits.start("ann") as second:
            first(job.id)
            with pytest.raises(RequestError, match="1 jobs of this client"):
                second("job_2")
            assert (first.kept(job.id), second.kept(job.id)) == (True, False)
        relay.bus.publish(job, Done(urls=("https://a/b",)))
        with limits.start("ann") as joined:
            joined("job_3")
            assert not joined.kept(job.id), "another request has begun it"
        with limits.start("ann") as failed:
            failed("job_4")
        for number in range(2):
            with limits.start("ann") as later:
                later(f"job_{number}")
                later.kept(f"job_{number}")
        with pytest.raises(RequestError, match="3 jobs within a minute"):
            limits.check("ann")


async def test_what_is_refused_for_another_reason_costs_a_client_nothing() -> None:
    async with serve(a_relay(ManualClock()), new_jobs_per_minute=1) as client:
        for body in (
            {"upstream": "other", "task": "t"},
            {"upstream": "scripted"},
            {"upstream": "scripted", "task": ""},
        ):
            assert (await client.post("/v1/jobs", json=body)).status == 400

        assert (await client.post("/v1/jobs", **follow(0))).status == 201


async def test_submissions_count_as_well_and_the_same_key_again_does_not() -> None:
    submit: Mapping[str, Any] = {"json": {"upstream": "scripted", "input": {}}}
    async with serve(a_relay(ManualClock()), max_jobs_per_client=1) as client:
        statuses = [
            (await client.post("/v1/jobs", **submit, headers={"Idempotency-Key": key})).status
            for key in ("a", "a", "b")
        ]

    assert statuses == [201, 200, 429]


async def test_without_limits_a_client_takes_what_it_likes() -> None:
    async with serve(a_relay(ManualClock()), max_jobs_per_client=0, new_jobs_per_minute=0) as client:
        assert {(await client.post("/v1/jobs", **follow(number))).status for number in range(20)} == {201}


async def test_another_client_has_limits_of_its_own_and_what_is_known_of_clients_is_bounded() -> None:
    clock = ManualClock()
    async with a_relay(clock) as relay:
        limits = ClientLimits(relay, running=1, a_minute=1, now=clock.monotonic)
        limits.record_start("a", relay.follow("scripted", "task_0").id)

        with pytest.raises(RequestError):
            limits.check("a")
        limits.check("b")
        for number in range(2 * KNOWN_CLIENTS):
            limits.record_start(f"10.{number}", "job_that_has_ended")
        assert len(limits._left) == KNOWN_CLIENTS
        assert len(limits._jobs) < 2_000
        with pytest.raises(RequestError, match="running"):
            limits.check("a")


@pytest.mark.parametrize(
    ("address", "client"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("/run/proxy.sock", "/run/proxy.sock"),
    ],
)
def test_a_client_is_an_address_or_the_network_that_it_may_change_within(address: str, client: str) -> None:
    assert client_of(make_mocked_request("GET", "/").clone(remote=address)) == client


@dataclass(eq=False)
class Guest:
    name: str
    left: bool = False

    def evict(self) -> None:
        self.left = True


def test_a_room_that_is_full_has_its_largest_users_let_go_and_no_others() -> None:
    budget, guests = MemoryBudget(100), [Guest("small"), Guest("large"), Guest("middle")]
    small, large, middle = guests
    budget.reserve(small, 10)
    budget.reserve(large, 30)
    budget.reserve(large, 30)
    budget.reserve(middle, 30)
    assert (budget.used, [guest.left for guest in guests]) == (100, [False] * 3)

    budget.reserve(small, 1)
    assert (budget.used, [guest.left for guest in guests]) == (41, [False, True, False])

    budget.release(middle)
    budget.release(middle)
    budget.release(large)
    assert budget.used == 11


def test_one_that_alone_is_too_large_lets_go_itself() -> None:
    budget, only = MemoryBudget(100), Guest("only")
    budget.reserve(only, 101)

    assert (budget.used, only.left) == (0, True)


def test_a_trouble_is_told_once_a_minute_with_how_often_it_came() -> None:
    now, told = 0.0, list[str]()
    failures = RequestFailures(told.append, lambda: now)
    for _ in range(1_000):
        failures.malformed("Bad status line", "192.0.2.1")
    now = QUIET_FOR
    failures.malformed("Bad status line", "192.0.2.2")

    assert told == [
        "a request from 192.0.2.1 could not be read: Bad status line",
        "a request from 192.0.2.2 could not be read: Bad status line (and 999 more like it since the last such line)",
    ]
    assert failures.counts == {"malformed": 1_001, "failed": 0}


def test_troubles_of_many_kinds_are_few_lines_in_bounded_memory() -> None:
    told = list[str]()
    failures = RequestFailures(told.append, lambda: 0.0)
    for number in range(1_000):
        failures.failed("it failed", type(f"Error{number}", (Exception,), {})("x" * 10_000))

    assert len(told) == PLACES + 1
    assert max(map(len, told)) < 400
    assert "x" * 100 not in "".join(told)
    assert failures.counts["failed"] == 1_000
