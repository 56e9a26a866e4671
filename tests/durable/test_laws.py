"""Whatever fails, and however often the relay is killed: each record at least once, and in order per job."""

import asyncio
import random
import tempfile
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from relay.durable import lanes
from relay.journal import Retention
from relay.queue import Retries
from relay.testing import ManualClock
from tests.durable.far_end import FarEnd, follows, house

JOBS = "abcdef"
PHASES = tuple(phase for phase in Phase if phase is not Phase.shrink)
"""A smaller example is of little use here, where chance has a part in each, and takes minutes."""

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["tell", "tell", "tell", "refuse", "accept", "down", "up", "wait", "kill", "stop"]),
        st.integers(0, 2**16),
    ),
    min_size=5,
    max_size=40,
)


@pytest.fixture(scope="module", autouse=True)
def soon_parked() -> Generator[None]:
    """What needs a minute of failures otherwise happens often."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(lanes, "PARKED_AFTER", 2.0)
        yield


class Moody(FarEnd):
    """Fails one attempt in three besides, and one of those after it has taken the record."""

    chance: random.Random

    async def work(self, given: object) -> None:
        mood = self.chance.random()
        if mood < 0.2:
            raise TimeoutError("no answer")
        await super().work(given)  # type: ignore[arg-type]
        if mood > 0.9:
            raise TimeoutError("no answer, though it has arrived")


async def run_steps(path: Path, far: Moody, steps: list[tuple[str, int]], clock: ManualClock) -> None:
    left = list(steps)
    while left:
        with house(path, Retention(records=10), clock) as here:
            async with here.running(far) as reader:
                while left:
                    step, number = left.pop(0)
                    if step in ("kill", "stop"):
                        if step == "stop":
                            reader.drain()
                            await here.settled()
                            here.journal.cursors.save()
                        break
                    if step == "tell":
                        await here.tell(JOBS[number % 7 : number % 7 + 1 + number % 3] * (1 + number % 5) or "a")
                    elif step == "refuse":
                        far.refused[JOBS[number % 6]] = ConnectionResetError("not this one")
                    elif step == "accept":
                        far.refused.clear()
                    elif step == "wait":
                        await here.settled(number % 90)
                    else:
                        far.down = ConnectionRefusedError("nobody is there") if step == "down" else None
    far.refused.clear()
    far.down, far.chance = None, random.Random()
    far.chance.random = lambda: 0.5  # type: ignore[method-assign]
    with house(path, Retention(records=10), clock) as here:
        async with here.running(far) as reader:
            for _ in range(20):
                await here.settled(30.0)
            told = {job.id: job.state.seq for job in here.journal.recover()}
            assert {job: max(far.seqs(job), default=0) for job in told} == told
            assert (reader.cursor, here.journal.parking.waiting("hook")) == (here.journal.head, 0)
            assert reader.in_hand == 0
        here.journal.cursors.save()
    wrong = {job: far.seqs(job) for job in told if not follows(far.seqs(job))}
    assert wrong == {}


@pytest.mark.parametrize("kind", [{"lanes": 3}, {}, {"batch": (3, 0.5)}], ids=["lanes", "one by one", "batches"])
@settings(max_examples=10, deadline=None, phases=PHASES)
@given(steps=STEPS, seed=st.integers(0, 2**16))
def test_each_record_arrives_and_those_of_a_job_in_order(
    kind: dict[str, object], steps: list[tuple[str, int]], seed: int
) -> None:
    far = Moody(**kind, retries=Retries(within=1e9, base=1.0, cap=10.0))  # type: ignore[arg-type]
    far.chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run_steps(Path(folder) / "relay.db", far, steps, ManualClock()))


def test_the_law_finds_what_is_missing_and_what_is_out_of_order() -> None:
    assert [follows(seqs) for seqs in ([1, 2, 3], [1, 2, 1, 2, 3], [1, 1, 2], [])] == [True] * 4
    assert [follows(seqs) for seqs in ([1, 3], [2], [1, 2, 3, 2], [1, 3, 2, 3])] == [False] * 4
