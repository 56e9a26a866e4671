"""`relay serve --workers`: what it needs, and how a worker is a relay of its own."""

import socket
from collections.abc import Generator
from pathlib import Path

import pytest
from msgspec.structs import replace

from relay.cli import main
from relay.cli.processes import Worker
from relay.cli.workers import settings_of
from relay.config.settings import ClusterSettings, ConfiguredSink, JournalSettings, Settings
from sinks.console import ConsoleSettings, Format
from sinks.debug import DebugSettings

Capture = pytest.CaptureFixture[str]

SHARED = Settings(journal=JournalSettings(url="redis://127.0.0.1"))


@pytest.fixture
def line() -> Generator[socket.socket]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield theirs


@pytest.mark.parametrize(("url", "place"), [("memory:", "in memory"), ("sqlite:relay.db", "in a file")])
def test_workers_need_a_journal_that_they_can_share(
    url: str, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "relay.toml").write_text(f'[server]\nport = 0\n[journal]\nurl = "{url}"')
    assert main(["serve", "--workers", "2"]) == 2
    assert capsys.readouterr().err == (
        f"relay: --workers needs a journal that processes share, and a journal {place} serves one alone; under"
        ' [journal] write the address of a server of Redis, as in url = "redis://127.0.0.1"\n'
    )
    assert list(tmp_path.iterdir()) == [tmp_path / "relay.toml"]


@pytest.mark.parametrize(("node", "name"), [("relay-0", "relay-0-2"), (None, None), (48 * "n", f"{44 * 'n'}-2")])
def test_each_worker_is_a_node_with_a_name_of_its_own(node: str | None, name: str | None, line: socket.socket) -> None:
    settings = replace(SHARED, cluster=ClusterSettings(node=node))
    assert settings_of(Worker(2, line, again=False, terminal=False), settings).cluster.node == name


def test_the_console_of_a_worker_is_pretty_if_its_lines_lead_to_a_terminal(
    line: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    sinks = tuple(
        ConfiguredSink(settings=one) for one in (ConsoleSettings(), ConsoleSettings(format="json"), DebugSettings())
    )
    cases: list[tuple[bool, Format | None]] = [(False, None), (True, "pretty")]
    for terminal, wanted in cases:
        worker = Worker(1, line, again=False, terminal=terminal)
        assert [one.settings for one in settings_of(worker, replace(SHARED, sinks=sinks)).sinks] == [
            ConsoleSettings(format=wanted),
            ConsoleSettings(format="json"),
            DebugSettings(),
        ]
        assert [one.settings for one in settings_of(worker, SHARED).sinks] == [ConsoleSettings(format=wanted)]
