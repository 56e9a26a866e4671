"""`relay doctor` examines the server of a journal that several relays share, and changes nothing there."""

import re
from pathlib import Path

import pytest

from relay.cli import main
from tests.journal.redis.servers import ENGINES, Kind, running_engine

pytestmark = [pytest.mark.server, pytest.mark.redis]

Capture = pytest.CaptureFixture[str]

PASSWORD = "canary-9f31"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "relay.toml").write_text('[server]\nport = 0\nmax_streams = 100\n[journal]\nurl = "env:REDIS_URL"\n')
    return tmp_path


def examined(capsys: Capture, *, status: int) -> list[str]:
    """What it prints beside the rows that every configuration has, without figures of time."""
    assert main(["doctor"]) == status
    printed = capsys.readouterr().out
    assert PASSWORD not in printed
    lines = re.sub(r"\d+\.\d+(?= m?s\b)", "N", printed).splitlines()
    return [line for line in lines if not line.startswith(("configuration", "descriptors"))]


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("kind", ENGINES)
def test_a_server_that_keeps_what_it_is_given_has_no_problem(
    kind: Kind, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    safe = ("--appendonly", "yes", "--appendfsync", "always", "--maxmemory", "64mb", "--requirepass", PASSWORD)
    with running_engine(kind, *safe) as server:
        monkeypatch.setenv("REDIS_URL", f"unix://:{PASSWORD}@{server.socket}")
        lines = examined(capsys, status=0)
    server_of = rf"journal              {kind.capitalize()} \d+\.\d+\.\d+ at {server.socket}, with 0 replicas"
    assert re.fullmatch(server_of, lines[0])
    assert re.fullmatch(r"memory               \d+\.\d MiB in use of 64\.0 MiB, policy noeviction", lines.pop(3))
    assert re.fullmatch(r"latency              N ms, N ms at most, its clock is N s (ahead|behind)", lines.pop(3))
    assert lines[1:] == [
        "cluster              relay is not there yet, and will be made",
        "persistence          appendonly yes, appendfsync always",
        "all is well",
    ]


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("kind", ENGINES)
def test_a_server_that_would_lose_the_journal_is_a_problem_and_what_it_may_lose_is_said(
    kind: Kind, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_engine(kind, "--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru") as server:
        monkeypatch.setenv("REDIS_URL", server.url)
        lines = examined(capsys, status=1)
    assert lines[2] == "persistence          appendonly no, no snapshots"
    assert [line for line in lines if line.startswith(("journal", "notice"))][1:] == [
        "journal              problem: maxmemory-policy is allkeys-lru, which removes the journal when the memory is"
        " full; set it to noeviction",
        "notice               appendonly is off: a server that is killed loses all that it has; set appendonly yes",
    ]
    assert lines[-1] == "1 problem found"


@pytest.mark.usefixtures("here")
def test_a_wrong_password_is_one_problem(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    with running_engine("redis", "--requirepass", "another") as server:
        monkeypatch.setenv("REDIS_URL", f"unix://:{PASSWORD}@{server.socket}")
        assert examined(capsys, status=1) == [
            f"journal              problem: {server.socket} does not accept the user or the password of the URL;"
            " correct them",
            "1 problem found",
        ]


@pytest.mark.usefixtures("here")
def test_a_server_that_is_not_there_is_one_problem(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    with running_engine("redis") as server:
        monkeypatch.setenv("REDIS_URL", server.url)
    [line, end] = examined(capsys, status=1)
    assert line.startswith(f"journal              problem: {server.socket} cannot be reached: ")
    assert end == "1 problem found"


@pytest.mark.usefixtures("here")
def test_an_address_that_cannot_be_one_is_one_problem(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1?socket_timeout=9")
    [line, end] = examined(capsys, status=1)
    assert line.startswith("journal              problem: url has an option behind '?' that is not known")
    assert end == "1 problem found"
