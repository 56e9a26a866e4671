"""A cancel that was begun is finished and published, once, whoever has asked for it and left."""

import asyncio
from http import HTTPStatus

import pytest
from aiohttp import ClientSession

from relay import Record, Relay
from relay.errors import UnavailableError, UpstreamError
from relay.events import Cancelled
from relay.testing import ManualClock
from tests.relay.scripted import TwoStep
from tests.web.serving import serve_app
from web import create_app


class Slow(TwoStep):
    """Takes a cancel, and answers when it is let."""

    def __init__(self) -> None:
        super().__init__(lambda _: {})
        self.calls: list[str] = []
        self.reached = asyncio.Event()
        self.answers = asyncio.Event()

    async def cancel(self, task: str) -> None:
        self.calls.append(task)
        self.reached.set()
        await self.answers.wait()
        await super().cancel(task)


class Sink:
    """Keeps its records, and knows when a job has ended."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.ended = asyncio.Event()

    def __call__(self, record: Record) -> None:
        self.records.append(record)
        if record.terminal:
            self.ended.set()


async def cancel(client: ClientSession, job: str) -> int:
    async with client.post(f"/v1/jobs/{job}/cancel") as response:
        return response.status


@pytest.mark.parametrize("handler_cancellation", [True, False])
async def test_a_client_that_leaves_once_the_upstream_has_its_cancel_changes_nothing(
    handler_cancellation: bool,
) -> None:
    upstream, sink = Slow(), Sink()
    relay = Relay([upstream], sinks=[sink], clock=ManualClock())
    async with serve_app(create_app(relay), handler_cancellation=handler_cancellation) as client:
        job = relay.follow("scripted", "t")
        async with ClientSession(client._base_url) as leaving:
            asking = asyncio.create_task(cancel(leaving, job.id))
            await upstream.reached.wait()
            asking.cancel()
            await asyncio.wait([asking])
        # The server notices the end of that connection before it answers another one.
        async with client.get("/healthz") as response:
            assert response.status == HTTPStatus.OK
        upstream.answers.set()
        await sink.ended.wait()
        again = await cancel(client, job.id)

    assert [record.event for record in sink.records if record.terminal] == [Cancelled(by="caller", message=None)]
    assert (upstream.calls, upstream.cancelled, again) == (["t"], ["t"], HTTPStatus.ACCEPTED)


async def test_two_who_cancel_at_once_have_one_answer_of_the_upstream_and_one_record() -> None:
    upstream, sink = Slow(), Sink()
    relay = Relay([upstream], sinks=[sink], clock=ManualClock())
    async with serve_app(create_app(relay)) as client:
        job = relay.follow("scripted", "t")
        first = asyncio.create_task(cancel(client, job.id))
        await upstream.reached.wait()
        second = asyncio.create_task(relay.cancel(job.id))
        await asyncio.sleep(0)
        upstream.answers.set()
        assert await first == HTTPStatus.ACCEPTED
        assert await second is job

    assert upstream.calls == ["t"]
    assert [record.event.type for record in sink.records if record.terminal] == ["cancelled"]


async def test_two_who_cancel_at_once_are_both_refused_and_a_later_one_asks_again() -> None:
    upstream = Slow()
    upstream.on_cancel = UpstreamError("refused", "too late")
    upstream.answers.set()
    async with Relay([upstream], clock=ManualClock()) as relay:
        job = relay.follow("scripted", "t")
        refused = await asyncio.gather(*[relay.cancel(job.id) for _ in range(2)], return_exceptions=True)
        assert [type(error) for error in refused] == [UpstreamError, UpstreamError]
        upstream.on_cancel = None
        await relay.cancel(job.id)

    assert upstream.calls == ["t", "t"]
    assert job.state.terminal == Cancelled(by="caller", message=None)


async def test_a_refusal_that_nobody_waits_for_any_more_is_no_traceback(caplog: pytest.LogCaptureFixture) -> None:
    upstream = Slow()
    upstream.on_cancel = UpstreamError("refused", "too late")
    async with Relay([upstream], clock=ManualClock()) as relay:
        job = relay.follow("scripted", "t")
        asking = asyncio.create_task(relay.cancel(job.id))
        await upstream.reached.wait()
        asking.cancel()
        await asyncio.wait([asking])
        upstream.answers.set()

    assert (asking.cancelled(), job.ended, caplog.text) == (True, False, "")


async def test_a_cancel_under_way_is_finished_before_the_relay_is_left() -> None:
    upstream, sink = Slow(), Sink()
    relay = Relay([upstream], sinks=[sink], clock=ManualClock(), submit_grace=60.0)
    async with relay:
        job = relay.follow("scripted", "t")
        asking = asyncio.create_task(relay.cancel(job.id))
        await upstream.reached.wait()
        leaving = asyncio.create_task(relay.quiesce())
        await asyncio.sleep(0)
        upstream.answers.set()
        await leaving

    assert await asking is job
    assert sink.ended.is_set()


async def test_a_cancel_that_the_shutdown_does_not_wait_for_is_unavailable_and_the_job_has_not_ended() -> None:
    upstream = Slow()
    async with Relay([upstream], clock=ManualClock(), submit_grace=0.0) as relay:
        job = relay.follow("scripted", "t")
        asking = asyncio.create_task(relay.cancel(job.id))
        await upstream.reached.wait()
        await relay.quiesce()
        with pytest.raises(UnavailableError, match="shutting down: the upstream may stop the job or not"):
            await asking
        with pytest.raises(UnavailableError, match="shutting down: nothing was cancelled; try again"):
            await relay.cancel(job.id)
        with pytest.raises(UnavailableError, match="shutting down: no new work is accepted"):
            relay.follow("scripted", "u")

    assert (upstream.calls, job.ended) == (["t"], False)
