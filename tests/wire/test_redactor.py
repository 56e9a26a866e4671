"""What an operator's patterns mask, and which fields of an event are looked at; spellings have tests of their own."""

from collections.abc import Callable

import pytest

from relay import Bus, Done, Event, Exchange, Failed, Job, Log, MemoryJournal, Progress, Redactor, Retrying
from relay.testing import ManualClock, sample_records
from relay.wire.event_redaction import redact_event, redact_exchange

CARD = "4000 1234 5678 9010"
PATTERNS = [r"\b[0-9]{4} [0-9]{4} [0-9]{4} [0-9]{4}\b", r"customer (\w+)", r"either (one)|or (?:other)"]
mask = Redactor(patterns=PATTERNS)


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        (f"card {CARD}, again {CARD}", "card ***, again ***"),
        ("customer ann paid", "customer *** paid"),
        ("either one, or other", "either ***, ***"),
        ('{"note": "card \\u0034000 1234 5678 9010"}', '{"note": "card ***"}'),
        ("card 4000%201234%205678%209010.", "card ***."),
        ("nothing of that kind", "nothing of that kind"),
    ],
)
def test_what_a_pattern_matches_is_masked_or_its_first_group_alone(text: str, masked: str) -> None:
    assert mask(text) == masked


def test_a_pattern_is_looked_for_before_the_text_is_cut() -> None:
    assert mask(f"card {CARD}", 12) == "card ***"


def test_a_pattern_masks_links_and_values_as_well() -> None:
    assert mask.link("https://cdn.example/customer ann/v.mp4?sig=x") == "https://cdn.example/customer ***/v.mp4?sig=x"
    assert mask.value({"customer ann": [CARD, 7]}) == {"customer ***": ["***", 7]}


def test_a_secret_of_a_few_letters_is_masked_in_notices_and_not_in_the_words_of_events() -> None:
    redactor = Redactor(["cat", "long-secret-canary"])
    assert redactor("a cat, long-secret-canary") == "a ***, ***"
    assert redact_event(Log(line="a cat, long-secret-canary"), redactor) == Log(line="a cat, ***")


@pytest.mark.parametrize(
    "make",
    [
        lambda words: Log(line=words),
        lambda words: Failed(kind="upstream", message=words),
        lambda words: Retrying(kind="server", message=words, attempt=1, next_in=1.0),
        lambda words: Progress(percent=1, status="running", raw_status=words),
        lambda words: Progress(percent=1, status="running", raw_percent=words),
        lambda words: Done(urls=(f"https://cdn.example/{words}",), result={"a": [words]}),
    ],
)
def test_every_field_of_an_event_that_holds_words_from_outside_is_masked(make: Callable[[str], Event]) -> None:
    event = make(f"card {CARD}")
    assert CARD not in repr(redact_event(event, mask))
    assert redact_event(event, mask) == make("card ***")
    assert redact_event(make("words"), mask) == make("words")


def test_an_event_without_secrets_is_the_very_same_object() -> None:
    for record in sample_records():
        assert redact_event(record.event, mask) is record.event


def test_a_journal_holds_what_was_masked() -> None:
    bus = Bus(MemoryJournal(), clock=ManualClock(), redactor=mask)
    job, heard = Job("job_1"), list[Exchange]()
    record = bus.publish_first(job, Log(line=f"card {CARD}"))
    bus.publish(job, Log(line="customer ann"))
    bus.subscribe_exchanges(heard.append)
    exchange = Exchange(
        jobs=(), upstream="u", method="GET", url=f"/{CARD}", status=200, seconds=1.0, request=CARD, response=CARD,
        at=record.at,
    )  # fmt: skip
    bus.publish_exchange(exchange)

    stored = [kept.event for kept in bus.journal.read(0)]
    assert stored == [Log(line="card ***"), Log(line="customer ***")]
    assert heard == [redact_exchange(exchange, mask)]
    assert (heard[0].url, heard[0].request, heard[0].response) == ("/***", "***", "***")
