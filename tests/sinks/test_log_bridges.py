"""The bridges to logging and structlog: each record once, at its level, in a thread, and no notice of the relay."""

import io
import logging
import threading
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any

import pytest
import structlog

from relay import Accepted, Cancelled, Done, Failed, Log, Record, Relay, UsageError
from relay.testing import check_sink
from sinks import LoggingSink, StructlogSink
from sinks.logging import LoggingSettings
from sinks.structlog import StructlogSettings

EVENTS = (
    Accepted(upstream="sora", task="t"),
    Log(line="100% %s done\r\nfake: line", severity="warning"),
    Done(urls=("https://files.example/a.mp4?sig=s3cret",), media_types=("video/mp4",), result={"key": "s3cret"}),
)


class Kept(logging.Handler):
    """Keeps log records, and the threads that brought them."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []
        self.threads: set[int] = set()
        self.fails = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.threads.add(threading.get_ident())
        if self.fails:
            self.fails -= 1
            raise ValueError("the handler fails")
        self.records.append(record)


@pytest.fixture
def handler() -> Iterator[Kept]:
    """A handler of the logger `test.records`, which passes nothing on."""
    logger, kept = logging.getLogger("test.records"), Kept()
    logger.addHandler(kept)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    yield kept
    logger.removeHandler(kept)


PATIENT: Any = {"drain_within": 60.0}
"""The clock is the machine's, as a manual one knows of no work in a thread. Leaving the relay waits for no timer."""


async def publish(sink: Any, *events: Any) -> tuple[list[Record], list[str]]:
    """What a relay with *sink* alone publishes for one job, and the notices of that."""
    notices: list[str] = []
    async with Relay([], sinks=[sink], leave_within=60.0, notify=notices.append) as relay:
        job = relay.registry.admit()
        return [relay.bus.publish(job, event) for event in events], notices


async def test_a_record_is_a_log_record_with_its_own_level_time_and_text(handler: Kept) -> None:
    records, _ = await publish(LoggingSink("test.records", **PATIENT), *EVENTS)

    assert [log.getMessage() for log in handler.records] == [record.event.text for record in records]
    assert [log.levelno for log in handler.records] == [logging.INFO, logging.WARNING, logging.INFO]
    assert [log.created for log in handler.records] == [record.at.timestamp() for record in records]
    known = [(vars(log)["job"], vars(log)["seq"], vars(log)["type"]) for log in handler.records]
    assert known == [(record.job, record.seq, record.event.type) for record in records]
    assert "\n" not in "".join(log.getMessage() for log in handler.records), "a record is one line"
    assert threading.get_ident() not in handler.threads, "handlers may block"
    assert "s3cret" not in repr([vars(log) for log in handler.records])


async def test_a_logger_that_is_not_enabled_for_a_level_leaves_it_out(handler: Kept) -> None:
    logging.getLogger("test.records").setLevel(logging.WARNING)
    await publish(LoggingSink(logging.getLogger("test.records"), **PATIENT), *EVENTS)

    assert [log.levelname for log in handler.records] == ["WARNING"]


async def test_a_handler_that_raises_gets_the_same_record_again_and_no_other_twice(handler: Kept) -> None:
    handler.fails = 1
    records, notices = await publish(LoggingSink("test.records", **PATIENT), *EVENTS)

    assert [log.getMessage() for log in handler.records] == [record.event.text for record in records]
    assert notices[0] == "sink logging failed: ValueError: the handler fails; it is tried again"


@pytest.mark.parametrize("logger", ["relay", logging.getLogger("relay")])
def test_the_logger_of_the_notices_is_refused(logger: Any) -> None:
    with pytest.raises(UsageError, match=r"the logger 'relay' has the relay's own notices; use 'relay.records'"):
        LoggingSink(logger)


async def test_a_failing_handler_of_the_root_does_not_answer_the_notices_about_itself() -> None:
    """The notice of a failure is logged, fails there again, and that is the end of it."""
    root, kept = logging.getLogger(), Kept()
    kept.fails = 1_000_000
    root.addHandler(kept)
    try:
        async with Relay([], sinks=[LoggingSink("other.records", drain_within=0.1)]) as relay:
            logging.getLogger("other.records").setLevel(logging.DEBUG)
            job = relay.registry.admit()
            for number in range(20):
                relay.bus.publish(job, Log(line=f"{number}"))
            relay.bus.publish(job, Done())
            assert job.ended
    finally:
        root.removeHandler(kept)

    assert 1 <= 1_000_000 - kept.fails <= 100


async def test_a_file_of_the_configuration_makes_the_handlers(tmp_path: Path) -> None:
    out, config = tmp_path / "records.log", tmp_path / "logging.toml"
    config.write_text(
        f"""
        [formatters.line]
        format = "%(levelname)s %(job)s %(message)s"
        [handlers.file]
        class = "logging.FileHandler"
        filename = "{out}"
        formatter = "line"
        [loggers."test.configured"]
        handlers = ["file"]
        level = "INFO"
        propagate = false
        """
    )
    logger = logging.getLogger("test.before")
    records, _ = await publish(
        LoggingSink.from_settings(LoggingSettings(logger="test.configured", config=str(config))), *EVENTS
    )
    for handler in logging.getLogger("test.configured").handlers:
        handler.close()

    assert out.read_text().splitlines()[0] == f"INFO {records[0].job} accepted for sora, task t"
    assert not logger.disabled, "other loggers stay as they are"


@pytest.mark.parametrize(
    ("content", "why"),
    [(None, "cannot read"), ("= no", "cannot configure logging"), ('handlers = {h = {class = "no.Such"}}', "cannot")],
)
def test_a_configuration_that_is_none_is_one_sentence(tmp_path: Path, content: str | None, why: str) -> None:
    path = tmp_path / "logging.toml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UsageError, match=why) as caught:
        LoggingSink.from_settings(LoggingSettings(config=str(path)))
    assert "\n" not in str(caught.value)


def captured(entries: list[dict[str, Any]], **options: Any) -> StructlogSink:
    """A bridge whose processors keep each entry."""

    def keep(_: object, method: str, entry: MutableMapping[str, Any]) -> str:
        entries.append({"method": method, **entry})
        return ""

    return StructlogSink(structlog.wrap_logger(structlog.ReturnLogger(), processors=[keep]), **PATIENT, **options)


async def test_a_record_is_an_entry_of_structlog_with_its_fields_and_without_results() -> None:
    entries: list[dict[str, Any]] = []
    records, _ = await publish(captured(entries), *EVENTS)

    assert [(entry["method"], entry["event"]) for entry in entries] == [
        (record.event.level, record.event.text) for record in records
    ]
    first = {
        "job": records[0].job,
        "seq": 1,
        "type": "accepted",
        "at": records[0].at.isoformat().replace("+00:00", "Z"),
        "upstream": "sora",
        "task": "t",
    }
    assert entries[0] == {"method": "info", "event": records[0].event.text, **first}
    assert "s3cret" not in repr(entries)


async def test_results_are_entered_if_they_are_wanted() -> None:
    entries: list[dict[str, Any]] = []
    await publish(captured(entries, results=True), *EVENTS)

    assert (entries[-1]["urls"], entries[-1]["result"]) == (list(EVENTS[-1].urls), {"key": "s3cret"})


async def test_a_failure_and_a_cancellation_have_their_words() -> None:
    entries: list[dict[str, Any]] = []
    await publish(captured(entries), Failed(kind="policy", message="no"))
    await publish(captured(entries), Cancelled(by="caller"))

    assert [(entry["method"], entry["type"], entry["message"]) for entry in entries] == [
        ("error", "failed", "no"),
        ("warning", "cancelled", None),
    ]


async def test_an_asynchronous_logger_of_structlog_is_refused_with_a_notice() -> None:
    class Asynchronous:
        async def info(self, event: str, **fields: Any) -> None: ...

    _, notices = await publish(StructlogSink(Asynchronous(), **PATIENT), EVENTS[0])

    assert any("the logger is asynchronous; give a plain one" in notice for notice in notices)


def test_the_settings_make_the_bridges() -> None:
    assert repr(LoggingSink.from_settings(LoggingSettings())) == "LoggingSink('relay.records')"
    assert isinstance(StructlogSink.from_settings(StructlogSettings(results=True)), StructlogSink)


def test_logging_keeps_the_laws_of_sinks() -> None:
    out, logger = io.StringIO(), logging.getLogger("test.laws")
    handler = logging.StreamHandler(out)
    handler.setFormatter(logging.Formatter("%(job)s %(seq)s %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False

    report = check_sink(lambda: LoggingSink("test.laws"), output=lambda: out.getvalue().encode())
    assert {"once", "ordered", "drains", "hostile", "leftovers"} - set(report.kept) == set(), report


def test_structlog_keeps_the_laws_of_sinks() -> None:
    out = io.StringIO()
    renderer = structlog.processors.JSONRenderer()
    logger = structlog.wrap_logger(structlog.WriteLogger(out), processors=[renderer])

    report = check_sink(lambda: StructlogSink(logger), output=lambda: out.getvalue().encode())
    assert {"once", "ordered", "drains", "strict_json"} - set(report.kept) == set(), report
