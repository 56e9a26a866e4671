"""`relay webhook replay`: what a webhook has given up on is listed, and delivered again by the operator's word."""

import asyncio
import threading
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp.web import Request, Response

from relay.cli import main
from relay.events import Record
from relay.journal import SqliteJournal
from sinks._templates import delivery_id
from tests.cli.running import PATIENCE, relay
from tests.journal.telling import Teller
from tests.sinks.webhook.receiver import KEY, Receiver, a_receiver, verify

Capture = pytest.CaptureFixture[str]

TABLE = """
[[sinks]]
kind = "webhook"
name = "{name}"
url = "{url}"
secret = "env:KEY"
allow_private = true
durable = true
"""


@contextmanager
def beside(*answers: Any) -> Generator[Receiver]:
    """A receiver on an event loop of its own: the command has one of its own as well."""
    ready, receivers = threading.Event(), list[Receiver]()
    loop = asyncio.new_event_loop()
    ending = asyncio.Event()

    async def serve() -> None:
        async with a_receiver(*answers) as receiver:
            receivers.append(receiver)
            ready.set()
            await ending.wait()

    def run() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(serve())

    thread = threading.Thread(target=run)
    thread.start()
    ready.wait()
    try:
        yield receivers[0]
    finally:
        loop.call_soon_threadsafe(ending.set)
        thread.join()


@pytest.fixture(autouse=True)
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KEY", KEY)
    return tmp_path / "relay.db"


def configured(url: str, *names: str) -> None:
    Path("relay.toml").write_text("".join(TABLE.format(name=name, url=url) for name in names or ("hook",)))


def buried(path: Path, jobs: str = "abab", name: str = "hook") -> list[Record]:
    """A journal in which a webhook has given up on a record for each of *jobs*."""
    with closing(SqliteJournal(path)) as journal:
        records = Teller(journal).tell(jobs)
        journal.parking.bury(name, records, attempts=31, since=0.0, due=0.0)
    return records


def letters(path: Path, name: str = "hook") -> list[Record]:
    with closing(SqliteJournal(path)) as journal:
        assert journal.parking.waiting(name) == 0
        return [letter.record for letter in journal.parking.dead(name)]


def command(capfd: Capture, *arguments: str) -> tuple[int, list[str], list[str]]:
    """The exit status, the lines on standard output, and those on standard error."""
    status = main(["webhook", "replay", *arguments])
    said = capfd.readouterr()
    return status, said.out.splitlines(), said.err.splitlines()


def described(record: Record) -> str:
    return f"hook: {record.job} seq {record.seq} checking: {record.event.text}"


def test_dead_letters_are_delivered_signed_anew_with_their_own_ids_and_are_gone(path: Path, capfd: Capture) -> None:
    records = buried(path)
    with beside() as receiver:
        configured(receiver.url)
        status, lines, said = command(capfd)
    assert (status, lines, said) == (
        0,
        [f"{described(record)}: delivered" for record in records],
        ["relay: hook: 4 dead letters"],
    )
    for delivery in receiver.deliveries:
        verify(delivery, KEY)
    assert [one.headers["webhook-id"] for one in receiver.deliveries] == [delivery_id(record) for record in records]
    assert letters(path) == []


def test_a_list_delivers_nothing_and_may_be_had_while_the_relay_runs(path: Path, capfd: Capture) -> None:
    records = buried(path)
    with beside() as receiver, closing(SqliteJournal(path)):
        configured(receiver.url)
        status, lines, said = command(capfd, "--list")
    assert (status, lines, said) == (
        0,
        [f"{described(record)} (attempts: 31)" for record in records],
        ["relay: 4 dead letters"],
    )
    assert (receiver.deliveries, letters(path)) == ([], records)


def test_one_job_or_one_webhook_can_be_chosen(path: Path, capfd: Capture) -> None:
    records = buried(path)
    with beside() as receiver:
        configured(receiver.url, "hook", "other")
        assert command(capfd, "--job", "b", "--sink", "hook")[0] == 0
        assert [one.headers["webhook-id"][:3] for one in receiver.deliveries] == ["b-1", "b-2"]
        assert command(capfd, "--sink", "other")[:2] == (0, [])
    assert letters(path) == [record for record in records if record.job == "a"]


def test_the_first_failure_is_the_end_and_what_is_left_stays(path: Path, capfd: Capture) -> None:
    records = buried(path)
    with beside(Response(status=204), Response(status=500)) as receiver:
        configured(receiver.url)
        status, lines, said = command(capfd)
    host = receiver.url.split("/")[2]
    assert (status, lines) == (
        1,
        [f"{described(records[0])}: delivered", f"{described(records[1])}: failed: {host} answered 500"],
    )
    assert said[-1] == "relay: hook: 3 dead letters left; try again once it is put right"
    assert letters(path) == records[1:]


def test_one_that_is_refused_for_good_stays_and_the_others_are_delivered(path: Path, capfd: Capture) -> None:
    records = buried(path)
    refusal = Response(status=400, headers={"webhook-delivery": "abort-message"})
    with beside(refusal) as receiver:
        configured(receiver.url)
        status, lines, _ = command(capfd)
    assert (status, len(lines), len(receiver.deliveries)) == (1, 4, 4)
    assert letters(path) == records[:1]


def test_while_a_relay_runs_nothing_is_replayed(path: Path, capfd: Capture) -> None:
    records = buried(path)
    with beside() as receiver:
        configured(receiver.url)
        with closing(SqliteJournal(path)):
            status, lines, said = command(capfd)
    assert (status, lines, receiver.deliveries) == (2, [], [])
    assert "in use" in said[-1]
    assert letters(path) == records


@pytest.mark.parametrize(
    ("content", "arguments", "said"),
    [
        ("", (), "no webhook is configured with a name and durable = true, so none has dead letters"),
        (
            TABLE.format(name="hook", url="https://hooks.example/"),
            ("--sink", "hok"),
            "no durable webhook is called 'hok'",
        ),
        ('[journal]\nurl = "memory:"', (), "a journal in memory keeps no dead letters"),
        ('[journal]\nurl = "redis://127.0.0.1"', (), "a journal in Redis keeps no dead letters"),
        (TABLE.format(name="hook", url="https://hooks.example/"), ("--list",), "there is no journal relay.db"),
    ],
)
def test_a_mistake_is_one_line(content: str, arguments: tuple[str, ...], said: str, capfd: Capture) -> None:
    Path("relay.toml").write_text(content)
    status, lines, errors = command(capfd, *arguments)
    assert (status, lines, len(errors)) == (2, [], 1)
    assert said in errors[0]


def test_ctrl_c_ends_it_at_once_and_what_is_not_delivered_stays(path: Path) -> None:
    records, arrived = buried(path), threading.Event()

    async def never(_: Request) -> Response:
        arrived.set()
        await asyncio.Event().wait()
        raise AssertionError("the client leaves before that")

    with beside(never) as receiver:
        configured(receiver.url)
        with relay("webhook", "replay", folder=path.parent) as process:
            assert arrived.wait(PATIENCE)
            process.interrupt()
            assert process.ends() == 130
    assert process.said[0] == "relay: hook: 4 dead letters"
    assert letters(path) == records
