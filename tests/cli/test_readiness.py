"""`relay doctor` says what would keep `relay serve` from its work, each in a sentence, and ends with status 1."""

import os
import socket
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from relay.cli import main, readiness
from relay.journal import SqliteJournal
from tests.cli.running import relay

Capture = pytest.CaptureFixture[str]
Examine = Callable[..., tuple[int, list[str]]]

WELL = [
    "configuration        0 upstreams, 1 sink",
    "journal              in memory; a relay that ends forgets its jobs",
    "descriptors          enough for 10 streams (max_streams)",
]
SERVER = "[server]\nport = 0\nmax_streams = 10\n"
MEMORY = '[journal]\nurl = "memory:"\n'


@pytest.fixture
def examined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> Examine:
    """What `relay doctor` ends with and prints about a configuration, beside what it prints when all is well."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("RELAY_SERVER_")]:
        monkeypatch.delenv(name)

    def examine(content: str = "", *, server: str = SERVER, journal: str = MEMORY) -> tuple[int, list[str]]:
        (tmp_path / "relay.toml").write_text(server + journal + content)
        status = main(["doctor"])
        said = capsys.readouterr()
        assert said.err == ""
        lines = [line.replace(str(tmp_path), "FOLDER") for line in said.out.splitlines()]
        return status, [line for line in lines if line not in WELL]

    return examine


def found_problems(*problems: str) -> tuple[int, list[str]]:
    return 1, [*problems, f"{len(problems)} problem{'' if len(problems) == 1 else 's'} found"]


def test_all_is_well_and_nothing_is_left_behind(examined: Examine, tmp_path: Path) -> None:
    found = examined(journal='[journal]\nurl = "sqlite:relay.db"\n')
    assert found == (0, ["journal              relay.db is not there yet, and will be made", "all is well"])
    assert os.listdir(tmp_path) == ["relay.toml"]


def test_a_port_in_use(examined: Examine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert examined(server=f"[server]\nport = {port}\nmax_streams = 10\n") == found_problems(
            f"port                 problem: port {port} on 127.0.0.1 is in use; choose another with --port, or 0 for"
            " any free one"
        )


def test_an_address_that_this_machine_does_not_have(examined: Examine) -> None:
    status, lines = examined(server='[server]\nhost = "::1"\nport = 0\nmax_streams = 10\n')
    assert (status, lines) in [(0, ["all is well"]), (1, [*lines[:1], "1 problem found"])]


def test_a_journal_that_another_relay_holds_and_once_it_has_ended_none(examined: Examine, tmp_path: Path) -> None:
    journal = '[journal]\nurl = "sqlite:relay.db"\n'
    held = "relay.db is in use by another relay; stop that one before another is started, or name another file"
    with closing(SqliteJournal(tmp_path / "relay.db")):
        assert examined(journal=journal) == found_problems(f"journal              problem: {held}")
    assert examined(journal=journal) == (0, ["journal              relay.db can be read", "all is well"])


def test_a_relay_that_runs_here_holds_port_and_journal(examined: Examine, tmp_path: Path) -> None:
    (tmp_path / "relay.toml").write_text(SERVER)
    with relay("serve", folder=tmp_path) as serve:
        port = serve.says(r"serving on http://127\.0\.0\.1:(\d+)/")[1]
        status, lines = examined(
            server=f"[server]\nport = {port}\nmax_streams = 10\n", journal='[journal]\nurl = "sqlite:relay.db"\n'
        )
        serve.interrupt()
        assert serve.ends() == 0
    assert status == 1
    assert [line.split(" problem: ")[0].rstrip() for line in lines] == ["journal", "port", "2 problems found"]
    assert not any("Traceback" in line for line in serve.said)


def database_of_another_program(path: Path) -> None:
    with closing(sqlite3.connect(path)) as sql:
        sql.execute("CREATE TABLE albums (name)")


def journal_of_a_newer_version(path: Path) -> None:
    SqliteJournal(path).close()
    with closing(sqlite3.connect(path)) as sql:
        sql.execute("PRAGMA user_version = 99")


@pytest.mark.parametrize(
    ("make", "url", "beginning"),
    [
        (Path.mkdir, "relay.db", "relay.db cannot be written: Is a directory; let this user write it, or name another"),
        (Path.touch, "none/relay.db", "none/relay.db cannot be made: there is no folder FOLDER/none; make it"),
        (Path.touch, "relay.db/x.db", "relay.db/x.db cannot be made: there is no folder FOLDER/relay.db; make it"),
        (database_of_another_program, "relay.db", "relay.db is no journal, but the database of another program; name"),
        (journal_of_a_newer_version, "relay.db", "the journal relay.db is of format 99, and this version reads up to"),
        (lambda path: path.write_bytes(b"a" * 9_000), "relay.db", "relay.db is no journal: it is not even an SQLite"),
        pytest.param(
            Path.touch,
            "/proc/relay.db",
            "/proc/relay.db cannot be written: /proc takes no files (",
            marks=pytest.mark.skipif(not Path("/proc/self").exists(), reason="there is no /proc"),
        ),
    ],
)
def test_a_journal_that_cannot_be_kept(
    make: Callable[[Path], object], url: str, beginning: str, examined: Examine, tmp_path: Path
) -> None:
    make(tmp_path / "relay.db")
    status, lines = examined(journal=f'[journal]\nurl = "sqlite:{url}"\n')
    assert status == 1
    assert lines[0].startswith(f"journal              problem: {beginning}")
    assert "1 problem found" in lines


def test_a_disk_with_little_room(examined: Examine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "LITTLE_ROOM", 2**80)
    status, lines = examined(journal='[journal]\nurl = "sqlite:relay.db"\n')
    assert (status, lines[-1]) == (1, "1 problem found")
    assert lines[0].startswith("journal              problem: the disk of relay.db has ")
    assert lines[0].endswith(" MiB left; make room: while it is full, new work is refused")


def test_a_sink_that_cannot_be_imported_or_made(
    examined: Examine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sinks_of_doctor.py").write_text(
        "class Mail:\n    def __init__(self, url):\n        raise OSError(url)"
    )
    monkeypatch.setenv("HOOK", "canary-9f31")
    found = examined(
        '[[sinks]]\nkind = "sinks_of_doctor:Mail"\nurl = "env:HOOK"\n[[sinks]]\nkind = "no_such_module:Name"\n'
    )
    assert found[1].pop(0) == "configuration        0 upstreams, 2 sinks"
    assert found == found_problems(
        "sink                 problem: sink sinks_of_doctor:Mail cannot be made with url: OSError: ***",
        "sink                 problem: sink no_such_module:Name cannot be imported: ModuleNotFoundError: No module"
        " named 'no_such_module'",
    )


@pytest.mark.parametrize(
    ("public", "problem"),
    [
        ("", "upstream fal webhook needs an address to call: say public_url in [server]"),
        (
            'public_url = "http://localhost:8080/relay"\n',
            "upstreams are to call http://localhost:8080/relay, which is this machine to each of them; see public_url",
        ),
        ('public_url = "https://relay.example.org"\n', None),
    ],
)
def test_webhooks_that_no_upstream_could_call(
    public: str, problem: str | None, examined: Examine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("T", "canary-9f31-canary-9f31")
    fal = (
        '[[upstreams]]\nkind = "fal"\nbase_url = "http://127.0.0.1:9"\ntoken = "env:T"\nwebhook = { secret = "env:T" }'
    )
    _, lines = examined(fal, server=SERVER + public)
    expected = [] if problem is None else [f"webhooks             problem: {problem}"]
    assert [line for line in lines if line.startswith("webhooks")] == expected


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")
def test_a_file_that_every_user_can_read_is_a_notice_and_no_more(
    examined: Examine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    SqliteJournal(tmp_path / "relay.db").close()
    (tmp_path / "hook.txt").write_text("canary-9f31")
    (tmp_path / "own_sinks_of_doctor.py").write_text(
        "class Mail:\n    def __init__(self, url): ...\n    def __call__(self, record): ..."
    )
    sink = '[[sinks]]\nkind = "own_sinks_of_doctor:Mail"\nurl = "file:hook.txt"\n'
    for mode, readable in ((0o640, False), (0o644, True)):
        for name in ("relay.db", "hook.txt"):
            (tmp_path / name).chmod(mode)
        found = examined(sink, journal='[journal]\nurl = "sqlite:relay.db"\n')
        notices = [
            f"{name} can be read by every user of this machine; chmod o-rwx {name}" for name in ("relay.db", "hook.txt")
        ]
        assert found == (
            0,
            [
                "journal              relay.db can be read",
                *(f"notice               {notice}" for notice in notices if readable),
                "all is well",
            ],
        )


def test_the_environment_of_a_service_is_a_notice(examined: Examine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RELAY_SERVER_PORT", "tcp://10.0.0.1:8080")
    assert examined() == (
        0,
        [
            "notice               the environment variables of a service are passed over, as they are not the relay's"
            " own: RELAY_SERVER_PORT",
            "all is well",
        ],
    )
