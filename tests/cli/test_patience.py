"""A relay whose journal is on a server starts once that is there, and says why it waits."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from relay import ConfigError, JournalError
from relay.cli.patience import LONGEST_PAUSE, Patience, StoppedWaitingError

Capture = pytest.CaptureFixture[str]


class Engine:
    """Fails with each of *problems*, and then opens. *steps* is what happens in order."""

    def __init__(self, *problems: Exception) -> None:
        self.problems = list(problems)
        self.steps: list[str | float] = []
        self.stop = asyncio.Event()

    async def open(self) -> str:
        self.steps.append("open")
        if self.problems:
            raise self.problems.pop(0)
        return "opened"

    async def sleep(self, seconds: float) -> None:
        self.steps.append(seconds)

    @asynccontextmanager
    async def meanwhile(self) -> AsyncGenerator[None]:
        self.steps.append("waits")
        try:
            yield
        finally:
            self.steps.append("waits no more")

    def patience(self) -> Patience:
        return Patience(self.stop, self.meanwhile, sleep=self.sleep)


async def test_a_server_that_is_there_is_opened_at_once() -> None:
    engine = Engine()
    assert await engine.patience().until_done(engine.open) == "opened"
    assert engine.steps == ["open"]


async def test_it_waits_longer_each_time_and_reports_each_reason_once(capsys: Capture) -> None:
    engine = Engine(*(JournalError("it is away"), JournalError("it is away"), JournalError("it is loading")))
    assert await engine.patience().until_done(engine.open) == "opened"
    first, second, third = (step for step in engine.steps if isinstance(step, float))
    assert engine.steps == ["open", "waits", first, "open", second, "open", third, "open", "waits no more"]
    assert 0.1 <= first <= 0.2 <= second <= 0.4 <= third <= 0.8
    assert capsys.readouterr().err.splitlines() == [
        "relay: the relay waits to start: it is away",
        "relay: the relay waits to start: it is loading",
    ]


async def test_the_pause_has_a_limit() -> None:
    engine = Engine(*(JournalError("it is away") for _ in range(20)))
    await engine.patience().until_done(engine.open)
    pauses = [step for step in engine.steps if isinstance(step, float)]
    assert (len(pauses), max(pauses) <= LONGEST_PAUSE) == (20, True)


async def test_a_mistake_is_not_waited_for() -> None:
    engine = Engine(JournalError("it is away"), ConfigError("wrong password"))
    with pytest.raises(ConfigError, match="wrong password"):
        await engine.patience().until_done(engine.open)
    assert engine.steps[-1] == "waits no more"


@pytest.mark.parametrize("where", ["in a pause", "in an attempt"])
async def test_it_ends_at_once_when_it_is_to_stop(where: str) -> None:
    engine = Engine(JournalError("it is away"))
    hung, cancelled = asyncio.Event(), asyncio.Event()

    async def hang(_seconds: float = 0.0) -> str:
        hung.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        return ""

    patience = Patience(engine.stop, engine.meanwhile, sleep=hang)
    waiting = asyncio.create_task(patience.until_done(engine.open if where == "in a pause" else hang))
    await hung.wait()
    engine.stop.set()
    with pytest.raises(StoppedWaitingError):
        await waiting
    assert cancelled.is_set()
