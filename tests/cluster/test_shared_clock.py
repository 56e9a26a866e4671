"""The nodes of a cluster share the time of day of their engine: a clock that is wrong ends no job."""

from datetime import UTC, datetime, timedelta

import pytest

from relay.cluster.shared_clock import SharedClock
from relay.testing import ManualClock
from tests.cluster.house import LEASE, cluster

INTERVAL = 2.5
HOUR = timedelta(hours=1)


class WrongClock(ManualClock):
    """The time of *right*, and another time of day."""

    def __init__(self, right: ManualClock, wrong_by: timedelta) -> None:
        super().__init__()
        self._right = right
        self.wrong_by = wrong_by

    def now(self) -> datetime:
        return self._right.now() + self.wrong_by

    def monotonic(self) -> float:
        return self._right.monotonic()

    async def sleep(self, seconds: float) -> None:
        await self._right.sleep(seconds)


async def test_the_time_of_day_is_the_machines_until_the_engines_is_known_and_goes_on_by_the_monotonic_clock() -> None:
    machine = ManualClock()
    clock = SharedClock(machine)
    assert clock.now() == machine.now()

    noon = datetime(2026, 7, 1, 12, tzinfo=UTC)
    clock.agree(noon)
    await machine.advance(90.0)
    assert (clock.now(), clock.monotonic()) == (noon + timedelta(seconds=90), machine.monotonic())


@pytest.mark.parametrize("upstream", ["listing", "single"])
@pytest.mark.parametrize("wrong_by", [HOUR, -HOUR], ids=["ahead", "behind"])
async def test_a_job_that_a_node_with_a_wrong_clock_takes_over_has_its_whole_time(
    upstream: str, wrong_by: timedelta
) -> None:
    async with cluster(1) as nodes:
        assert nodes.engine is not None
        nodes.engine.time = nodes.clock.now
        right = nodes.houses[0]
        job = await right.relay.requests.follow(upstream, "t")
        await nodes.advance(4 * INTERVAL)
        wrong = await nodes.add(clock=WrongClock(nodes.clock, wrong_by))
        await nodes.kill(right)
        await nodes.advance(3 * LEASE)
        assert nodes.owner(job) is wrong
        third = await nodes.add()
        await nodes.kill(wrong)
        await nodes.advance(3 * LEASE)

        assert nodes.owner(job) is third
        assert not third.job(job).ended
        times = [record.at for record in third.streamed if record.job == job.id]
        assert times == sorted(times)
        assert times[-1] - times[0] < timedelta(seconds=8 * LEASE)
