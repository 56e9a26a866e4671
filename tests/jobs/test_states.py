"""What the words that job APIs use for a state mean here: a table for each API, as its source or documents have it."""

import pytest

from relay.events import Status
from relay.jobs.observations import STATUS_WORDS, normalised

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
    "Celery": {
        "queued": "PENDING RECEIVED SENT",
        "running": "STARTED PROGRESS RETRY",
        "succeeded": "SUCCESS",
        "failed": "FAILURE",
        "cancelled": "REVOKED",
    },
    "D-ID": {"queued": "created", "running": "started", "succeeded": "done", "failed": "error rejected"},
    "Tencent": {"queued": "WAIT", "running": "RUN", "succeeded": "DONE", "failed": "FAIL"},
    "Mistral": {
        "queued": "QUEUED VALIDATING VALIDATED",
        "running": "STARTED RUNNING",
        "succeeded": "SUCCESS",
        "failed": "FAILED FAILED_VALIDATION",
        "cancelled": "CANCELLED",
    },
    "OpenAI batches": {
        "queued": "validating",
        "running": "in_progress finalizing cancelling",
        "succeeded": "completed",
        "failed": "failed expired",
        "cancelled": "cancelled",
    },
    "OpenAI webhooks": {"succeeded": "video.completed", "failed": "video.failed"},
    "Suno proxies": {
        "queued": "PENDING",
        "succeeded": "SUCCESS",
        "failed": "CREATE_TASK_FAILED GENERATE_AUDIO_FAILED SENSITIVE_WORD_ERROR",
    },
    "Slurm": {
        "queued": "PENDING",
        "running": "RUNNING COMPLETING",
        "succeeded": "COMPLETED",
        "failed": "FAILED TIMEOUT NODE_FAIL OUT_OF_MEMORY BOOT_FAIL",
        "cancelled": "CANCELLED",
    },
    "Kubernetes": {"queued": "Pending", "running": "Running", "succeeded": "Succeeded Complete", "failed": "Failed"},
    "GitHub": {"queued": "queued requested waiting pending", "running": "in_progress", "succeeded": "completed"},
    "Together": {"queued": "new pending", "running": "running uploading", "succeeded": "completed"},
    "Replicate trainings": {"running": "canceling"},
    "Camunda": {"running": "EXECUTING", "failed": "EXCEPTION"},
    "aria2": {
        "queued": "waiting",
        "running": "active",
        "succeeded": "complete",
        "failed": "error",
        "unknown": "paused",
    },
    "BullMQ": {"queued": "waiting", "running": "active", "succeeded": "completed", "failed": "failed"},
    "xAI": {"queued": "pending", "succeeded": "done", "failed": "expired failed"},
    "Black Forest Labs": {
        "queued": "Pending",
        "succeeded": "Ready",
        "failed": "Error Content_Moderated Request_Moderated",
    },
    "Shotstack": {"queued": "queued", "running": "rendering", "succeeded": "done", "failed": "failed"},
    "Mux": {"queued": "preparing", "succeeded": "ready", "failed": "errored"},
    "Resque": {"queued": "queued", "running": "working", "succeeded": "completed", "failed": "failed"},
    "Meilisearch": {
        "queued": "enqueued",
        "running": "processing",
        "succeeded": "succeeded",
        "failed": "failed",
        "cancelled": "canceled",
    },
    "Azure": {"queued": "Not_Started", "running": "Running", "succeeded": "Succeeded", "failed": "Failed"},
    "Amazon": {
        "queued": "Submitted QUEUED RUNNABLE Initializing Provisioning",
        "running": "InProgress IN_PROGRESS Progressing STARTING Stopping",
        "succeeded": "Complete Completed COMPLETED_WITH_ERRORS",
        "failed": "Failed TIMEOUT TIMED_OUT",
        "cancelled": "Canceled Stopped TERMINATED",
    },
    "Google Cloud": {
        "queued": "JOB_STATE_QUEUED JOB_STATE_PENDING SCHEDULED",
        "running": "JOB_STATE_RUNNING JOB_STATE_CANCELLING CANCELLING",
        "succeeded": "JOB_STATE_SUCCEEDED JOB_STATE_PARTIALLY_SUCCEEDED PARTIALLY_SUCCEEDED",
        "failed": "JOB_STATE_FAILED JOB_STATE_EXPIRED",
        "cancelled": "JOB_STATE_CANCELLED",
    },
    "OGC processes": {"queued": "accepted", "running": "running", "succeeded": "successful", "failed": "failed"},
    "Gradio": {"queued": "queuing"},
    "nobody": {"unknown": "renderring throttled dreaming ok paused 42"},
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


@pytest.mark.parametrize(
    "word",
    [
        "in_progress",
        "in-progress",
        "In Progress",
        "inProgress",
        " in  progress ",
        "TASK_STATE_IN_PROGRESS",
        "video.in_progress",
    ],
)
def test_a_word_means_the_same_in_whatever_spelling(word: str) -> None:
    assert normalised(word) == "running"


@pytest.mark.parametrize("word", ["not done", "undone", "done?", "ready-ish", "status", "-", "7", "-1"])
def test_a_word_that_only_looks_like_one_is_not_known(word: str) -> None:
    assert normalised(word) == "unknown"


def test_states_that_are_numbers_are_not_confused() -> None:
    words: dict[str, Status] = {"1": "running", "-1": "failed"}
    assert [normalised(word, words) for word in ("1", "-1", " 1 ", "11")] == ["running", "failed", "running", "unknown"]
