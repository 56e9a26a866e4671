"""Signatures, as verifiers from other hands see them, and keys that are none."""

import base64
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import standardwebhooks
import svix.webhooks
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import UsageError
from relay.events import Done, Failed
from relay.secret import Secret
from relay.testing.conformance.samples import hostile_records
from sinks._signing import Signer, read_keys
from sinks.webhook import WebhookSink
from tests.sinks.webhook.receiver import KEY, OLD_KEY, Delivery, a_key, a_receiver, a_record, a_webhook, ignore, verify

BODY = b'{"type":"relay.job.done"}'


def signed(secret: str, *, at: datetime | None = None, id: str = "job_1-1-00000000", body: bytes = BODY) -> Delivery:
    headers = Signer(lambda: secret, ignore).headers(id, at or datetime.now(UTC), body)
    return Delivery("POST", "/", headers, body, list(headers.items()))


def test_every_verifier_accepts_a_signature_and_refuses_that_of_another_key() -> None:
    delivery = signed(KEY)
    verify(delivery, KEY)
    for verifier in (standardwebhooks.Webhook, svix.webhooks.Webhook):
        with pytest.raises(standardwebhooks.WebhookVerificationError):
            verifier(OLD_KEY).verify(delivery.body, dict(delivery.headers))


@pytest.mark.parametrize("change", ["body", "webhook-id", "webhook-timestamp"])
def test_what_was_changed_on_the_way_is_refused(change: str) -> None:
    delivery = signed(KEY)
    headers = dict(delivery.headers)
    if change == "body":
        delivery.body += b" "
    elif change == "webhook-id":
        headers[change] += "0"
    else:
        headers[change] = str(int(headers[change]) + 1)
    with pytest.raises(standardwebhooks.WebhookVerificationError, match="No matching signature"):
        standardwebhooks.Webhook(KEY).verify(delivery.body, headers)


def test_during_a_rotation_receivers_with_the_old_and_with_the_new_key_accept_the_same_request() -> None:
    delivery = signed(f"{KEY} {OLD_KEY}")
    verify(delivery, KEY, OLD_KEY)
    # One space between tokens: two spaces, or one at the end, are an unexpected error for a verifier in wide use.
    tokens = delivery.headers["webhook-signature"].split(" ")
    assert [token[:3] for token in tokens] == ["v1,", "v1,"]
    assert all(len(base64.b64decode(token[3:], validate=True)) == 32 for token in tokens)


async def test_over_http_the_signatures_are_one_header_of_one_line() -> None:
    async with a_receiver() as receiver, a_webhook(receiver.url, secret=f" {KEY}\t{OLD_KEY} ") as sink:
        await sink.work(a_record(Done()))
    (delivery,) = receiver.deliveries
    verify(delivery, KEY, OLD_KEY)
    assert [name for name, _ in delivery.raw_headers].count("webhook-signature") == 1


@pytest.mark.parametrize("verifier", [standardwebhooks.Webhook, svix.webhooks.Webhook])
def test_row_58_a_delivery_with_an_old_time_or_one_of_the_future_is_refused(verifier: Any) -> None:
    now = datetime.now(UTC)
    for seconds in (-290, 290):
        delivery = signed(KEY, at=now + timedelta(seconds=seconds))
        verifier(KEY).verify(delivery.body, dict(delivery.headers))
    for seconds, reason in ((-301, "too old"), (400, "too new")):
        delivery = signed(KEY, at=now + timedelta(seconds=seconds))
        with pytest.raises(standardwebhooks.WebhookVerificationError, match=reason):
            verifier(KEY).verify(delivery.body, dict(delivery.headers))


async def test_row_58_a_request_that_is_sent_again_later_by_somebody_else_is_refused() -> None:
    async with a_receiver() as receiver, a_webhook(receiver.url) as sink:
        await sink.work(a_record(Done()))
    (delivery,) = receiver.deliveries
    verify(delivery, KEY)
    recorded = dict(delivery.headers)
    later = {**recorded, "webhook-timestamp": str(int(recorded["webhook-timestamp"]) + 3_600)}
    for headers, reason in ((later, "too new"), ({**recorded, "webhook-timestamp": "1700000000"}, "too old")):
        with pytest.raises(standardwebhooks.WebhookVerificationError, match=reason):
            standardwebhooks.Webhook(KEY).verify(delivery.body, headers)


@pytest.mark.parametrize("hours", [-11, 2, 5.5])
def test_the_zone_of_the_clock_makes_no_difference(hours: float) -> None:
    at = datetime.now(timezone(timedelta(hours=hours)))
    delivery = signed(KEY, at=at)
    assert delivery.headers["webhook-timestamp"] == str(int(at.timestamp()))
    verify(delivery, KEY)


@given(text=st.text(), id=st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True))
def test_any_body_is_signed_so_that_verifiers_accept_it(text: str, id: str) -> None:
    body = text.encode("utf-8", "replace")
    delivery = signed(KEY, id=id, body=body)
    standardwebhooks.Webhook(KEY).verify(body, dict(delivery.headers), json_parse=False)


async def test_hostile_texts_arrive_signed() -> None:
    records = hostile_records()
    async with a_receiver() as receiver, a_webhook(receiver.url) as sink:
        for record in records:
            await sink.work(record)
    for delivery in receiver.deliveries:
        verify(delivery, KEY)
        assert delivery.body.isascii()
    assert len(receiver.deliveries) == len(records)


@pytest.mark.parametrize(
    ("secret", "problem"),
    [
        ("", "holds 0 keys; it is one key, or up to 8 with spaces between them"),
        (
            " ".join(a_key(seed) for seed in range(9)),
            "holds 9 keys; it is one key, or up to 8 with spaces between them",
        ),
        ("canary-canary-canary-canary", "does not begin with whsec_"),
        (f"{KEY} canary", "key 2 of it does not begin with whsec_"),
        (KEY.removeprefix("whsec_"), "does not begin with whsec_"),
        ("whsk_" + KEY[6:], "is a key for ed25519; the relay signs with HMAC, whose keys begin with whsec_"),
        ("whsec_!!!!", "is not base64 behind whsec_"),
        (KEY.replace("whsec_", "whsec_-_"), "is not base64 behind whsec_"),
        ("whsec_AAAAA", "is not base64 behind whsec_"),
        (a_key(1, 8), "is 8 bytes long; a key has 24 to 64 bytes"),
        (a_key(1, 23), "is 23 bytes long; a key has 24 to 64 bytes"),
        (a_key(1, 65), "is 65 bytes long; a key has 24 to 64 bytes"),
        ("whsec_", "is 0 bytes long; a key has 24 to 64 bytes"),
        (f"{KEY} {KEY.rstrip('=')}", "holds the same key twice"),
    ],
)
def test_what_is_no_key_is_refused_and_not_repeated(secret: str, problem: str) -> None:
    with pytest.raises(UsageError) as caught:
        WebhookSink("https://hooks.example/", secret=secret or Secret(""))
    assert str(caught.value) == f"the secret of a webhook {problem}"
    assert caught.value.__context__ is None or caught.value.__suppress_context__


@pytest.mark.parametrize("length", [24, 25, 26, 32, 64])
def test_a_key_may_lack_what_pads_base64(length: int) -> None:
    key = a_key(3, length)
    assert read_keys(key) == read_keys(key.rstrip("="))
    verify(signed(key.rstrip("=")), key)


def test_a_template_that_is_signed_needs_a_secret_and_another_has_none() -> None:
    with pytest.raises(UsageError, match="cloudevents needs a secret"):
        WebhookSink("https://hooks.example/")
    with pytest.raises(UsageError, match="slack has no signature; remove its secret"):
        WebhookSink("https://hooks.example/", template="slack", secret=KEY)


async def test_keys_in_a_file_are_replaced_while_the_relay_runs_and_a_mistake_leaves_the_old_ones(
    tmp_path: Path,
) -> None:
    file, notices = tmp_path / "keys", list[str]()
    file.write_text(OLD_KEY)
    record = a_record(Failed(kind="internal", message="no"))
    async with (
        a_receiver() as receiver,
        a_webhook(receiver.url, secret=Secret(OLD_KEY, file, source="the file keys")) as sink,
    ):
        sink.bind(sink._clock, notices.append, "hook")
        await sink.work(record)
        file.write_text(f"{KEY} {OLD_KEY}")
        await sink.work(record)
        file.write_text("whsec_canary")
        await sink.work(record)
        await sink.work(record)
    before, during, *after = receiver.deliveries
    verify(before, OLD_KEY)
    for delivery in (during, *after):
        verify(delivery, KEY, OLD_KEY)
    assert notices == [
        "sink hook: the new secret is 4 bytes long; a key has 24 to 64 bytes; the old one is used until"
        " that is put right"
    ]
