"""What the words that job APIs use for a state mean here: a table for each API, as its source or documents have it."""

import pytest

from relay.events import Status
from relay.observations import STATUS_WORDS, normalised

TABLES: dict[str, dict[Status, str]] = {
    # It counts what is cancelled as failed, and an unknown word as queued; here both are states of their own. Its
    # `starting` is queued too; here it is running, as Replicate means it.
    "new-api": {
        "queued": "NOT_START SUBMITTED QUEUED pending preparing created",
        "running": "IN_PROGRESS processing running generating",
        "succeeded": "SUCCESS completed succeeded finished",
        "failed": "FAILURE failed fail error",
        "cancelled": "cancelled",
        "unknown": "UNKNOWN",
    },
    "OpenAI": {"queued": "queued", "running": "in_progress", "succeeded": "completed", "failed": "failed"},
    "OpenRouter": {
        "queued": "pending",
        "running": "in_progress",
        "succeeded": "completed",
        "failed": "failed expired",
        "cancelled": "cancelled",
    },
    "Sora": {
        "queued": "preprocessing queued",
        "running": "running processing",
        "succeeded": "succeeded completed",
        "failed": "failed error",
        "cancelled": "cancelled",
    },
    "Replicate": {
        "running": "starting processing",
        "succeeded": "succeeded",
        "failed": "failed",
        "cancelled": "canceled aborted",
    },
    "fal": {"queued": "IN_QUEUE", "running": "IN_PROGRESS", "succeeded": "COMPLETED"},
    "Runway": {
        "queued": "PENDING",
        "running": "RUNNING",
        "succeeded": "SUCCEEDED",
        "failed": "FAILED",
        "cancelled": "CANCELLED",
    },
    "Luma": {"queued": "queued", "succeeded": "completed", "failed": "failed"},
    "Kling": {"queued": "submitted", "running": "processing", "succeeded": "succeed", "failed": "failed"},
    "MiniMax": {
        "queued": "Preparing Queueing queued",
        "running": "Processing running",
        "succeeded": "Success succeeded",
        "failed": "Fail failed",
        "cancelled": "cancelled",
    },
    "Midjourney proxies": {
        "queued": "NOT_START",
        "running": "IN_PROGRESS",
        "succeeded": "SUCCESS",
        "failed": "FAILURE",
    },
    "RQ": {
        "queued": "queued",
        "running": "started",
        "succeeded": "finished",
        "failed": "failed",
        "cancelled": "canceled",
    },
    "nobody": {"unknown": "renderring throttled dreaming done 42"},
}


@pytest.mark.parametrize("api", TABLES)
def test_the_words_of_each_api_mean_the_same_here(api: str) -> None:
    meant = {word: status for status, words in TABLES[api].items() for word in words.split()}
    assert {word: normalised(word) for word in meant} == meant
    assert {word: normalised(f" {word.swapcase()} ") for word in meant} == meant


def test_no_word_is_known_that_no_api_says() -> None:
    said = {word.lower() for table in TABLES.values() for words in table.values() for word in words.split()}
    assert set(STATUS_WORDS) <= said


@pytest.mark.parametrize("word", [None, "", " "])
def test_no_word_is_no_known_state(word: str | None) -> None:
    assert normalised(word) == "unknown"
