"""What an HTTP status means for a job: some end it, three times in a row, and whatever may pass does not."""

import asyncio

import pytest

from relay import Record, Relay
from relay.events import Event, Failed, Progress, Retrying
from relay.testing import ManualClock
from relay.upstreams import Runway
from tests.upstreams.stub import Stub, reply

NO = '{"message": "no"}'
RUNNING = reply('{"id": "t", "status": "RUNNING", "progress": 0.5}')


async def told_after(*answers: bytes) -> list[Event]:
    """What is told of a job whose polls are answered so, then that it runs, up to its end or to the first progress."""
    clock = ManualClock(auto=True)
    told: list[Event] = []
    over = asyncio.Event()

    def note(record: Record) -> None:
        told.append(record.event)
        if record.terminal or isinstance(record.event, Progress):
            over.set()

    async with Stub(*answers, RUNNING) as stub:
        upstream = Runway(stub.url, "token", clock=clock)
        async with Relay([upstream], sinks=[note], clock=clock) as relay:
            relay.follow("runway", "t")
            await over.wait()
    return told


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("400 Bad Request", "upstream"),
        ("402 Payment Required", "upstream"),
        ("404 Not Found", "not-found"),
        ("410 Gone", "not-found"),
        ("422 Unprocessable Content", "upstream"),
    ],
)
async def test_what_is_said_of_the_task_itself_ends_its_job_the_third_time(status: str, kind: str) -> None:
    no = reply(NO, status)
    message = f"the upstream answered {status[:3]}: no, 3 times in a row"
    assert (await told_after(no, no, no))[-1] == Failed(kind=kind, message=message)  # type: ignore[arg-type]
    assert isinstance((await told_after(no, no))[-1], Progress)


@pytest.mark.parametrize(
    "status",
    [
        *("401 Unauthorized", "403 Forbidden", "408 Request Timeout", "409 Conflict", "425 Too Early"),
        *("429 Too Many Requests", "500 Internal Server Error", "502 Bad Gateway", "503 Service Unavailable"),
        *("504 Gateway Timeout", "599 Unheard Of"),
    ],
)
async def test_what_may_pass_ends_no_job_however_often_it_is_said(status: str) -> None:
    told = await told_after(*[reply(NO, status)] * 6)
    assert sum(isinstance(event, Retrying) for event in told) == 6
    assert isinstance(told[-1], Progress)


@pytest.mark.parametrize(
    "status", ["408 Request Timeout", "429 Too Many Requests", "500 Oops", "503 Service Unavailable"]
)
async def test_the_time_that_an_upstream_in_trouble_asks_for_is_when_it_is_asked_again(status: str) -> None:
    told = await told_after(reply(NO, status, retry_after="17"))
    assert [event.next_in for event in told if isinstance(event, Retrying)] == [17.0]
