"""Quiet by default: the console prints news, and each poll to those that ask for it."""

import io
import json
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import pytest
from msgspec.structs import replace

from relay import Relay
from relay.cli import main
from relay.cli.build import build_sinks
from relay.config import load
from relay.config.settings import Settings
from relay.events import Level
from relay.journal import SqliteJournal
from relay.testing import SCENARIOS, ManualClock, Moment, Scenario, ScriptedUpstream
from relay.upstreams import Sora
from sinks.kinds import SINK_KINDS
from tests.cli.asking import post
from tests.cli.running import relay
from tests.journal.telling import Teller

TEN_MINUTES: Final = 600.0

POLLS: Final = int(TEN_MINUTES / 2.5)

_HAPPY: Final = SCENARIOS["happy"]

SLOW: Final = replace(_HAPPY, phases=tuple((start * TEN_MINUTES / 41, moment) for start, moment in _HAPPY.phases))
"""The fifteen figures of a job that goes well, over ten minutes."""

FLAT: Final = Scenario(
    "flat for ten minutes",
    "",
    (
        (0.0, Moment(status="preprocessing")),
        (20.0, Moment(progress=0.09)),
        (590.0, Moment(status="processing", progress=1.0)),
        (600.0, Moment(where="drafts")),
    ),
)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("RELAY_LOG_LEVEL", raising=False)
    monkeypatch.chdir(tmp_path)


async def printed(scenario: Scenario, monkeypatch: pytest.MonkeyPatch, level: Level | None = None) -> list[Any]:
    """What the console of a default `relay serve` prints of one job that is polled every 2.5 s."""
    out = io.StringIO()
    clock = ManualClock(auto=True)
    with monkeypatch.context() as patch:
        patch.setattr("sys.stdout", out)
        sinks = build_sinks(Settings(), "json", level)
    async with ScriptedUpstream(clock=clock) as upstream:
        sora = Sora(upstream.url, upstream.token, clock=clock)
        async with Relay([sora], sinks=sinks, clock=clock) as house:
            job = house.follow("sora", upstream.add_task(scenario))
            while not job.ended:
                await clock.sleep(2.5)
    assert clock.monotonic() > TEN_MINUTES
    return [json.loads(line) for line in out.getvalue().splitlines()]


@pytest.mark.parametrize("scenario", [SLOW, FLAT], ids=["fifteen figures", "one figure"])
async def test_ten_minutes_of_one_job_are_under_25_lines_each_with_news(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = await printed(scenario, monkeypatch)

    assert len(lines) < 25
    assert lines[-1]["type"] == "done"
    assert all(one["text"] != other["text"] for one, other in pairwise(lines))
    assert {line["type"] for line in lines}.isdisjoint({"checking", "received"})
    keys = ("status", "raw_status", "percent", "listed")
    shown = [tuple(line[key] for key in keys) for line in lines if line["type"] == "progress"]
    assert shown == list(dict.fromkeys(shown))


@pytest.mark.parametrize("scenario", [SLOW, FLAT], ids=["fifteen figures", "one figure"])
async def test_at_level_debug_every_poll_is_printed_without_a_hole(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = await printed(scenario, monkeypatch, "debug")

    assert [line["seq"] for line in lines] == list(range(1, len(lines) + 1))
    polls = [line["attempt"] for line in lines if line["type"] == "checking"]
    assert polls == list(range(1, len(polls) + 1))
    assert len(polls) >= POLLS
    assert sum(line["type"] == "progress" for line in lines) >= POLLS - 2


def console_level(toml: str, tmp_path: Path, level: Level | None = None) -> list[tuple[str, str]]:
    """The name of the class and the level of each sink that is built."""
    path = tmp_path / "relay.toml"
    path.write_text(toml)
    built = build_sinks(load(path, {}, SINK_KINDS), None, level)
    return [(type(options.sink).__name__, options.level) for options in built]


def test_the_level_of_the_command_line_is_that_of_consoles_alone_and_before_that_of_the_file(tmp_path: Path) -> None:
    toml = '[[sinks]]\nkind = "console"\n[[sinks]]\nkind = "console"\nlevel = "warning"\n[[sinks]]\nkind = "debug"\n'

    assert console_level("", tmp_path) == [("ConsoleSink", "info")]
    assert [level for _, level in console_level(toml, tmp_path)] == ["info", "warning", "debug"]
    assert [level for _, level in console_level(toml, tmp_path, "error")] == ["error", "error", "debug"]


@pytest.fixture
def journal(tmp_path: Path) -> list[str]:
    """The levels of the records in `relay.db`."""
    with closing(SqliteJournal(tmp_path / "relay.db")) as journal:
        teller = Teller(journal)
        records = [*teller.tell("ab"), *teller.tell("ab")]
    return [record.event.level for record in records]


REPLAY: Final = ("replay", "relay.db", "--speed", "0")


def levels(capfd: pytest.CaptureFixture[str]) -> set[str]:
    return {json.loads(line)["level"] for line in capfd.readouterr().out.splitlines()}


def test_replay_prints_info_and_with_level_debug_everything(
    journal: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert set(journal) == {"debug"}
    assert main(REPLAY) == 0
    assert levels(capfd) == set()
    assert main([*REPLAY, "--level", "debug"]) == 0
    assert levels(capfd) == {"debug"}


def test_the_environment_says_the_level_unless_the_command_line_does(
    journal: list[str], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RELAY_LOG_LEVEL", "DEBUG")
    assert main(REPLAY) == 0
    assert levels(capfd) == set(journal)
    assert main([*REPLAY, "--level", "info"]) == 0
    assert levels(capfd) == set()
    monkeypatch.setenv("RELAY_LOG_LEVEL", "")
    assert main(REPLAY) == 0
    assert levels(capfd) == set()


@pytest.mark.parametrize("command", [["serve"], ["follow", "u", "t"], ["tail"], ["replay", "x"], ["demo"]])
def test_a_level_that_is_none_is_one_line_and_status_2(
    command: list[str], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main([*command, "--level", "loud"]) == 2
    assert "--level" in (said := capfd.readouterr().err)
    monkeypatch.setenv("RELAY_LOG_LEVEL", "loud")
    assert main(command) == 2
    assert "RELAY_LOG_LEVEL" in (again := capfd.readouterr().err)
    assert (said.count("\n"), again.count("\n")) == (1, 1)
    assert "'debug', 'info', 'warning', 'error'" in again


def test_serve_and_tail_print_news_and_every_poll_on_request(tmp_path: Path) -> None:
    """Real processes: the console of the relay, and two readers of it elsewhere."""
    with relay("fake", "--port", "0", "--speed", "50", "--scenario", "flat", folder=tmp_path) as fake:
        base_url, token = fake.says(r"base_url (\S+)")[1], fake.says(r"token (\S+)")[1]
        task = fake.says(r"task (\S+) plays")[1]
        (tmp_path / "relay.toml").write_text(
            f'[[upstreams]]\nkind = "sora"\nbase_url = "{base_url}"\ntoken = "env:TOKEN"\ninterval = "100ms"\n'
        )
        with relay("serve", "--port", "0", folder=tmp_path, TOKEN=token, RELAY_LOG_LEVEL="") as serve:
            address = serve.says(r"serving on (\S+)/;")[1]
            job = post(f"{address}/v1/jobs", {"upstream": "sora", "task": task})["job"]
            outputs = {}
            for level in ("info", "debug"):
                with relay("tail", address, "--job", job, folder=tmp_path, RELAY_LOG_LEVEL=level) as tail:
                    assert tail.ends() == 0
                    outputs[level] = tail.printed
            serve.interrupt()
            assert serve.ends() == 0

    everything = [json.loads(line) for line in outputs["debug"]]
    assert [line["seq"] for line in everything] == list(range(1, len(everything) + 1))
    assert {line["level"] for line in everything} == {"debug", "info"}
    news = [line for line in outputs["debug"] if json.loads(line)["level"] != "debug"]
    assert serve.printed == outputs["info"] == news
    assert len(news) < 25 < len(everything)
