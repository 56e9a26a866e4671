"""What becomes of a delivery: by the answer, by the lack of one, and over the connections that receivers close."""

import asyncio
import ssl
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
import trustme
from aiohttp.web import Request, Response, StreamResponse

from relay.errors import UsageError
from relay.events import Checking, Done
from relay.queue import EndpointGone, RetryLater, Undeliverable
from relay.testing import ManualClock, sample_records
from sinks._posting import ANSWER_LIMIT, LATEST, SOONEST, retry_after
from sinks._templates import delivery_id
from sinks.webhook import WebhookSink
from tests.sinks.webhook.receiver import KEY, Names, Receiver, a_receiver, a_record, a_webhook, ignore, verify

RECORD = a_record(Done(urls=("https://cdn.example/1.mp4",)))
NOW = datetime(2026, 1, 1, tzinfo=UTC)


async def problem(receiver: Receiver, **options: Any) -> Exception:
    """What an attempt to deliver raises."""
    async with a_webhook(receiver.url, **options) as sink:
        with pytest.raises(Exception) as caught:  # noqa: PT011 - whatever it is, the caller compares it
            await sink.work(RECORD)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    return caught.value


def host(receiver: Receiver) -> str:
    return receiver.url.split("/")[2]


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
async def test_an_answer_of_200_to_299_is_success(status: int) -> None:
    async with a_receiver(Response(status=status)) as receiver, a_webhook(receiver.url) as sink:
        await sink.work(RECORD)
    assert [(one.method, one.path) for one in receiver.deliveries] == [("POST", "/hook")]


async def test_every_record_of_a_story_arrives_signed_once_and_in_order_per_job() -> None:
    records = sample_records()
    async with a_receiver() as receiver, a_webhook(receiver.url) as sink:
        for record in records:
            sink(record)
    for delivery in receiver.deliveries:
        verify(delivery, KEY)
    assert [delivery.body.partition(b',"data":')[2][:-1] for delivery in receiver.deliveries] == [
        record.json for record in records
    ]
    assert (sink.counts().delivered, sink.counts().waiting) == (len(records), 0)


async def test_row_57_an_endpoint_that_is_gone_is_posted_to_no_more() -> None:
    async with a_receiver(Response(status=410)) as receiver:
        gone = await problem(receiver)
    assert (type(gone), str(gone)) == (EndpointGone, f"{host(receiver)} answered 410 (gone)")

    notices: list[str] = []
    async with a_receiver(Response(status=410)) as receiver, a_webhook(receiver.url) as sink:
        sink.bind(ManualClock(), notices.append, "hook")
        for seq in (1, 2, 3):
            sink(a_record(Checking(attempt=1, of=1), seq=seq))
    assert len(receiver.deliveries) == 1
    assert (sink.counts().delivered, sink.counts().failed + sink.counts().dropped) == (0, 3)
    assert any("410" in text for text in notices)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_row_57_a_redirect_is_a_failure_and_is_not_followed(status: int) -> None:
    async with a_receiver() as elsewhere:
        async with a_receiver(Response(status=status, headers={"Location": elsewhere.url})) as receiver:
            failure = await problem(receiver)
        assert (type(failure), str(failure)) == (
            RetryLater,
            f"{host(receiver)} answered {status}, a redirect, which is not followed; correct the url",
        )
        assert elsewhere.deliveries == []


async def test_row_57_an_answer_that_comes_too_late_is_a_timeout_and_the_delivery_is_tried_again() -> None:
    async with a_receiver(None) as receiver:
        failure = await problem(receiver, timeout=0.05)
        assert isinstance(failure, RetryLater)
        assert str(failure) == f"no whole answer from {host(receiver)} within 0.05 s"
        receiver.answers.clear()
        async with a_webhook(receiver.url) as sink:
            await sink.work(RECORD)
    assert {delivery.headers["webhook-id"] for delivery in receiver.deliveries} == {delivery_id(RECORD)}


async def test_row_57_a_certificate_that_is_not_trusted_is_a_failure_and_nothing_is_sent() -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    async with a_receiver(tls=context) as receiver:
        failure = await problem(receiver)
    assert isinstance(failure, RetryLater)
    assert str(failure).startswith(f"no secure connection to {host(receiver)}: ")
    assert receiver.deliveries == []


async def test_what_does_not_speak_tls_at_all_is_a_failure() -> None:
    async with a_receiver() as receiver:
        receiver.url = receiver.url.replace("http:", "https:")
        failure = await problem(receiver)
    assert str(failure) == f"no secure connection to {host(receiver)}; check that it speaks TLS at this port"


async def test_where_nobody_listens_is_a_failure() -> None:
    async with a_receiver() as receiver:
        pass
    failure = await problem(receiver)
    assert str(failure) == f"no connection to {host(receiver)}; check that it runs at this address"


@pytest.mark.parametrize("status", [400, 401, 404, 413, 418, 500])
async def test_any_other_answer_is_tried_again_after_a_back_off(status: int) -> None:
    async with a_receiver(Response(status=status, text="a secret", headers={"Retry-After": "60"})) as receiver:
        failure = await problem(receiver)
    assert isinstance(failure, RetryLater)
    assert (str(failure), failure.after) == (f"{host(receiver)} answered {status}", None)


@pytest.mark.parametrize("status", [429, 502, 503, 504])
async def test_a_receiver_that_throttles_is_given_the_time_it_wants(status: int) -> None:
    async with a_receiver(Response(status=status, headers={"Retry-After": "60"})) as receiver:
        failure = await problem(receiver)
    assert isinstance(failure, RetryLater)
    assert failure.after == 60


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("120", 120.0),
        (" 120 ", 120.0),
        ("0", SOONEST),
        ("999999999", LATEST),
        ("9999999999", None),
        ("-1", None),
        ("1.5", None),
        ("", None),
        ("soon", None),
        ("٣٠", None),
        (format_datetime(NOW + timedelta(seconds=90), usegmt=True), 90.0),
        (format_datetime(NOW - timedelta(days=400), usegmt=True), SOONEST),
        (format_datetime(NOW + timedelta(days=400), usegmt=True), LATEST),
        ("Thu, 01 Jan 2026 00:01:30 -0000", 90.0),
        ("Thu, 01 Jan 2026 02:01:30 +0200", 90.0),
    ],
)
def test_retry_after_is_a_number_or_a_date_and_is_clamped(text: str, seconds: float | None) -> None:
    assert retry_after(text, NOW) == seconds


async def test_a_receiver_may_refuse_one_message_for_good() -> None:
    async with a_receiver(Response(status=400, headers={"webhook-delivery": "abort-message"})) as receiver:
        failure = await problem(receiver)
    assert (type(failure), str(failure)) == (
        Undeliverable,
        f"{host(receiver)} answered 400 and wants this message no more",
    )


class Closer:
    """A server that answers on each connection as often as it says there, and closes it when it is used again."""

    def __init__(self, *answers: int) -> None:
        self._answers = list(answers)
        self.requests: list[bytes] = []
        self.connections = 0

    async def __aenter__(self) -> "Closer":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/hook"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers = self._answers[self.connections] if self.connections < len(self._answers) else 1_000
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
                await reader.readexactly(int(length.split(b":")[1]))
                self.requests.append(head)
                if not answers:
                    return
                answers -= 1
                writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


async def test_a_kept_connection_that_the_receiver_has_closed_costs_no_attempt() -> None:
    async with Closer(1) as server, a_webhook(server.url) as sink:
        await sink.work(RECORD)
        await sink.work(RECORD)
    assert (server.connections, len(server.requests)) == (2, 3)


async def test_a_fresh_connection_that_is_closed_without_an_answer_is_a_failure() -> None:
    async with Closer(0) as server, a_webhook(server.url) as sink:
        with pytest.raises(RetryLater, match="closed the connection without a whole answer"):
            await sink.work(RECORD)
    assert len(server.requests) == 1


async def test_a_kept_connection_is_replaced_once_and_no_more() -> None:
    async with Closer(1, 0) as server, a_webhook(server.url) as sink:
        await sink.work(RECORD)
        with pytest.raises(RetryLater, match="closed the connection without a whole answer"):
            await sink.work(RECORD)
    assert (server.connections, len(server.requests)) == (2, 3)


async def test_of_a_long_answer_no_more_than_a_bounded_part_is_read() -> None:
    written = 0

    async def endless(request: Request) -> StreamResponse:
        nonlocal written
        response = StreamResponse()
        await response.prepare(request)
        while True:  # until the connection is dropped
            await response.write(b"x" * ANSWER_LIMIT)
            written += ANSWER_LIMIT

    async with a_receiver(endless) as receiver, a_webhook(receiver.url) as sink:
        await sink.work(RECORD)
        await sink.work(RECORD)
    assert len(receiver.deliveries) == 2
    assert written < 100 * ANSWER_LIMIT  # what the kernel had room for


async def test_an_answer_that_drips_ends_with_the_time_of_the_attempt() -> None:
    async def drip(request: Request) -> StreamResponse:
        response = StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x")
            await asyncio.sleep(0.01)

    async with a_receiver(drip) as receiver, a_webhook(receiver.url, timeout=0.1) as sink:
        with pytest.raises(RetryLater, match="no whole answer"):
            await sink.work(RECORD)


async def test_waiting_for_a_free_connection_is_no_part_of_an_attempts_time() -> None:
    """Eight deliveries over one connection, whose receiver takes half of the time that each of them has."""
    turns = asyncio.Semaphore(0)

    async def in_turn(_: Request) -> Response:
        await turns.acquire()
        return Response(status=204)

    async with a_receiver(*[in_turn] * 8) as receiver, a_webhook(receiver.url, lanes=1, timeout=30) as sink:
        deliveries = [asyncio.create_task(sink.work(RECORD)) for _ in range(8)]
        await receiver.arrived.wait()
        assert sink._poster is not None
        assert sink._poster.free.locked()
        assert len(receiver.deliveries) == 1
        for _ in range(8):
            turns.release()
        await asyncio.gather(*deliveries)
    assert len(receiver.deliveries) == 8


async def test_a_signature_is_made_for_each_attempt_and_after_the_wait_for_a_connection() -> None:
    clock = ManualClock(start=datetime.now(UTC))
    let_go = asyncio.Event()

    async def held(_: Request) -> Response:
        await let_go.wait()
        return Response(status=500)

    async with a_receiver(held) as receiver, a_webhook(receiver.url, lanes=1) as sink:
        sink.bind(clock, ignore, "hook")
        first = asyncio.create_task(sink.work(RECORD))
        await receiver.arrived.wait()
        second = asyncio.create_task(sink.work(RECORD))
        await asyncio.sleep(0)
        await clock.advance(60)
        let_go.set()
        await asyncio.gather(first, second, return_exceptions=True)
    early, late = (int(delivery.headers["webhook-timestamp"]) for delivery in receiver.deliveries)
    assert late - early == 60
    assert len({delivery.headers["webhook-id"] for delivery in receiver.deliveries}) == 1
    verify(receiver.deliveries[1], KEY)


async def test_a_failing_receiver_is_retried_until_it_works_and_nothing_is_lost() -> None:
    clock = ManualClock(auto=True, start=datetime.now(UTC))
    failures = [Response(status=500) for _ in range(12)]
    async with a_receiver(*failures) as receiver:
        sink = WebhookSink(receiver.url, secret=KEY, allow_private=True)
        sink.bind(clock, ignore, "hook")
        async with sink:
            for seq in (1, 2, 3):
                sink(a_record(Checking(attempt=seq, of=9), seq=seq))
            await receiver.until("job_1-3")
    # An attempt of which the clock has run out is one more, so the number of deliveries is not fixed.
    ids = [delivery.headers["webhook-id"].rsplit("-", 1)[0] for delivery in receiver.deliveries]
    assert list(dict.fromkeys(ids)) == ["job_1-1", "job_1-2", "job_1-3"]
    assert ids == sorted(ids)
    assert receiver.answers == []


async def test_a_delivery_is_given_up_three_days_after_its_first_attempt() -> None:
    clock = ManualClock(auto=True, start=datetime.now(UTC))
    given_up = asyncio.get_running_loop().create_future()

    def notify(text: str) -> None:
        if "given up" in text:
            given_up.set_result(clock.monotonic() / 3_600)

    async with a_receiver() as receiver:
        pass
    sink = WebhookSink(receiver.url, secret=KEY, allow_private=True)
    sink.bind(clock, notify, "hook")
    async with sink:
        sink(RECORD)
        hours = await given_up
        assert sink.counts().waiting == 0
    assert (sink.counts().failed, 72 <= hours <= 76.1) == (1, True)


async def test_the_environments_proxy_gets_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async with a_receiver() as proxy, a_receiver() as receiver:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url.removesuffix("/hook"))
        async with a_webhook(receiver.url) as sink:
            await sink.work(RECORD)
    assert (len(proxy.deliveries), len(receiver.deliveries)) == (0, 1)


async def test_no_cookie_and_no_compressed_answer_is_wanted() -> None:
    answer = Response(status=204, headers={"Set-Cookie": "a=b; Path=/"})
    async with a_receiver(answer) as receiver:
        # A jar of aiohttp keeps no cookie of an address, so the receiver has a name.
        url, names = receiver.url.replace("127.0.0.1", "hooks.example"), Names(("127.0.0.1",))
        async with a_webhook(url, headers={"X-Team": "video"}, resolver=names) as sink:
            await sink.work(RECORD)
            await sink.work(RECORD)
    sent = receiver.deliveries[1].headers
    assert "cookie" not in sent
    assert (sent["accept-encoding"], sent["x-team"], sent["user-agent"]) == ("identity", "video", "progress-relay")


async def test_a_sink_that_is_not_open_says_so() -> None:
    with pytest.raises(UsageError, match="enter it with 'async with' first"):
        await a_webhook("http://127.0.0.1:1/").work(RECORD)
