"""A secret of a webhook is in its requests alone: in no notice, no error with its traceback, no repr and no log."""

import logging
import ssl
import traceback
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Any

import pytest
import trustme
from aiohttp.web import Response

from relay.events import Done
from relay.queue import EndpointGone, RetryLater
from relay.secret import Secret
from relay.testing import ManualClock
from sinks.webhook import WebhookSink
from tests.sinks.webhook.receiver import KEY, Receiver, a_key, a_receiver, a_record, a_webhook

CANARY = "canary-7Jq2"
SIGNING = a_key(77)


def a_leaky_webhook(url: str, **options: Any) -> WebhookSink:
    """Secrets wherever they may be: in the path and the query of the URL, in a header, and the key."""
    return a_webhook(
        Secret(f"{url}/{CANARY}?token={CANARY}"),
        secret=Secret(SIGNING),
        headers={"Authorization": Secret(f"Bearer {CANARY}")},
        **options,
    )


def shown(error: BaseException) -> str:
    return "".join(traceback.format_exception(error, chain=True)) + repr(error) + repr(error.args)


def assert_clean(text: str) -> None:
    assert CANARY not in text
    assert SIGNING.removeprefix("whsec_") not in text


async def nowhere(_: AsyncExitStack) -> Receiver:
    async with a_receiver() as receiver:
        return receiver


async def untrusted(stack: AsyncExitStack) -> Receiver:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    return await stack.enter_async_context(a_receiver(tls=context))


async def mute(stack: AsyncExitStack) -> Receiver:
    return await stack.enter_async_context(a_receiver(None))


async def echoing(stack: AsyncExitStack) -> Receiver:
    headers = {"Location": f"https://hooks.example/?token={CANARY}", "Retry-After": CANARY, "webhook-delivery": CANARY}
    return await stack.enter_async_context(
        a_receiver(Response(status=503, reason=CANARY, text=CANARY, headers=headers))
    )


async def leading_away(stack: AsyncExitStack) -> Receiver:
    headers = {"Location": f"https://hooks.example/?token={CANARY}"}
    return await stack.enter_async_context(a_receiver(Response(status=302, headers=headers)))


async def gone(stack: AsyncExitStack) -> Receiver:
    return await stack.enter_async_context(a_receiver(Response(status=410, reason=CANARY, text=CANARY)))


@pytest.mark.parametrize("receiving", [nowhere, untrusted, mute, echoing, leading_away, gone])
async def test_no_failure_shows_a_secret(receiving: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    notices: list[str] = []
    async with AsyncExitStack() as stack:
        receiver = await receiving(stack)
        sink = a_leaky_webhook(receiver.url, timeout=0.1 if receiving is mute else 15)
        sink.bind(ManualClock(auto=True, start=datetime.now(UTC)), notices.append, "hook")
        async with sink:
            with pytest.raises((RetryLater, EndpointGone)) as caught:
                await sink.work(a_record(Done()))
            receiver.answers[:0] = [None if receiving is mute else Response(status=410, reason=CANARY)]
            sink(a_record(Done()))
        assert_clean(shown(caught.value))
        assert_clean(repr(sink))
        assert_clean("".join(notices))
        assert_clean(caplog.text)
        for delivery in receiver.deliveries:
            assert (delivery.headers["authorization"], CANARY in delivery.path) == (f"Bearer {CANARY}", True)


async def test_a_header_that_goes_bad_in_its_file_is_a_failure_that_does_not_show_it(tmp_path: Any) -> None:
    file = tmp_path / "token"
    file.write_text(CANARY)
    token = Secret(CANARY, file)
    async with a_receiver() as receiver, a_webhook(receiver.url, headers={"X-Token": token}) as sink:
        await sink.work(a_record(Done()))
        token._value = f"{CANARY}\r\nX-Other: 1"
        with pytest.raises(RetryLater, match="the request is not valid; check url and headers") as caught:
            await sink.work(a_record(Done()))
    assert len(receiver.deliveries) == 1
    assert_clean(shown(caught.value))


@pytest.mark.parametrize(
    "options",
    [
        {"url": f"ftp://hooks.example/{CANARY}"},
        {"url": f"https://ann:{CANARY}@hooks.example/"},
        {"url": f"https://hooks.example:99999/{CANARY}"},
        {"url": f"https://hooks.example:22/{CANARY}"},
        {"url": f"http://hooks.example/{CANARY}"},
        {"url": f"https://127.1/{CANARY}"},
        {"url": f"https://10.0.0.1/{CANARY}"},
        {"url": f"/{CANARY}"},
        {"url": f"https://hooks.example/#{CANARY}"},
        {"secret": f"whsec_{CANARY}"},
        {"secret": CANARY},
        {"headers": {"X-Token": f"{CANARY}\n"}},
        {"headers": {"X-Token": f"{CANARY}ä"}},
        {"headers": {"Host": CANARY}},
        {"headers": {"webhook-id": CANARY}},
        {"headers": {f"X {CANARY}": "1"}},
        {"source": f"{CANARY} "},
    ],
)
def test_what_cannot_be_used_is_named_without_its_value(options: dict[str, Any]) -> None:
    with pytest.raises(Exception, match="webhook") as caught:
        WebhookSink(**{"url": "https://hooks.example/", "secret": KEY, **options})
    assert_clean(str(caught.value))
    assert caught.value.__context__ is None or caught.value.__suppress_context__
    assert_clean("".join(traceback.format_exception_only(caught.value)))
