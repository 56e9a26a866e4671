"""Bodies of webhooks: CloudEvents as their own SDK reads them, and chat messages in which no text acts."""

import json
import zlib

import pytest
from cloudevents.core.bindings.http import HTTPMessage, from_structured
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from hypothesis import given

from relay.errors import UsageError
from relay.events import Accepted, Done, DraftsFetch, Failed, Log, Progress, Record
from relay.testing import sample_records
from relay.testing.conformance.samples import hostile_records
from sinks._templates import TEMPLATES, TemplateName, delivery_id, traceparent
from sinks.webhook import WebhookSink
from tests.sinks.hostile import any_text
from tests.sinks.webhook.receiver import KEY, a_receiver, a_record, a_webhook


def cloud_event(record: Record, source: str = "https://relay.example") -> CloudEvent:
    template = TEMPLATES["cloudevents"]
    message = HTTPMessage({"content-type": template.media_type}, template.body(record, source))
    event = from_structured(message, JSONFormat(), CloudEvent)
    assert isinstance(event, CloudEvent)
    return event


def test_a_record_is_a_cloud_event_with_its_order_and_its_trace() -> None:
    record = a_record(DraftsFetch(attempt=2), seq=42)
    event = cloud_event(record)
    assert event.get_attributes() == {
        "specversion": "1.0",
        "id": f"job_1-42-{zlib.crc32(record.json):08x}",
        "source": "https://relay.example/v1/jobs/job_1",
        "type": "relay.job.drafts_fetch",
        "subject": "job_1",
        "time": record.at,
        "timestamp": record.at.isoformat().replace("+00:00", "Z"),
        "datacontenttype": "application/json",
        "sequence": "00000000000000000042",
        "traceparent": traceparent("job_1"),
    }
    assert event.get_data() == json.loads(record.json)


@pytest.mark.parametrize("record", [*sample_records(), *hostile_records()], ids=delivery_id)
def test_the_sdk_reads_every_record_and_its_data_is_the_record_byte_for_byte(record: Record) -> None:
    assert cloud_event(record).get_data() == json.loads(record.json)
    body = TEMPLATES["cloudevents"].body(record, "")
    assert body.endswith(b',"data":' + record.json + b"}")
    assert body.isascii()
    assert b"\n" not in body


def test_sequences_sort_as_text_and_ids_differ_if_a_number_is_used_again() -> None:
    records = [a_record(Done(), seq=seq) for seq in (1, 2, 9, 10, 11, 99, 100, 10**17)]
    sequences = [cloud_event(record).get_extension("sequence") for record in records]
    assert sequences == sorted(sequences)
    assert delivery_id(a_record(Done(), seq=1)) != delivery_id(a_record(Done(urls=("x",)), seq=1))


def test_a_job_is_one_trace_in_every_process() -> None:
    version, trace, span, flags = traceparent("job_1").split("-")
    assert (version, len(trace), len(span), flags) == ("00", 32, 16, "01")
    assert traceparent("job_1") == traceparent("job_1") != traceparent("job_2")


def message(template: TemplateName, record: Record) -> dict[str, object]:
    made: dict[str, object] = json.loads(TEMPLATES[template].body(record, ""))
    return made


ATTACK = "<!channel> <@U123> <https://x.example|here> @everyone &amp; *b* _i_ ~s~ `c` ||x|| [a](https://x.example) \\"


def test_slack_shows_a_text_as_it_is_and_nothing_in_it_acts() -> None:
    assert message("slack", a_record(Failed(kind="policy", message=ATTACK))) == {
        "text": "job_1: failed (policy): &lt;!channel&gt; &lt;@U123&gt; &lt;https://x.example|here&gt; @everyone"
        " &amp;amp; *b* _i_ ~s~ `c` ||x|| [a](https://x.example) \\",
        "mrkdwn": False,
        "link_names": False,
        "unfurl_links": False,
        "unfurl_media": False,
    }


def test_discord_shows_a_text_as_it_is_and_nothing_in_it_acts() -> None:
    made = message("discord", a_record(Failed(kind="policy", message=ATTACK)))
    assert (made["allowed_mentions"], made["flags"]) == ({"parse": []}, 4)
    assert made["content"] == (
        r"job\_1: failed \(policy\): \<!channel\> \<\@U123\> \<https://x.example\|here\> \@everyone &amp; \*b\*"
        r" \_i\_ \~s\~ \`c\` \|\|x\|\| \[a\]\(https://x.example\) \\"
    )


@given(any_text)
def test_whatever_a_text_holds_a_chat_message_is_bounded_and_has_no_live_mark_up(text: str) -> None:
    record = a_record(Failed(kind="policy", message=text))
    slack, discord = str(message("slack", record)["text"]), str(message("discord", record)["content"])
    assert not set("<>") & set(slack)
    assert len(slack) <= 8_000
    assert len(discord.encode("utf-16-le")) // 2 <= 2_000
    assert "\n" not in slack + discord


def test_the_longest_text_of_marks_alone_fits_into_a_message() -> None:
    record = a_record(Log(line="_" * 5_000), job="j" * 64)
    content = str(message("discord", record)["content"])
    assert len(content) <= 2_000
    assert content.endswith("characters in all\\]")


@pytest.mark.parametrize("template", ["slack", "discord"])
async def test_a_chat_gets_the_end_of_each_job_alone_unless_more_is_wanted(template: TemplateName) -> None:
    records = sample_records()
    async with a_receiver() as receiver, a_webhook(receiver.url, template=template) as sink:
        for record in records:
            sink(record)
    ends = sum(record.terminal for record in records)
    assert len(receiver.deliveries) == ends == sink.counts().delivered == 3
    assert {delivery.headers["content-type"] for delivery in receiver.deliveries} == {"application/json"}
    assert not any("webhook-id" in delivery.headers for delivery in receiver.deliveries)

    async with a_receiver() as receiver, a_webhook(receiver.url, template=template, terminal_only=False) as sink:
        for record in records:
            sink(record)
    assert len(receiver.deliveries) == len(records)


async def test_a_program_gets_every_record_unless_less_is_wanted() -> None:
    async with a_receiver() as receiver, a_webhook(receiver.url, terminal_only=True) as sink:
        for record in (a_record(Accepted(upstream="u")), a_record(Progress(percent=1, status="running"), seq=2)):
            await sink.work(record)
        await sink.work(a_record(Done(), seq=3))
    assert [delivery.headers["content-type"] for delivery in receiver.deliveries] == ["application/cloudevents+json"]


@pytest.mark.parametrize("source", ["https://relay.example", "https://relay.example/", "/relay", "urn:relay:1", ""])
def test_a_source_is_a_uri(source: str) -> None:
    assert repr(WebhookSink("https://hooks.example/x", secret=KEY, source=source)) == "<WebhookSink to hooks.example>"


@pytest.mark.parametrize("source", ["a b", "ä", '"', "x" * 600])
def test_what_is_no_uri_is_refused_as_a_source(source: str) -> None:
    with pytest.raises(UsageError, match="the source of a webhook is a URI in ASCII"):
        WebhookSink("https://hooks.example/x", secret=KEY, source=source)


def test_there_are_three_templates() -> None:
    with pytest.raises(UsageError, match="no template 'teams'; it has cloudevents, slack, discord"):
        WebhookSink("https://hooks.example/x", secret=KEY, template="teams")  # type: ignore[arg-type]
