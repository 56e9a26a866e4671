"""What listens to an upstream is supervised: if it dies of what nobody expects, it is started again."""

import asyncio

import pytest

from relay import Relay
from relay.testing import ManualClock
from relay.upstreams import ComfyUI, Fal, KeepsTasks
from relay.upstreams.dialects.fal import _Status

NOWHERE = "http://127.0.0.1:9"


class Panic(BaseException):
    """As pyo3's PanicException, which is no Exception."""


class Comfy(ComfyUI):
    """Its listener dies of what its server sends, twice, and then listens."""

    def __init__(self, error: BaseException, clock: ManualClock) -> None:
        super().__init__(NOWHERE, clock=clock)
        self.listened = 0
        self._error = error

    async def _listen(self) -> bool:
        self.listened += 1
        if self.listened < 3:
            raise self._error
        await asyncio.Event().wait()
        return True


@pytest.mark.parametrize(
    "error", [ValueError("a message of no kind"), Panic("in the decoder"), asyncio.CancelledError()]
)
async def test_a_listener_that_dies_is_a_notice_and_a_problem_and_listens_again(error: BaseException) -> None:
    clock, notices = ManualClock(), list[str]()
    upstream = Comfy(error, clock)
    async with Relay([upstream], clock=clock, notify=notices.append) as relay:
        await clock.advance(0.5)
        dead = relay.problems()
        await clock.advance(4.5)
        alive = relay.problems()

    assert len(dead) == 1
    assert dead[0].startswith("the listener to comfyui broke off with ")
    assert (alive, upstream.listened) == ([], 3)
    assert notices == [f"{dead[0]}; it is started again in {wait} s" for wait in (1, 2)]


async def test_without_a_relay_a_listener_runs_and_ends_with_its_adapter() -> None:
    before = asyncio.all_tasks()
    async with Comfy(OSError("not there"), ManualClock()) as upstream:
        await asyncio.sleep(0)
        assert upstream.listened == 1
    assert asyncio.all_tasks() == before


async def test_a_stream_of_a_task_that_dies_is_a_notice_too() -> None:
    clock, notices, opened = ManualClock(), list[str](), list[str]()

    class Streams(Fal):
        async def _follow(self, task: str, known: object, report: object) -> None:
            opened.append(task)
            if len(opened) == 1:
                raise Panic("in the decoder")

    upstream = Streams(NOWHERE, "canary-1", stream=True, clock=clock)
    async with Relay([upstream], clock=clock, notify=notices.append):
        upstream._listen("t", _Status("IN_PROGRESS"))
        await clock.advance(2.0)

    assert opened == ["t", "t"]
    assert notices == ["the stream of t broke off with Panic: in the decoder; it is started again in 1 s"]


def test_both_that_listen_keep_tasks() -> None:
    assert isinstance(ComfyUI(NOWHERE), KeepsTasks)
    assert isinstance(Fal(NOWHERE, "canary-1"), KeepsTasks)
